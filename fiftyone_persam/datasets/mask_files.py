"""Reading photos' sizes and masks from files of any usual kind, and writing masks. No FiftyOne."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import DatasetLayoutError, PhotoError

BoolMask = NDArray[np.bool_]
PERSEG_FOREGROUND = (128, 0, 0)
"""Colour of the object in PerSeg's masks; the background is black."""

_ORIENTATION = 0x0112
_SWAPS_SIDES = {5, 6, 7, 8}
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Everything PIL raises on a file that is no photo, cut short, or absurdly large.
_UNREADABLE = (OSError, ValueError, SyntaxError, TypeError, Image.DecompressionBombError)


def check_photo(path: Path) -> tuple[tuple[int, int], int]:
    """Read a photo to its last byte, cheaply, to learn that it is whole.

    Returns:
        ``(height, width)`` as it is shown, and the EXIF orientation (1 to 8).

    Raises:
        PhotoError: not a photo, cut short, or unreadable.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = int(image.getexif().get(_ORIENTATION) or 1)
            image.draft("RGB", (max(1, width // 8), max(1, height // 8)))  # JPEG: 1/8 is enough
            image.load()
    except _UNREADABLE as error:
        raise PhotoError(f"cannot read photo {path}: {_one_line(error)}") from None
    if orientation in _SWAPS_SIDES:
        height, width = width, height
    return (height, width), orientation if orientation in _TRANSPOSE else 1


def read_mask(path: Path) -> BoolMask:
    """Read a mask of any usual kind: 1-bit, grey 0/1 or 0/255, palette, RGB or RGBA colours.

    A pixel's value is its brightest colour channel. Values up to 63 are taken as ids: all but 0
    are foreground. Otherwise the mask may be soft: foreground is more than half of the brightest
    value in the file. So PerSeg's (128, 0, 0) and a feathered 0..255 both come out right.

    Returns:
        (H, W) bool.

    Raises:
        DatasetLayoutError: not an image, cut short, or unreadable.
    """
    try:
        with Image.open(path) as image:
            values = _brightest_channel(image)
    except _UNREADABLE as error:
        raise DatasetLayoutError(f"cannot read mask {path}: {_one_line(error)}") from None
    peak = values.max(initial=0)
    foreground: BoolMask = np.greater(values, peak / 2 if peak >= 64 else 0)
    return foreground


def is_plain_mask(path: Path, mask: BoolMask) -> bool:
    """Whether ``path`` is what FiftyOne wants: an 8-bit grey PNG of ``mask`` as 0 and 255."""
    with Image.open(path) as image:
        if image.format != "PNG" or image.mode != "L":
            return False
        pixels = np.asarray(image)
    return pixels.shape == mask.shape and bool(np.array_equal(pixels, mask * np.uint8(255)))


def fit_mask(mask: BoolMask, photo_size: tuple[int, int], orientation: int, path: Path) -> BoolMask:
    """Make sure that a mask fits its photo as it is shown.

    A mask drawn over the stored pixels of a photo that its EXIF orientation turns by 90 degrees
    is turned the same way.

    Args:
        mask: (h, w) bool.
        photo_size: (H, W) of the photo as it is shown.
        orientation: the photo's EXIF orientation, 1 to 8.
        path: the mask's file, for the message.

    Returns:
        (H, W) bool.

    Raises:
        DatasetLayoutError: the sizes differ.
    """
    if mask.shape == photo_size:
        return mask
    if orientation in _SWAPS_SIDES and mask.shape == photo_size[::-1]:
        turned = Image.fromarray(mask).transpose(_TRANSPOSE[orientation])
        return np.asarray(turned, dtype=np.bool_)
    raise DatasetLayoutError(
        f"mask {path} is {mask.shape[1]} x {mask.shape[0]} pixels but its photo is "
        f"{photo_size[1]} x {photo_size[0]}: make both one size"
    )


def write_mask(mask: BoolMask, path: Path) -> None:
    """Write a (H, W) mask as an 8-bit grey PNG with 0 and 255, all of it or nothing."""
    _save_atomically(Image.fromarray(np.where(mask, np.uint8(255), np.uint8(0))), path)


def write_perseg_mask(mask: BoolMask, path: Path) -> None:
    """Write a (H, W) mask as PerSeg has it: RGB PNG, (128, 0, 0) on black, all or nothing."""
    pixels = np.zeros((*mask.shape, 3), np.uint8)
    pixels[mask] = PERSEG_FOREGROUND
    _save_atomically(Image.fromarray(pixels), path)


def _brightest_channel(image: Image.Image) -> NDArray[np.generic]:
    if image.mode in ("1", "L"):
        return np.asarray(image.convert("L"))
    if image.mode.startswith(("I", "F")):
        return np.nan_to_num(np.asarray(image))
    rgba = np.asarray(image.convert("RGBA"))
    values = rgba[..., :3].max(axis=2)
    return np.where(rgba[..., 3] > 127, values, 0)


def _save_atomically(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}-{uuid.uuid4().hex}.tmp")
    try:
        image.save(draft, format="PNG")
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _one_line(error: BaseException) -> str:
    # Pillow repeats the whole path in its "cannot identify" message.
    text = " ".join(str(error).split())
    return "not an image" if "cannot identify" in text else text or type(error).__name__
