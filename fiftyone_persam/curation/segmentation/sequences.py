"""Which frames a call is about: of videos, of a view of frames, or of photos in sequences."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import fiftyone as fo
import numpy as np
from bson import ObjectId
from pymongo import UpdateOne

from ...engine.job import PhotoTask
from ...errors import PersamError, PhotoError
from ...sam.frames import VideoInfo, video_info
from .. import fiftyone_api
from ..checks import check_field_known
from ..database import with_retries
from ..frame_store import FrameStore, home
from ..labels.references import AnyReference, PhraseReference, SampleReference

if TYPE_CHECKING:
    from ...sam import Promptable

logger = logging.getLogger(__name__)

CHUNK = 10_000


@dataclass
class NewFrames:
    """What FiftyOne does not know of videos yet: frames that have no document, and metadata.

    Attributes:
        frames: frame id -> (sample id, frame number).
        metadata: by sample id.
    """

    frames: dict[str, tuple[str, int]] = field(default_factory=dict)
    metadata: dict[str, VideoInfo] = field(default_factory=dict)

    def write(self, store: FrameStore) -> None:
        """Add them to the dataset; those that are there by now stay."""
        now = datetime.now(timezone.utc)
        common = {
            "_dataset_id": fiftyone_api.dataset_id(store),
            "created_at": now,
            "last_modified_at": now,
        }
        operations = [
            UpdateOne(
                {"_sample_id": ObjectId(sample_id), "frame_number": number},
                {"$setOnInsert": {"_id": ObjectId(frame_id), **common}},
                upsert=True,
            )
            for frame_id, (sample_id, number) in self.frames.items()
        ]
        for start in range(0, len(operations), CHUNK):
            part = operations[start : start + CHUNK]
            with_retries(fiftyone_api.bulk_write_frames, store.videos, part, ())
        values = {i: _metadata(info) for i, info in self.metadata.items()}
        if values:
            store.videos.set_values("metadata", values, key_field="id")


def _metadata(info: VideoInfo) -> fo.VideoMetadata:
    return fo.VideoMetadata(
        size_bytes=info.size_bytes,
        mime_type=info.mime_type,
        frame_width=info.width,
        frame_height=info.height,
        frame_rate=info.rate,
        total_frame_count=info.frames,
        duration=info.duration,
        encoding_str=info.encoding,
    )


def clip_tasks(clips: Any, group_by: str | None) -> tuple[list[PhotoTask], NewFrames]:
    """The frames of a view of clips; each once, whatever clips it is in."""
    wanted: dict[str, set[int]] = {}
    for sample_id, (first, last) in zip(*clips.values(["sample_id", "support"]), strict=True):
        wanted.setdefault(sample_id, set()).update(range(first, last + 1))
    return video_tasks(home(clips).videos.select(list(wanted)), group_by, wanted)


def video_tasks(
    videos: Any, group_by: str | None, only: Mapping[str, Collection[int]] | None = None
) -> tuple[list[PhotoTask], NewFrames]:
    """Every frame of the videos of a dataset or view.

    How many a video has says its metadata, or else the file. One that cannot be read, and of which
    nobody knows a frame, counts as one frame: that one gets the reason.

    Args:
        videos: the dataset or view.
        group_by: see `segment`.
        only: by sample id, the frames that are meant; all if None.

    Raises:
        PersamError: none of the videos can be read.
    """
    videos = _flat(videos)
    ids, paths = videos.values(["id", "filepath"])
    counts = videos.values("metadata.total_frame_count")
    known = _documents(home(videos), ids)
    groups = _groups(videos, group_by, ids)
    new, tasks, faults = NewFrames(), list[PhotoTask](), list[str]()
    for sample_id, path, count in zip(ids, paths, counts, strict=True):
        numbers = known.get(sample_id, {})
        if not count:
            try:
                info = video_info(path)
                count, new.metadata[sample_id] = info.frames, info
            except PhotoError as error:
                faults.append(str(error))
        wanted = sorted({*range(1, (count or 0) + 1), *numbers}) or [1]
        if only is not None:
            wanted = [number for number in wanted if number in only[sample_id]]
        for number in wanted:
            frame_id = numbers.get(number)
            if frame_id is None:
                frame_id = str(ObjectId())
                new.frames[frame_id] = (sample_id, number)
            group = groups.get(sample_id, "")
            tasks.append(PhotoTask(frame_id, path, group, number, sample_id, number))
    if faults and len(faults) == len(ids):
        raise PersamError(faults[0])
    for fault in faults:
        logger.warning("%s", fault)
    return sorted(tasks, key=lambda task: task.group), new


def view_tasks(view: Any, group_by: str | None) -> tuple[list[PhotoTask], NewFrames]:
    """The frames of a view of frames, as `to_frames` makes it: of the video, or sampled to files.

    Raises:
        PersamError: the view is empty.
    """
    store = home(view)
    columns = view.values(["id", "sample_id", "frame_number", "filepath"])
    rows = list(zip(*columns, strict=True))
    ids = list(dict.fromkeys(sample_id for _, sample_id, _, _ in rows))
    chosen = store.videos.select(ids)
    files = dict(zip(*chosen.values(["id", "filepath"]), strict=True))
    known, groups = _documents(store, ids), _groups(chosen, group_by, ids)
    new, tasks = NewFrames(), list[PhotoTask]()
    for frame_id, sample_id, number, path in rows:
        there = known.get(sample_id, {}).get(number)
        if there is None:
            new.frames[frame_id] = (sample_id, number)
        frame = number if path == files[sample_id] else None
        group = groups.get(sample_id, "")
        tasks.append(PhotoTask(there or frame_id, path, group, frame, sample_id, number))
    for sample_id in ids:
        if store.videos[sample_id].metadata is None and os.path.isfile(files[sample_id]):
            try:
                new.metadata[sample_id] = video_info(files[sample_id])
            except PhotoError as error:
                logger.warning("%s", error)
    return sorted(tasks, key=lambda task: task.group), new


def recorded_tasks(store: FrameStore, group_by: str | None, frame_files: bool) -> list[PhotoTask]:
    """The frames that a run was for.

    Args:
        store: the frames.
        group_by: see `segment`.
        frame_files: whether the run has read the files into which frames were sampled.
    """
    columns = store.values(["id", "sample_id", "frame_number"])
    own = dict(zip(*store.stored(["id", "filepath"]), strict=True)) if frame_files else {}
    ids = list(dict.fromkeys(columns[1]))
    videos = store.videos.select(ids)
    files = dict(zip(*videos.values(["id", "filepath"]), strict=True))
    groups = _groups(videos, group_by, ids)
    tasks = []
    for frame_id, sample_id, number in zip(*columns, strict=True):
        path = own.get(frame_id)
        frame = number if path is None else None
        group = groups.get(sample_id, "")
        task = PhotoTask(frame_id, path or files[sample_id], group, frame, sample_id, number)
        tasks.append(task)
    return sorted(tasks, key=lambda task: task.group)


def in_sequences(
    tasks: Sequence[PhotoTask], photos: Any, sequence_field: str | None, order_field: str | None
) -> list[PhotoTask]:
    """Photos as frames of sequences, by two of their fields.

    Args:
        tasks: of the photos.
        photos: their dataset or view.
        sequence_field: what a photo is a frame of; None where they are no frames.
        order_field: a number or text by which the frames of a sequence are sorted; the files'
            names if None.

    Raises:
        PersamError: there is no such field, or a photo has no value there, or two the same.
    """
    if sequence_field is None:
        if order_field is not None:
            raise PersamError(
                f"order_field {order_field!r} sorts the frames of a sequence: give sequence_field "
                "too"
            )
        return list(tasks)
    for argument, name in (("sequence_field", sequence_field), ("order_field", order_field)):
        if name is not None:
            check_field_known(photos, argument, name)
    names = ["id", sequence_field, order_field or "filepath"]
    rows = {i: (of, at) for i, of, at in zip(*photos.values(names), strict=True)}
    for task in tasks:
        for name, value in zip(names[1:], rows[task.id], strict=True):
            if value is None or value == "" or value != value:  # NaN is not before or after
                raise PersamError(
                    f"{Path(task.path).name} has no value in {name!r}: set it, or leave the photo "
                    "out"
                )
    places = _places(rows, order_field)
    return [
        PhotoTask(t.id, t.path, t.group, t.frame, str(rows[t.id][0]), places[t.id]) for t in tasks
    ]


def labelled_frames(
    tasks: Sequence[PhotoTask], references: Sequence[AnyReference], objects: Collection[str]
) -> dict[str, dict[str, list[SampleReference]]]:
    """Task id -> object's name -> the references that say where it is in that frame.

    Args:
        tasks: frames of sequences, and photos by themselves, which are left out.
        references: of the run.
        objects: names of the run's objects where a frame may have several.
    """
    places = {(t.sequence, t.order): t for t in tasks if t.sequence}
    by_id = {t.id: t for t in tasks if t.sequence}
    found: dict[str, dict[str, list[SampleReference]]] = {}
    for one in references:
        if isinstance(one, PhraseReference):
            continue
        task = by_id.get(one.sample_id)
        if one.frame is not None:
            task = places.get((one.sample_id, one.frame))
        if task is None or (not objects and task.group != one.group):
            continue
        found.setdefault(task.id, {}).setdefault(one.group if objects else "", []).append(one)
    return found


def masks_of_frames(
    frames: Mapping[str, Mapping[str, Sequence[SampleReference]]], sam: Promptable
) -> dict[str, dict[str, Any]]:
    """What `labelled_frames` found as masks, see `Job.labelled`.

    Args:
        frames: the references, by frame and object.
        sam: draws the mask that a box or points stand for, as where a method learns from them.

    Raises:
        BadReferenceError: the model finds nothing there.
    """
    from ...personalize.learning import drawn_mask

    def mask(one: SampleReference) -> Any:
        if one.prompt.mask is not None:
            return one.prompt.mask
        shown = one.load()
        return drawn_mask(sam, shown, sam.encode([shown.photo])[0])

    return {
        frame: {
            name: np.logical_or.reduce([mask(one) for one in chosen])
            for name, chosen in named.items()
        }
        for frame, named in frames.items()
    }


def _places(rows: Mapping[str, tuple[Any, Any]], order_field: str | None) -> dict[str, int]:
    """The place of each photo in its sequence."""
    taken = Counter((str(of), at) for of, at in rows.values())
    for (of, at), count in taken.items():
        if count > 1:
            raise PersamError(
                f"{count} photos of sequence {of!r} have {at!r} in {order_field or 'filepath'!r}: "
                "each frame of a sequence needs a value of its own"
            )
    try:
        ordered = sorted(rows, key=lambda i: (str(rows[i][0]), rows[i][1]))
    except TypeError:
        raise PersamError(
            f"order_field {order_field!r} has values that cannot be sorted: give numbers, or texts"
        ) from None
    places: dict[str, int] = {}
    seen: Counter[str] = Counter()
    for i in ordered:
        sequence = str(rows[i][0])
        places[i] = seen[sequence]
        seen[sequence] += 1
    return places


def _documents(store: FrameStore, ids: Sequence[str]) -> dict[str, dict[int, str]]:
    """Sample id -> frame number -> frame id, of frames that have a document."""
    chosen = {"_sample_id": {"$in": [ObjectId(i) for i in ids]}}
    shown = {"_sample_id": 1, "frame_number": 1}
    stages: list[dict[str, Any]] = [{"$match": chosen}, {"$project": shown}]
    found: dict[str, dict[int, str]] = {}
    for row in with_retries(lambda: list(fiftyone_api.aggregate(store, stages))):
        found.setdefault(str(row["_sample_id"]), {})[row["frame_number"]] = str(row["_id"])
    return found


def _groups(videos: Any, group_by: str | None, ids: Sequence[str]) -> dict[str, str]:
    """Sample id -> the object of that video, which one of its fields names."""
    if group_by is None:
        return {}
    check_field_known(videos, "group_by", group_by)
    groups = dict(zip(*videos.values(["id", group_by]), strict=True))
    if unnamed := [i for i in ids if groups.get(i) is None]:
        raise PersamError(
            f"{len(unnamed)} videos have no value in {group_by!r}: set it, or leave them out"
        )
    return {i: str(group) for i, group in groups.items()}


def _flat(videos: Any) -> Any:
    return videos.flatten() if fiftyone_api.is_dynamic_groups(videos) else videos
