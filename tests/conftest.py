"""What every test stands on: a private FiftyOne home, real datasets, the demo album."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks import mongod

from .small_disks import mounted

# FiftyOne reads its settings while it is imported, so they are set before any test module is.
# A person's own database, plugins and models are never touched.
_HOME = Path(tempfile.mkdtemp(prefix="fiftyone-persam-tests-"))
_OWNER = os.getpid()
os.environ.update(
    FIFTYONE_DATABASE_DIR=str(_HOME / "database"),
    FIFTYONE_CONFIG_PATH=str(_HOME / "config.json"),
    FIFTYONE_APP_CONFIG_PATH=str(_HOME / "app_config.json"),
    FIFTYONE_PLUGINS_DIR=str(_HOME / "plugins"),
    FIFTYONE_MODEL_ZOO_DIR=str(_HOME / "models"),
    FIFTYONE_DATASET_ZOO_DIR=str(_HOME / "zoo_datasets"),
    FIFTYONE_DEFAULT_DATASET_DIR=str(_HOME / "datasets"),
    FIFTYONE_DATABASE_VALIDATION="false",
    FIFTYONE_DO_NOT_TRACK="1",
    FIFTYONE_SHOW_PROGRESS_BARS="false",
    FIFTYONE_ALLOW_LEGACY_ORCHESTRATORS="true",
)
os.environ.pop("FIFTYONE_DATABASE_URI", None)
# Idle torch threads sleep instead of spinning: on busy cores that is up to ten times faster.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
for _name in ("database", "plugins", "models"):
    (_HOME / _name).mkdir()

if TYPE_CHECKING:
    import fiftyone as fo


@atexit.register
def _remove_home() -> None:
    if os.getpid() == _OWNER:  # not in forked workers
        shutil.rmtree(_HOME, ignore_errors=True)


# After that: what is registered last runs first, and the database ends before its folder goes.
os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)
if (_port := mongod.start(_HOME / "database")) is not None:
    os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(_port)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave tests out of the coverage that it would slow down and that add little to it.

    Tracing takes half as long again where the time goes into FiftyOne. Of each table its first case
    is traced; tests of the App, of bad calls and slow ones are not.
    """
    if not config.pluginmanager.hasplugin("pytest_cov"):
        return
    traced: set[str] = set()
    for item in items:
        test = item.nodeid.partition("[")[0]
        marks = {mark.name for mark in item.iter_markers()}
        if test in traced or marks & {"app", "slow"} or "bad_calls" in item.path.parts:
            item.add_marker(pytest.mark.no_cover)
        traced.add(test)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The development data beside the checkout; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the development data in ../shared, which is not beside this checkout")
    return folder


@pytest.fixture
def dataset() -> Iterator[Callable[..., fo.Dataset]]:
    """Make datasets that are deleted after the test: ``dataset(samples=(), **kwargs)``.

    A test may also hand over a dataset that it made otherwise: ``dataset(existing)``.
    """
    import fiftyone as fo

    made: list[fo.Dataset] = []

    def make(samples: Any = (), **kwargs: Any) -> fo.Dataset:
        new = samples if isinstance(samples, fo.Dataset) else fo.Dataset(**kwargs)
        made.append(new)
        if new is not samples:
            new.add_samples(list(samples))
        return new

    yield make
    for item in made:
        if not item.deleted:
            item.delete()


@pytest.fixture(scope="session")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo album's first photos of two objects, in PerSeg's layout. Do not write to it."""
    from fiftyone_persam.datasets import build_album

    folder = tmp_path_factory.mktemp("album")
    return build_album(folder / "album", objects=("cat", "cup"), photos=3)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 KiB; skips where none can be mounted."""
    with mounted(tmp_path, "64k") as folder:
        yield folder
