"""Photos for a benchmark: files of their own, one of them labelled, as a list or as a dataset."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fiftyone_persam.datasets import build_album
from fiftyone_persam.datasets.layout import scan_album
from fiftyone_persam.datasets.mask_files import read_mask

LABELS = "ground_truth"


@dataclass(frozen=True)
class Photos:
    """Files of photos with masks; the first is the reference.

    Attributes:
        files: copies, so that no two photos are one file.
        masks: (H, W) bool of each.
    """

    files: list[Path]
    masks: list[npt.NDArray[np.bool_]]


def take_photos(album: Path | None, count: int, scratch: Path) -> Photos:
    """The first ``count`` photos of an album, again from the front where it has fewer.

    Args:
        album: a folder in PerSeg's layout; the demo's own album, built here, if None.
        count: how many.
        scratch: where the copies go.
    """
    if album is None:
        album = scratch / "album"
        if not album.is_dir():
            build_album(album)
    pairs = [(e.photo, e.mask) for e in scan_album(album, None) if e.mask is not None]
    folder = scratch / f"photos-{count}"
    folder.mkdir()
    files, masks = [], []
    for number in range(count):
        photo, mask = pairs[number % len(pairs)]
        target = folder / f"{number:05}{photo.suffix}"
        shutil.copyfile(photo, target)
        files.append(target)
        masks.append(read_mask(mask))
    return Photos(files, masks)


@contextmanager
def dataset_of(photos: Photos, labelled: int = 1) -> Iterator[Any]:
    """A dataset of photos of which the first few have their mask in `LABELS`."""
    import fiftyone as fo

    def samples() -> Iterator[fo.Sample]:
        for number, (file, mask) in enumerate(zip(photos.files, photos.masks, strict=True)):
            sample = fo.Sample(filepath=str(file))
            if number < labelled:
                sample[LABELS] = fo.Segmentation(mask=mask.astype(np.uint8) * np.uint8(255))
            yield sample

    dataset = fo.Dataset()
    dataset.add_samples(samples(), progress=False, num_samples=len(photos.files))
    try:
        yield dataset
    finally:
        dataset.delete()
