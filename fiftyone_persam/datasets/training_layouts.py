"""The layouts of training sets, by name; each is imported when it is asked for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from ..registry import Registry

if TYPE_CHECKING:
    from .concept_photo import ConceptPhoto, PhotoOptions

_HERE = __name__.rpartition(".")[0]


class Layout(ABC):
    """Where photos, masks and captions go, as paths inside the set's folder."""

    name: ClassVar[str]
    help: ClassVar[str]

    @abstractmethod
    def write_photo(
        self, folder: Path, name: str, photo: ConceptPhoto, caption: str
    ) -> dict[str, str]:
        """Write one photo's files.

        Returns:
            its ``file_name``, and ``mask_file_name`` unless the mask is the photo's alpha channel.
        """

    def write_index(  # noqa: B027
        self, folder: Path, final: Path, name: str, options: PhotoOptions
    ) -> None:
        """Write the file that the trainer is pointed at; not every trainer has one.

        Args:
            folder: where the set is written.
            final: where it will be: trainers want absolute paths.
            name: what the concept is called.
            options: how the photos were made ready.
        """


TRAINING_LAYOUTS: Registry[Layout] = Registry(
    "training layout",
    {
        "diffusers": f"{_HERE}.concept_layouts:DIFFUSERS",
        "kohya": f"{_HERE}.concept_layouts:KOHYA",
        "onetrainer": f"{_HERE}.concept_layouts:ONETRAINER",
        "rgba": f"{_HERE}.concept_layouts:RGBA",
    },
    required=("name", "help", "write_photo", "write_index"),
)
"""The order is that of the App's form."""
