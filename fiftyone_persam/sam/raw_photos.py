"""Photos for a device that resizes them itself: read fast by threads, resized there.

A JPEG is decoded by OpenCV, which lets other threads work meanwhile; its pixels are those of
Pillow. One much larger than the model's input is decoded at an eighth, a quarter or a half of its
size, which still is half as large again as the input. Everything else is read by `load_photo`.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from .contrast import Contrast
from .photo_files import SWAPS_SIDES, check_pixels, orientation_of, turn_array, use_image
from .photos import Photo, PhotoSource, load_photo, photo_size, resize_photo

_SCALES = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
_MARGIN = 1.5
"""A photo decoded at a fraction of its size is so many times the input at least: nearer to it, the
rougher filter of the decoder shows in the masks (IoU 0.98 at 1.25)."""
_LARGEST = 16
"""Times the input's size up to which a CUDA device's filter fits into its shared memory."""
_END = b"\xff\xd9"  # of a JPEG


@dataclass(frozen=True, eq=False)
class RawPhoto:
    """A photo that is still to be resized.

    Attributes:
        pixels: (H', W', 3) uint8 on the host, in pinned memory if it is to go to a CUDA device.
        shape: height and width inside the model's input, and 3.
        blue_first: whether the channels are blue, green, red.
    """

    pixels: Tensor
    shape: tuple[int, int, int]
    blue_first: bool = False


def resize_raw(photos: Sequence[RawPhoto], device: torch.device) -> list[Tensor]:
    """(3, h, w) float32 of whole numbers 0 to 255 on a device, antialiased, without waiting.

    Photos of one size are resized together.
    """
    groups: dict[object, list[int]] = defaultdict(list)
    for index, photo in enumerate(photos):
        groups[tuple(photo.pixels.shape), photo.shape, photo.blue_first].append(index)
    found: list[Tensor] = [torch.empty(0)] * len(photos)
    for indices in groups.values():
        first = photos[indices[0]]
        sent = [photos[index].pixels.to(device, non_blocking=True) for index in indices]
        pixels = torch.stack(sent).permute(0, 3, 1, 2).float()
        size = first.shape[:2]
        if tuple(pixels.shape[-2:]) != size:
            pixels = functional.interpolate(
                pixels, size, mode="bilinear", align_corners=False, antialias=True
            )
            pixels = pixels.round_().clamp_(0, 255)
        if first.blue_first:
            pixels = pixels.flip(1)
        for index, one in zip(indices, pixels, strict=True):
            found[index] = one
    return found


def load_raw(
    source: PhotoSource, image_size: int, contrast: Contrast | None = None, pinned: bool = False
) -> tuple[RawPhoto, tuple[int, int]]:
    """Read one photo for a device to resize.

    Args:
        source: see `load_photo`.
        image_size: long side inside the model's input.
        contrast: see `load_photo`.
        pinned: put the pixels into pinned memory, from where they are sent without waiting.

    Returns:
        The photo, and its own height and width.

    Raises:
        PhotoError: the photo cannot be read.
    """
    found = _read_jpeg(source, image_size) if isinstance(source, (str, os.PathLike)) else None
    blue_first = found is not None
    if found is None:
        photo = load_photo(source, contrast)
        found = photo, (photo.shape[0], photo.shape[1])
    photo, size = found
    if max(photo.shape) > _LARGEST * image_size:
        photo = resize_photo(photo, image_size)
    if pinned:
        pixels = torch.empty(photo.shape, dtype=torch.uint8, pin_memory=True)
        np.copyto(pixels.numpy(), photo)
    else:
        kept = photo if photo.flags.writeable and photo.flags.c_contiguous else photo.copy()
        pixels = torch.from_numpy(kept)
    return RawPhoto(pixels, (*photo_size(*size, image_size), 3), blue_first), size


def _read_jpeg(
    source: str | os.PathLike[str], image_size: int
) -> tuple[Photo, tuple[int, int]] | None:
    """A plain JPEG file at a scale that is large enough, blue first; None for any other file."""

    def read(image: Image.Image | None, file: BinaryIO) -> tuple[Photo, tuple[int, int]] | None:
        if image is None or image.format != "JPEG" or image.mode not in ("RGB", "L"):
            return None
        width, height = image.size
        check_pixels(height, width)
        turn = orientation_of(image)
        file.seek(0)
        content = file.read()
        if not content.rstrip(b"\0").endswith(_END):
            return None  # cut off: OpenCV would show the half of it
        scale = next(s for s in _SCALES if s == 1 or max(height, width) / s >= _MARGIN * image_size)
        flags = _SCALES[scale] | cv2.IMREAD_IGNORE_ORIENTATION
        pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is None or pixels.shape != (-(-height // scale), -(-width // scale), 3):
            return None
        size = (width, height) if turn in SWAPS_SIDES else (height, width)
        return turn_array(pixels, turn), size

    return use_image(Path(source).expanduser(), read)
