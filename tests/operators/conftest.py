from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from fiftyone_persam.engine import default_cache_dir

from .context import link_plugin


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
