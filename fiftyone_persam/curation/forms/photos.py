"""Choosing photos: what a form says of them before anything runs."""

from __future__ import annotations

from typing import Any

from ...errors import problem_of
from ..database import photos_of
from ..fiftyone_api import is_dynamic_groups, is_patches, root_dataset
from ..segmentation.photos import check_photos


def photos_behind(view: Any) -> Any:
    """The photos that a view shows: those of its patches, or all of its dynamic groups."""
    if is_patches(view):
        return photos_of(root_dataset(view)).select(view.values("sample_id"))
    return view.flatten() if is_dynamic_groups(view) else view


def problem_with_photos(samples: Any) -> str | None:
    """What keeps photos from being segmented, in one line, or None."""
    return problem_of(check_photos, samples)
