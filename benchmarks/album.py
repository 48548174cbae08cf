"""Read an album in PerSeg's layout without FiftyOne: arrays for the benchmarks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fiftyone_persam.datasets.layout import AlbumPhoto, scan_album
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.sam import load_photo


@dataclass(frozen=True)
class Photo:
    """A photo (H, W, 3) uint8 RGB of an object and its mask (H, W) bool."""

    object: str
    name: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.bool_]


def read_album(folder: Path, objects: list[str] | None = None) -> Iterator[list[Photo]]:
    """Yield one list of photos for each object, the reference (00) first."""
    groups: dict[str, list[AlbumPhoto]] = {}
    for entry in scan_album(folder, objects):
        # The reference comes first, whatever its name.
        place = 0 if entry.role == "reference" else len(groups.get(entry.object, []))
        groups.setdefault(entry.object, []).insert(place, entry)
    for entries in groups.values():
        yield [
            Photo(e.object, e.photo.stem, load_photo(e.photo), read_mask(e.mask))
            for e in entries
            if e.mask is not None
        ]
