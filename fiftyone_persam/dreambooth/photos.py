"""Photos, masks and class images as square tensors of one size."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from ..datasets.concept_reader import read_concept
from ..errors import PersamError
from ..sam.boxes import tight_box
from ..sam.photos import load_photo

PHOTO_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class TrainingPhoto:
    """One photo to learn from.

    Attributes:
        image: (3, R, R) float in [-1, 1].
        weights: (1, R, R) float in [0, 1], 1 is the object; None without a mask.
        caption: its text.
    """

    image: Tensor
    weights: Tensor | None
    caption: str


def load_photos(folder: Path, resolution: int, masked: bool) -> list[TrainingPhoto]:
    """The photos of an exported set, as squares: the shorter side resized, the object in sight.

    Raises:
        PersamError: the folder is not a set, a file cannot be read, or ``masked`` and a photo has
            no mask or an empty one.
    """
    photos = []
    for entry in read_concept(folder):
        image, mask = entry.load()
        if masked:
            if mask is None:
                raise PersamError(
                    f"{entry.photo} has no mask: export the set again, or train without masks"
                )
            if not mask.any():
                raise PersamError(f"the mask of {entry.photo} is empty: export the set again")
        image, mask = _square(image, mask, resolution)
        weights = None
        if masked and mask is not None:
            weights = torch.from_numpy(mask.astype(np.float32) / 255)[None]
        photos.append(TrainingPhoto(_tensor(image), weights, entry.caption))
    return photos


def fingerprint(photos: Sequence[TrainingPhoto]) -> str:
    """A hash of all pixels, masks and captions."""
    digest = hashlib.sha256()
    for photo in photos:
        digest.update(photo.image.numpy().tobytes())
        if photo.weights is not None:
            digest.update(photo.weights.numpy().tobytes())
        digest.update(photo.caption.encode())
    return digest.hexdigest()


def list_class_images(folder: Path) -> list[Path]:
    """The images in a folder, by name; none if there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PHOTO_SUFFIXES and not path.name.startswith(".")
    )


def load_class_image(path: Path, resolution: int) -> Tensor:
    """(3, R, R) float in [-1, 1]: the shorter side resized, the middle of the longer one."""
    return _tensor(_square(load_photo(path), None, resolution)[0])


def _square(image: Pixels, mask: Pixels | None, side: int) -> tuple[Pixels, Pixels | None]:
    height, width = image.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    if size != (width, height):
        image = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.LANCZOS))
        if mask is not None:
            how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
            mask = np.asarray(cv2.resize(mask, size, interpolation=how), dtype=np.uint8)
    width, height = size
    around = None if mask is None else tight_box(mask)
    x0, y0, x1, y1 = around or (0, 0, width, height)
    left = min(max(0, (x0 + x1 - side) // 2), width - side)
    top = min(max(0, (y0 + y1 - side) // 2), height - side)
    window = (slice(top, top + side), slice(left, left + side))
    return image[window], None if mask is None else mask[window]


def _tensor(image: Pixels) -> Tensor:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    return (pixels.float() / 127.5 - 1).contiguous()
