"""A folder in PerSeg's layout becomes a dataset, or nothing is left of the attempt."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from typing import Any

import fiftyone as fo

from ..datasets import PerSegDataset
from ..errors import PersamError


def import_perseg(
    folder: str | os.PathLike[str],
    name: str,
    persistent: bool = True,
    before_naming: Callable[[], Any] = lambda: None,
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Like ``fo.Dataset.from_dir(dataset_type=PerSegDataset)``, which leaves an empty dataset when
    the folder is unusable; this does not.

    Args:
        folder: the one that holds Images and Annotations.
        name: the new dataset's.
        persistent: whether it outlives the session.
        before_naming: called when all photos are in, as to make the name free.
        progress: whether to show progress bars; FiftyOne's own setting if None.
        **options: see `PerSegImporter`.

    Raises:
        PersamError: the name is taken, or the folder is unusable.
    """
    if not isinstance(name, str) or not name.strip():
        raise PersamError(f"name {name!r} cannot name a dataset: give a text")
    dataset = fo.Dataset(f"{name}-{uuid.uuid4().hex[:8]}")
    try:
        dataset.add_dir(
            dataset_dir=os.fspath(folder),
            dataset_type=PerSegDataset,
            progress=progress,
            **options,
        )
        before_naming()
        if fo.dataset_exists(name):
            raise PersamError(f"there is a dataset {name!r} already: choose another name")
        dataset.name = name
        dataset.persistent = persistent
    except BaseException:
        dataset.delete()
        raise
    return dataset
