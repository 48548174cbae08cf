"""Which fields the App shows before anybody has ticked one.

By FiftyOne's own rule all labels but masks of whole photos are shown. What a run withholds would be
drawn over photos in which its object counts as absent, so the dataset says which fields are shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone as fo


def hide(dataset: Any, paths: Iterable[str]) -> bool:
    """Have the App not show some fields until somebody ticks them.

    Args:
        dataset: the dataset, whose schema has the fields; it is not saved.
        paths: of the fields, those of frames included.

    Returns:
        Whether anything has changed.
    """
    hidden, config = set(paths), dataset.app_config
    active = config.active_fields
    if active is not None and active.exclude:
        new = sorted(hidden - set(active.paths))
        active.paths = [*active.paths, *new]
        return bool(new)
    if active is not None and active.paths:  # names what is shown, and none of these
        return False
    usual = _usual(dataset)
    left = [path for path in usual if path not in hidden]
    if not left or left == usual:  # to the App an empty list is none
        return False
    config.active_fields = fo.ActiveFields(paths=left)
    return True


def show(dataset: Any, paths: Iterable[str]) -> bool:
    """Add fields to those that the App shows, where a dataset has a list of these; see `hide`."""
    active = dataset.app_config.active_fields
    if active is None or active.exclude or not active.paths:
        return False
    new = [path for path in paths if path not in active.paths]
    active.paths = [*active.paths, *new]
    return bool(new)


def forget(dataset: Any) -> bool:
    """Leave it to the App again where the list says what the App would do by itself."""
    active = dataset.app_config.active_fields
    if active is None or active.exclude or sorted(active.paths) != sorted(_usual(dataset)):
        return False
    dataset.app_config.active_fields = None
    return True


def _usual(dataset: Any) -> list[str]:
    videos = getattr(dataset, "videos", dataset)
    return list(fo.DatasetAppConfig.default_active_fields(videos).paths)
