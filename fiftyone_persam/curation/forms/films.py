"""Choosing a labelled frame: which videos have one, and which objects it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from ..fiftyone_api import root_dataset
from ..frame_store import FrameStore, home
from ..labels.objects import objects_in
from ..labels.shapes import INSTANCES
from ..labels.video_frames import LabelledFrame
from .references import label_fields

LISTED = 500
"""Labelled frames that a form lets choose from."""


def has_videos(samples: Any) -> bool:
    """Whether a dataset is one of videos."""
    return bool(root_dataset(samples).media_type == fo.core.media.VIDEO)


@dataclass(frozen=True)
class Labelled:
    """The labelled frames of a dataset of videos.

    Attributes:
        fields: frame fields whose labels can be a reference.
        frames: sample id -> frame numbers, of one of the fields.
    """

    fields: list[str]
    frames: dict[str, list[int]]


def labelled(videos: Any, field: str | None = None) -> Labelled:
    """Where the labels of a dataset of videos are.

    Args:
        videos: the dataset.
        field: the frame field; the first one that has labels if None.
    """
    store = home(videos)
    fields = label_fields(store)
    for name in [field] if field in fields else fields:
        if frames := _frames(store, str(name)):
            return Labelled([str(name), *(f for f in fields if f != name)], frames)
    return Labelled(fields, {})


def _frames(store: FrameStore, field: str) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    lists = [f"{field}.{name}._id" for name in INSTANCES.values()]  # of these, masks are not read
    names = ["sample_id", "frame_number", f"{field}._cls", *lists]
    several = {kind.__name__ for kind in INSTANCES}
    for sample_id, number, kind, *ids in zip(*store.exists(field).values(names), strict=True):
        if kind not in several or any(ids):
            found.setdefault(sample_id, []).append(number)
    return found


def frame_of(videos: Any, sample_id: str, number: int) -> LabelledFrame:
    """A frame, by the names that a labelled photo has; see `LabelledFrame`."""
    return LabelledFrame(home(videos)[sample_id], number)


def objects_of(frame: LabelledFrame, field: str) -> dict[str, list[Any]]:
    """One object for each label of a frame; see `objects_in`."""
    return objects_in((frame.dataset[frame.id], frame.number), field)


def amount(samples: Any) -> tuple[int, int]:
    """How many frames a view of videos or of frames has as far as is known, and how many videos."""
    if not has_videos(samples):
        raise ValueError("these are no videos")
    try:
        counts = samples.values("metadata.total_frame_count")
    except ValueError:  # frames have no such field
        return len(samples), len(set(samples.values("sample_id")))
    return sum(count or 0 for count in counts), len(samples)
