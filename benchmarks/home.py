"""A FiftyOne of the benchmarks' own: never the user's database, datasets or models."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from . import mongod


@contextmanager
def private_fiftyone() -> Iterator[Path]:
    """Give FiftyOne a database and folders that are removed in the end; yields a scratch folder.

    Has to be entered before FiftyOne is imported. Where it is imported already, as in the tests,
    its settings stay as they are.
    """
    with tempfile.TemporaryDirectory(
        prefix="fiftyone-persam-bench-", ignore_cleanup_errors=True
    ) as name:
        scratch = Path(name)
        if "fiftyone" not in sys.modules:
            _set_up(scratch / "fiftyone")
        yield scratch


def _set_up(home: Path) -> None:
    for folder in ("database", "plugins", "models"):
        (home / folder).mkdir(parents=True)
    os.environ.update(
        FIFTYONE_DATABASE_DIR=str(home / "database"),
        FIFTYONE_CONFIG_PATH=str(home / "config.json"),
        FIFTYONE_APP_CONFIG_PATH=str(home / "app_config.json"),
        FIFTYONE_PLUGINS_DIR=str(home / "plugins"),
        FIFTYONE_MODEL_ZOO_DIR=str(home / "models"),
        FIFTYONE_DATASET_ZOO_DIR=str(home / "zoo_datasets"),
        FIFTYONE_DEFAULT_DATASET_DIR=str(home / "datasets"),
        FIFTYONE_DATABASE_VALIDATION="false",
        FIFTYONE_DO_NOT_TRACK="1",
        FIFTYONE_SHOW_PROGRESS_BARS="false",
    )
    os.environ.pop("FIFTYONE_DATABASE_URI", None)
    os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)
    port = mongod.start(home / "database")
    if port is not None:
        os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(port)
