"""A video dataset as a dataset of its frames: what a run writes per photo, it writes per frame.

Runs are stored on the dataset, their fields on its frames. Everything that counts, reads or writes
a run's photos is given a `FrameStore` in the dataset's place, and needs not know the difference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fiftyone as fo
from bson import ObjectId

from ..errors import PersamError
from . import fiftyone_api

PREFIX = "frames."


class FrameStore:
    """The frames of a video dataset, with the names that FiftyOne's datasets have for photos.

    Fields are frame fields, ids those of frame documents. What is not named here is the dataset's.

    Args:
        videos: the dataset.
        stages: an aggregation of the database that chooses frames; all if empty.
    """

    media_type = "image"
    holds_frames = True
    fields_list = "frame_fields"
    field_prefix = PREFIX
    """Of paths in what the App keeps of fields, such as their colours."""

    def __init__(self, videos: Any, stages: Sequence[dict[str, Any]] = ()) -> None:
        self.videos = videos
        self.stages = list(stages)
        # As FiftyOne's own collections have them; see `fiftyone_api`.
        self._dataset = self._root_dataset = self
        self._is_patches = self._is_frames = self._is_clips = self._is_dynamic_groups = False
        self._stages: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.videos, name)

    # Fields ---------------------------------------------------------------------------------------

    def has_field(self, path: str) -> bool:
        """Whether frames have a field."""
        return bool(self.videos.has_frame_field(path))

    def get_field(self, path: str) -> Any:
        """A frame field, or an attribute of one; None if it is not there."""
        return self.videos.get_field(PREFIX + path)

    def get_field_schema(self, **chosen: Any) -> dict[str, Any]:
        """Name -> field, of all frame fields, or of those of a type; see FiftyOne's."""
        return dict(self.videos.get_frame_field_schema(**chosen) or {})

    def delete_sample_fields(self, names: Sequence[str]) -> None:
        """Delete frame fields."""
        self.videos.delete_frame_fields(list(names))

    def rename_sample_fields(self, mapping: Mapping[str, str]) -> None:
        """Rename frame fields."""
        self.videos.rename_frame_fields(dict(mapping))

    def _merge_sample_field_schema(self, fields: Mapping[str, Any]) -> None:
        fiftyone_api.merge_frame_schema(self.videos, fields)

    def list_indexes(self) -> list[str]:
        """Indexes of frame fields."""
        names: list[str] = self.videos.list_indexes()
        return [name.removeprefix(PREFIX) for name in names if name.startswith(PREFIX)]

    def drop_index(self, name: str) -> None:
        """Drop an index of a frame field."""
        self.videos.drop_index(PREFIX + name)

    # Documents ------------------------------------------------------------------------------------

    @property
    def _sample_collection(self) -> Any:
        return fiftyone_api.frame_collection(self.videos)

    @property
    def _sample_collection_name(self) -> str:
        return str(self._sample_collection.name)

    def _bulk_write(self, operations: Sequence[Any], ids: Iterable[str]) -> None:
        fiftyone_api.bulk_write_frames(self.videos, operations, ids)

    def _pipeline(self) -> list[dict[str, Any]]:
        return list(self.stages)

    # Choosing and reading -------------------------------------------------------------------------

    def view(self) -> FrameStore:
        """The same frames."""
        return FrameStore(self.videos, self.stages)

    def select(self, ids: Iterable[Any]) -> FrameStore:
        """Some frames, by id."""
        return self._and({"_id": {"$in": [ObjectId(str(i)) for i in ids]}})

    def of_films(self, ids: Iterable[Any]) -> FrameStore:
        """The frames of some videos, by their samples' ids."""
        return self._and({"_sample_id": {"$in": [ObjectId(str(i)) for i in ids]}})

    def exists(self, path: str) -> FrameStore:
        """The frames that have a value in a field."""
        return self._and({path: {"$nin": [None]}})

    def _and(self, query: dict[str, Any]) -> FrameStore:
        return FrameStore(self.videos, [*self.stages, {"$match": query}])

    def load_run_view(self, name: str) -> FrameStore:
        """All frames: which videos a run was for says the run itself."""
        return self.view()

    def __len__(self) -> int:
        rows = list(fiftyone_api.aggregate(self, [{"$count": "n"}]))
        return int(rows[0]["n"]) if rows else 0

    def values(self, paths: str | Sequence[str], unwind: bool = False) -> Any:
        """Values of fields, as FiftyOne's `values` gives plain ones, video by video and in order.

        Args:
            paths: one, or a list of them, such as "id" or "x.detections.mask_path". Besides what
                frames have there is "filepath", of the video.
            unwind: whether to give the members of lists one by one.
        """
        names = [paths] if isinstance(paths, str) else list(paths)
        keys = [_key(name) for name in names]
        wanted = dict.fromkeys([*keys, "_sample_id", "frame_number"], 1)
        stages = [{"$project": wanted}, {"$sort": {"_sample_id": 1, "frame_number": 1}}]
        rows = list(fiftyone_api.aggregate(self, stages))
        files = {}
        if "filepath" in names:
            files = dict(zip(*self.videos.values(["id", "filepath"]), strict=True))
        columns: list[list[Any]] = []
        for name, key in zip(names, keys, strict=True):
            column = [_plain(_at(row, key.split("."))) for row in rows]
            if name == "filepath":
                column = [files.get(str(row["_sample_id"])) for row in rows]
            if unwind:
                column = [v for one in column for v in (one if isinstance(one, list) else [one])]
            columns.append(column)
        return columns[0] if isinstance(paths, str) else columns

    def stored(self, names: Sequence[str]) -> list[list[Any]]:
        """Values of fields as `values`, but for "filepath": of a file that the frame is in."""
        frames = self.videos.select_frames(self.values("id"))
        paths = [PREFIX + name for name in names]
        found: list[list[Any]] = frames.values(paths, unwind=True)
        return found

    def __getitem__(self, sample_id: Any) -> Any:
        """The sample of a video."""
        return self.videos[sample_id]

    def shown(self) -> Any:
        """The frames as a view of FiftyOne."""
        return self.videos.select_frames(self.values("id"))


def home(samples: Any) -> Any:
    """The dataset behind a dataset or view, where runs are: of videos, a `FrameStore` of it."""
    if isinstance(samples, FrameStore):
        return FrameStore(samples.videos)
    dataset = fiftyone_api.root_dataset(samples)
    return FrameStore(dataset) if dataset.media_type == fo.core.media.VIDEO else dataset


def check_photos_only(samples: Any, action: str) -> None:
    """Raise PersamError for videos, where something is for photos alone, and say what to do."""
    dataset = home(samples)
    if isinstance(dataset, FrameStore):
        raise PersamError(
            f"{action} is for photos and dataset {dataset.name!r} holds videos: make photos of its "
            "frames with dataset.to_frames(sample_frames=True).clone(), and adopt_run there"
        )


def whole_dataset(samples: Any) -> Any:
    """The dataset as FiftyOne has it."""
    return samples.videos if isinstance(samples, FrameStore) else samples


def _key(path: str) -> str:
    names = {"id": "_id", "sample_id": "_sample_id"}
    return names.get(path, path)


def _at(value: Any, path: Sequence[str]) -> Any:
    for step, name in enumerate(path):
        if isinstance(value, list):
            return [_at(one, path[step:]) for one in value]
        value = value.get(name) if isinstance(value, dict) else None
    return value


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, ObjectId) else value
