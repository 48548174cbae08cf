"""Reading photos' sizes and masks from files of any usual kind, and writing masks. No FiftyOne."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DatasetLayoutError, PersamError, PhotoError
from ..sam.deep_files import read_tiff, tiff_size
from ..sam.masks import fit_mask as fit_to_photo
from ..sam.masks import object_in, read_mask_file
from ..sam.photo_files import orientation_of, short, shown_size, use_image

BoolMask = NDArray[np.bool_]
PERSEG_FOREGROUND = (128, 0, 0)
"""Colour of the object in PerSeg's masks; the background is black."""


def check_photo(path: Path) -> tuple[tuple[int, int], int]:
    """Read a photo to its last byte, cheaply, to learn that it is whole.

    Returns:
        ``(height, width)`` as it is shown, and the EXIF orientation (1 to 8).

    Raises:
        PhotoError: not a photo, cut short, or unreadable.
    """

    def check(image: Image.Image | None, file: BinaryIO) -> tuple[tuple[int, int], int]:
        if image is None:
            read_tiff(file)
            return tiff_size(file), 1
        size, orientation = shown_size(image), orientation_of(image)
        width, height = image.size
        image.draft("RGB", (max(1, width // 8), max(1, height // 8)))  # JPEG: 1/8 is enough
        image.load()
        return size, orientation

    try:
        return use_image(path, check)
    except PhotoError as error:
        raise PhotoError(f"cannot read photo {path}: {_reason(error, 'photo', path)}") from None


def read_mask(path: Path) -> BoolMask:
    """Read a mask of any usual kind; see `fiftyone_persam.sam.masks.object_in` for what counts.

    Returns:
        (H, W) bool.

    Raises:
        DatasetLayoutError: not an image, cut short, or unreadable.
    """
    try:
        return object_in(read_mask_file(path), where=f"mask {path}").mask
    except PersamError as error:
        reason = _reason(error, "mask", path)
        raise DatasetLayoutError(f"cannot read mask {path}: {reason}") from None


def is_plain_mask(path: Path, mask: BoolMask) -> bool:
    """Whether ``path`` is what FiftyOne wants: an 8-bit grey PNG of ``mask`` as 0 and 255."""

    def is_plain(image: Image.Image | None, file: BinaryIO) -> bool:
        if image is None or image.format != "PNG" or image.mode != "L":
            return False
        pixels = np.asarray(image)
        return pixels.shape == mask.shape and np.array_equal(pixels, mask * np.uint8(255))

    return use_image(path, is_plain, "mask")


def fit_mask(mask: BoolMask, photo_size: tuple[int, int], orientation: int, path: Path) -> BoolMask:
    """Make sure that a mask fits its photo as it is shown.

    A mask drawn over the stored pixels of a photo that its EXIF orientation turns by 90 degrees
    is turned the same way; one that is a pixel or two off is resized with a warning.

    Args:
        mask: (h, w) bool.
        photo_size: (H, W) of the photo as it is shown.
        orientation: the photo's EXIF orientation, 1 to 8.
        path: the mask's file, for the message.

    Returns:
        (H, W) bool.

    Raises:
        DatasetLayoutError: the sizes differ by more.
    """
    try:
        return fit_to_photo(mask, photo_size, f"mask {path}", orientation)
    except PersamError as error:
        raise DatasetLayoutError(str(error)) from None


def write_mask(mask: BoolMask, path: Path) -> None:
    """Write a (H, W) mask as an 8-bit grey PNG with 0 and 255, all of it or nothing."""
    _save_atomically(Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))), path)


def write_perseg_mask(mask: BoolMask, path: Path) -> None:
    """Write a (H, W) mask as PerSeg has it: RGB PNG, (128, 0, 0) on black, all or nothing."""
    pixels = np.zeros((*mask.shape, 3), np.uint8)
    pixels[mask] = PERSEG_FOREGROUND
    _save_atomically(Image.fromarray(pixels), path)


def _save_atomically(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.tmp")
    try:
        image.save(draft, format="PNG")
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _reason(error: Exception, what: str, path: Path) -> str:
    """What a reader says of a file, without its name."""
    text = str(error).removeprefix(f"{what} {short(path)} ")
    return text.replace("is empty", "not an image but empty", 1).removeprefix("is ")
