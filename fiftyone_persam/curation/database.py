"""The database behind a dataset: all its photos, what other processes did, and waiting for it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, TypeVar

import fiftyone as fo
import fiftyone.core.odm as odm
from bson import DBRef
from pymongo.errors import ConnectionFailure

from ..errors import PersamError

PATIENCE = 600.0
"""Seconds to wait for a database that went away."""


T = TypeVar("T")


def photos_of(dataset: Any) -> Any:
    """All photos of a dataset: a grouped one shows only one of its slices by itself."""
    if dataset.media_type != "group":
        return dataset
    return dataset.select_group_slices(media_type="image")


def with_retries(action: Callable[[], T]) -> T:
    """Do something in the database; where that went away, wait for it to come back.

    Raises:
        PersamError: it stayed away.
    """
    deadline, pause = time.monotonic() + PATIENCE, 0.5
    while True:
        try:
            return action()
        except ConnectionFailure as error:
            if time.monotonic() > deadline:
                raise PersamError(
                    f"FiftyOne's database has been away for {PATIENCE:.0f} s: start it, then "
                    "resume the run"
                ) from error
            time.sleep(pause)
            pause = min(2 * pause, 10.0)


def root(samples: Any) -> Any:
    """The dataset behind a dataset or view.

    Raises:
        PersamError: it is neither.
    """
    if not isinstance(samples, fo.core.collections.SampleCollection):
        raise PersamError(f"{type(samples).__name__} is no FiftyOne dataset or view: give one")
    home = samples if isinstance(samples, fo.Dataset) else samples._dataset
    if home.deleted:
        raise PersamError(f"dataset {home.name!r} is deleted: load or make another one")
    return samples._root_dataset


def refresh(dataset: Any) -> None:
    """See what other processes have done to a dataset.

    A full reload makes views unusable that somebody has already looked through, so it is kept for
    when another process has changed the fields.
    """
    dataset._reload()
    if any(isinstance(document, DBRef) for document in dataset._doc.runs.values()):
        # A process was killed while it deleted a run: the dataset still names it.
        odm.patch_runs(dataset.name)
        dataset._reload()
    stored = {field.name for field in dataset._doc.sample_fields}
    if {name for name in stored if not name.startswith("_")} != set(dataset.get_field_schema()):
        dataset.reload()
