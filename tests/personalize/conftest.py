"""A quick seeded SAM, and photos of several shapes."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from skimage import data

from benchmarks.seeded import small_sam
from fiftyone_persam.personalize import Reference
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam

Array = npt.NDArray[Any]


@pytest.fixture(scope="session")
def sam() -> PromptableSam:
    """Seeded weights, grid 12 x 12: masks mean nothing, every number can be checked."""
    return load_sam(small_sam(192), dtype="float32")


@pytest.fixture(scope="session")
def photos() -> list[Array]:
    """Wide, tall, wide and square."""
    cat, coffee = data.chelsea()[:, :, :3], data.coffee()
    return [
        cat,
        np.ascontiguousarray(cat[:, 80:260]),
        np.ascontiguousarray(coffee[::2, ::2]),
        np.ascontiguousarray(data.astronaut()[::2, ::2, :3]),
    ]


@pytest.fixture(scope="session")
def mask(photos: list[Array]) -> Array:
    """(H, W) bool, the cat's face."""
    mask = np.zeros(photos[0].shape[:2], bool)
    mask[40:240, 120:330] = True
    return mask


@pytest.fixture(scope="session")
def reference(photos: list[Array], mask: Array) -> Reference:
    return Reference(photos[0], mask=mask)


@pytest.fixture(scope="session")
def embeddings(sam: PromptableSam, photos: list[Array]) -> list[ImageEmbedding]:
    return sam.encode(photos)
