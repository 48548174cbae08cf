"""The formats of an export: each is one writer, registered under its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from ...datasets.staging import Stage
from ...errors import PersamError
from .chosen import Chosen


@dataclass
class Export:
    """What a writer gets, and what it tells.

    Attributes:
        chosen: the photos.
        stage: where to write: ``stage.path`` is empty, and becomes the exported folder.
        group_by: field that names each photo's object, or None.
        left_out: why photos were left out, to be added to.
        count: how many photos were written, to be counted.
    """

    chosen: Chosen
    stage: Stage
    group_by: str | None = None
    left_out: list[str] = field(default_factory=list)
    count: int = 0

    def check_count(self) -> None:
        """Raise PersamError if no photo was written."""
        if not self.count:
            raise PersamError(f"no photo can be exported, the first: {self.left_out[0]}")


Writer = Callable[[Export], None]

FORMATS: dict[str, str] = {}
"""What each format is, by name."""
_WRITERS: dict[str, Writer] = {}


def register_format(name: str, description: str, writer: Writer) -> None:
    """Make a format known to `export_masks`, the command line and the App's form."""
    FORMATS[name] = description
    _WRITERS[name] = writer


def writer_of(name: str) -> Writer:
    """The writer of a format that is in `FORMATS`."""
    return _WRITERS[name]
