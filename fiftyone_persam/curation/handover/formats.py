"""The formats of an export: each is one writer, registered under its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ...errors import PersamError
from ...registry import Registry

if TYPE_CHECKING:
    from ...datasets.staging import Stage
    from .chosen import Chosen

_HERE = __name__.rpartition(".")[0]


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


@dataclass(frozen=True)
class ExportFormat:
    """One format.

    Attributes:
        name: what to pass as ``format``.
        help: one line.
        write: writes the photos and masks of an `Export`.
    """

    name: str
    help: str
    write: Callable[[Export], None]


EXPORTERS: Registry[ExportFormat] = Registry(
    "export format",
    {
        "perseg": f"{_HERE}.perseg:PERSEG",
        "coco": f"{_HERE}.folders:COCO",
        "masks": f"{_HERE}.folders:MASKS_ONLY",
        "fiftyone": f"{_HERE}.whole:WHOLE",
    },
    group="fiftyone_persam.exporters",
    required=("name", "help", "write"),
)
"""The formats by name; the order is that of the App's form."""
