"""Small albums in PerSeg's layout, written with Pillow alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

HEIGHT, WIDTH = 90, 120


def disk(number: int) -> NDArray[np.bool_]:
    """(90, 120) bool disk, at another place for every photo."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return np.asarray((y - 40 - number) ** 2 + (x - 50 - 3 * number) ** 2 < 20**2)


def photo_array(number: int) -> NDArray[np.uint8]:
    """(90, 120, 3) noise in which the disk is red."""
    rng = np.random.default_rng(number)
    pixels = rng.integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    pixels[disk(number)] = (200, 20, 20)
    return pixels


def save_photo(path: Path, pixels: NDArray[np.uint8], **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def save_mask(path: Path, mask: NDArray[np.bool_], value: int | None = None) -> None:
    """As PerSeg has it, or grey with ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if value is not None:
        Image.fromarray(mask.astype(np.uint8) * np.uint8(value)).save(path)
        return
    pixels = np.zeros((*mask.shape, 3), np.uint8)
    pixels[mask] = (128, 0, 0)
    Image.fromarray(pixels).save(path)


def make_album(root: Path, photos: dict[str, int], shift: int = 0) -> Path:
    """So many photos of each object, named as PerSeg names them."""
    for name, count in photos.items():
        for number in range(count):
            save_photo(root / f"Images/{name}/{number:02d}.jpg", photo_array(number + shift))
            save_mask(root / f"Annotations/{name}/{number:02d}.png", disk(number + shift))
    return root
