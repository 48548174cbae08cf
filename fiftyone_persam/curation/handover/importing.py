"""A folder in PerSeg's layout becomes a dataset, or nothing is left of the attempt."""

from __future__ import annotations

import inspect
import os
import uuid
from collections.abc import Callable
from typing import Any

import fiftyone as fo
import fiftyone.core.utils as fou

from ...datasets.importers import IMPORTERS
from ...errors import PersamError
from ..checks import folder_path


def import_folder(
    folder: str | os.PathLike[str],
    name: str,
    layout: str = "perseg",
    persistent: bool = True,
    before_naming: Callable[[], Any] = lambda: None,
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """Like ``fo.Dataset.from_dir``, which leaves an empty dataset when the folder is unusable;
    this does not.

    Args:
        folder: for PerSeg, the one that holds Images and Annotations.
        name: the new dataset's.
        layout: of the folder, one of `IMPORTERS`.
        persistent: whether it outlives the session.
        before_naming: called when all photos are in, as to make the name free.
        progress: whether to show progress bars; FiftyOne's own setting if None.
        **options: of the layout's importer; see `PerSegImporter`.

    Raises:
        PersamError: the name is taken, the layout is not known, or the folder is unusable.
    """
    dataset_type = IMPORTERS[layout]
    folder = folder_path("folder", folder)
    if not isinstance(name, str) or not name.strip():
        raise PersamError(f"name {name!r} cannot name a dataset: give a text")
    try:
        slug = fou.to_slug(name)
    except ValueError:
        raise PersamError(f"name {name!r} cannot name a dataset: choose letters") from None
    known = inspect.signature(dataset_type().get_dataset_importer_cls()).parameters
    for option in options:
        if option not in known:
            names = ", ".join(n for n in known if n != "dataset_dir")
            raise PersamError(f"{option!r} is not an option of an import: its options are {names}")
    dataset = fo.Dataset(f"{name}-{uuid.uuid4().hex[:8]}")
    try:
        dataset.add_dir(
            dataset_dir=os.fspath(folder),
            dataset_type=dataset_type,
            progress=progress,
            **options,
        )
        before_naming()
        for other in fo.list_datasets():
            if other == name or fou.to_slug(other) == slug:
                raise PersamError(f"there is a dataset {other!r} already: choose another name")
        dataset.name = name
        dataset.persistent = persistent
    except BaseException:
        dataset.delete()
        raise
    return dataset


def import_perseg(
    folder: str | os.PathLike[str],
    name: str,
    persistent: bool = True,
    before_naming: Callable[[], Any] = lambda: None,
    progress: bool | None = None,
    **options: Any,
) -> Any:
    """`import_folder` of a folder in PerSeg's layout."""
    return import_folder(folder, name, "perseg", persistent, before_naming, progress, **options)
