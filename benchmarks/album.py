"""Read an album in PerSeg's layout without FiftyOne: arrays for the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fiftyone_persam.errors import DatasetLayoutError


@dataclass(frozen=True)
class Photo:
    """A photo (H, W, 3) uint8 RGB of an object and its mask (H, W) bool."""

    object: str
    name: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


def read_album(folder: Path, objects: list[str] | None = None) -> Iterator[list[Photo]]:
    """Yield one list of photos for each object, the reference (00) first."""
    images = folder / "Images"
    if not images.is_dir():
        raise DatasetLayoutError(f"{folder} has no folder Images: give an album in PerSeg's layout")
    for path in sorted(images.iterdir()):
        if path.is_dir() and (objects is None or path.name in objects):
            yield [
                Photo(
                    path.name,
                    photo.stem,
                    np.asarray(Image.open(photo).convert("RGB")),
                    np.asarray(
                        Image.open(
                            folder / "Annotations" / path.name / f"{photo.stem}.png"
                        ).convert("RGB")
                    ).max(2)
                    > 0,
                )
                for photo in sorted(path.glob("*.jpg"))
            ]
