"""Reading a masked training set back, in whichever layout it was written. No FiftyOne."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DatasetLayoutError
from ..sam.photo_files import use_image
from .concept_layouts import METADATA


@dataclass(frozen=True)
class ConceptFile:
    """One photo of a set.

    Attributes:
        photo: the photo's file.
        mask: the mask's file; None if the mask is the photo's alpha channel, or there is none.
        caption: its text.
    """

    photo: Path
    mask: Path | None
    caption: str

    def load(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """(h, w, 3) uint8 RGB, and the (h, w) uint8 weights, or None if there is no mask.

        Raises:
            PhotoError: a file is missing or is not an image.
            DatasetLayoutError: the sizes differ.
        """
        pixels = _read(self.photo, "RGBA")
        weights = pixels[..., 3] if self.mask is None else _read(self.mask, "L")
        if weights.shape != pixels.shape[:2]:
            raise DatasetLayoutError(
                f"mask {self.mask} is {weights.shape[1]} x {weights.shape[0]} pixels but its photo "
                f"is {pixels.shape[1]} x {pixels.shape[0]}: export the set again"
            )
        nothing_masked = self.mask is None and bool((weights == 255).all())
        return np.ascontiguousarray(pixels[..., :3]), None if nothing_masked else weights


def read_concept(folder: Path) -> list[ConceptFile]:
    """The photos of a set, in the order in which they were written.

    Args:
        folder: what ``export_dreambooth`` has written, in any layout.

    Raises:
        DatasetLayoutError: not such a folder, a damaged ``metadata.jsonl``, or one that names
            files outside the folder.
    """
    try:
        text = (folder / METADATA).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DatasetLayoutError(
            f"{folder / METADATA} cannot be read ({reason}): give a folder that "
            "export_dreambooth has written"
        ) from None
    found = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            photo, caption = record["file_name"], record["text"]
            mask = record.get("mask_file_name")
            names = [photo, caption, *([] if mask is None else [mask])]
            if not all(isinstance(name, str) for name in names):
                raise TypeError
        except (ValueError, KeyError, TypeError, AttributeError):
            raise DatasetLayoutError(
                f"{folder / METADATA}, line {number}: not a photo's file_name and text"
            ) from None
        mask_file = None if mask is None else _inside(folder, mask)
        found.append(ConceptFile(_inside(folder, photo), mask_file, caption))
    if not found:
        raise DatasetLayoutError(f"{folder / METADATA} names no photo: export the set again")
    return found


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if "\0" in name or not path.resolve().is_relative_to(folder.resolve()):
        raise DatasetLayoutError(f"{folder / METADATA} names {name!r}, which is outside {folder}")
    return path


def _read(path: Path, mode: str) -> NDArray[np.uint8]:
    return use_image(path, lambda image, file: np.asarray(_known(image).convert(mode)))


def _known(image: Image.Image | None) -> Image.Image:
    if image is None:
        raise ValueError("it has values of a kind that Pillow does not know")
    return image
