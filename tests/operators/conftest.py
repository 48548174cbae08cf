from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.engine import default_cache_dir

from ..encoded_once import encoded_once
from .context import link_plugin


@pytest.fixture(scope="package", autouse=True)
def each_picture_is_encoded_once() -> Iterator[None]:
    with encoded_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def plugin() -> None:
    """This checkout, as an installed plugin."""
    link_plugin()


@pytest.fixture(autouse=True)
def nothing_cached() -> Iterator[None]:
    """No test starts with embeddings kept: the forms keep more where the folder is there."""
    shutil.rmtree(default_cache_dir(), ignore_errors=True)
    yield
    shutil.rmtree(default_cache_dir(), ignore_errors=True)


@pytest.fixture
def photos(dataset, album: Path) -> fo.Dataset:
    """Three photos of a cat; nothing says of itself that it is a reference."""
    cats = fo.Dataset.from_dir(
        dataset_dir=str(album), dataset_type=fp.PerSegDataset, objects=["cat"]
    )
    cats.set_values("role", ["target"] * len(cats))
    return dataset(cats)
