"""The photos of a call, and the frames: checked, and as the tasks of a run, in order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo

from ...engine.job import PhotoTask
from ...errors import PersamError
from .. import database, fiftyone_api
from ..checks import check_group_by
from ..database import photos_of
from ..frame_store import FrameStore
from ..runs.record import Parameters
from . import sequences
from .sequences import NewFrames

FRAME_STAGES = (fo.SelectFrames, fo.ExcludeFrames, fo.MatchFrames)
"""What leaves frames out of videos."""


def check_photos(samples: Any) -> Any:
    """The photos of a dataset or view, one by one and with all fields.

    Raises:
        PersamError: there are none, or these are not photos.
    """
    dataset = database.root(samples)
    if isinstance(dataset, FrameStore):
        return _check_videos(samples)
    if samples.media_type == "group" and not database.is_grouped_by_field(samples):
        raise PersamError(
            f"dataset {dataset.name!r} is grouped: choose its photos with "
            "select_group_slices(media_type='image')"
        )
    if samples.media_type == fo.core.media.VIDEO:
        raise PersamError(
            f"dataset {dataset.name!r} is grouped, and its videos cannot be segmented there: make "
            "a dataset of them with select_group_slices(media_type='video').clone()"
        )
    photos = photos_of(samples)
    if not database.count(photos):
        raise PersamError("there is no photo to segment: the dataset or view is empty")
    if photos.media_type != "image":
        raise PersamError(
            f"these samples of dataset {dataset.name!r} hold media of type {photos.media_type!r}, "
            "and photos or videos are segmented: give a view of those, one kind at a time"
        )
    return photos


def _check_videos(samples: Any) -> Any:
    """Videos, a view of frames, or a `FrameStore` where only some frames of videos are meant."""
    whole = isinstance(samples, (FrameStore, fo.Dataset))
    if not whole and not fiftyone_api.is_clips(samples):
        database.check_shows_photos(samples)
        if any(isinstance(one, FRAME_STAGES) for one in fiftyone_api.stages_of(samples)):
            samples = photos_of(samples)
        elif not fiftyone_api.is_frames(samples):
            samples = database.with_all_fields(samples)
    if not len(samples):
        what = "video" if isinstance(samples, fo.Dataset) else "frame"
        raise PersamError(f"there is no {what} to segment: the dataset or view is empty")
    return samples


def choose_tasks(
    samples: Any, parameters: Parameters
) -> tuple[list[PhotoTask], NewFrames | None, Parameters]:
    """Every photo or frame of what `check_photos` gave, object by object, sequences in order.

    Returns:
        The tasks, what the dataset does not know of its videos yet, and the parameters with what
        a run needs to know to find its frames again.
    """
    group_by, asked = parameters.group_by, parameters
    fields = (asked.sequence_field, asked.order_field)
    if not isinstance(database.home(samples), FrameStore):
        tasks = sequences.in_sequences(choose_photos(samples, group_by), samples, *fields)
        return tasks, None, parameters
    if fields != (None, None):
        raise PersamError(
            "frames of videos are in sequences already: leave out sequence_field and order_field"
        )
    if isinstance(samples, FrameStore):
        return sequences.recorded_tasks(samples, group_by, asked.frame_files), None, parameters
    if fiftyone_api.is_clips(samples):
        tasks, new = sequences.clip_tasks(samples, group_by)
        return tasks, new, parameters
    if fiftyone_api.is_frames(samples):
        tasks, new = sequences.view_tasks(samples, group_by)
        in_files = any(task.frame is None for task in tasks)
        return tasks, new, replace(parameters, frame_files=in_files)
    tasks, new = sequences.video_tasks(samples, group_by)
    return tasks, new, parameters


def choose_photos(samples: Any, group_by: str | None) -> list[PhotoTask]:
    """Every photo of ``samples``, object by object."""
    if group_by is None:
        ids, paths = samples.values(["id", "filepath"])
        return [PhotoTask(i, path) for i, path in zip(ids, paths, strict=True)]
    check_group_by(samples, group_by)
    ids, paths, groups = samples.values(["id", "filepath", group_by])
    unnamed = [path for path, group in zip(paths, groups, strict=True) if group is None]
    if unnamed:
        raise PersamError(
            f"{len(unnamed)} photos have no value in {group_by!r}: set it, beginning with "
            f"{Path(unnamed[0]).name}, or leave them out"
        )
    rows = zip(ids, paths, groups, strict=True)
    return sorted((PhotoTask(i, p, str(g)) for i, p, g in rows), key=lambda task: task.group)
