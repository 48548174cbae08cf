"""A masked training set of one real photo."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from skimage import data

from fiftyone_persam.datasets.concept_layouts import ConceptWriter
from fiftyone_persam.datasets.concept_photo import PhotoOptions, prepare_photo

SIDE = 32
CAPTION = "a photo of sks cat"


def write_cat(folder: Path, layout: str = "diffusers", photos: int = 2, **options: object) -> Path:
    """Write the photo of a cat, some times over with other crops, in a layout."""
    folder.mkdir(parents=True)
    photo = data.chelsea()
    rows, columns = np.mgrid[: photo.shape[0], : photo.shape[1]]
    face = ((columns - 225) / 100) ** 2 + ((rows - 140) / 90) ** 2 <= 1
    given = {"crop": "square", "padding": 0.4, "resolution": SIDE, **options}
    chosen = PhotoOptions(**given)  # type: ignore[arg-type]
    writer = ConceptWriter(folder, layout, chosen, folder)
    for number in range(photos):
        prepared = prepare_photo(photo[:, 10 * number :], face[:, 10 * number :], chosen)
        writer.add("chelsea.png", prepared, CAPTION, {"sample_id": str(number)})
    writer.finish("cat", {})
    return folder


def say_nothing(line: str) -> None:
    """For tests that look at files."""
