"""The database behind a dataset: all its photos, what other processes did, and waiting for it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import fiftyone as fo
import fiftyone.core.odm as odm
from bson import DBRef
from pymongo.errors import ConnectionFailure, DocumentTooLarge

from ..errors import PersamError

PATIENCE = 600.0
"""Seconds to wait for a database that went away."""


PART = 100_000
"""Sample ids that a query names at once."""

T = TypeVar("T")


def photos_of(samples: Any) -> Any:
    """All photos that a dataset or view stands for, one by one, with all their fields.

    Of groups, these are the photos of all slices; of photos that a view groups by a field for
    looking at them, all photos of all groups. Fields that a view leaves out are there: a view says
    which photos are meant, not what is known of them.

    Raises:
        PersamError: the view shows parts of photos or of videos.
    """
    if isinstance(samples, fo.Dataset):
        photos = samples
    else:
        check_shows_photos(samples)
        photos = with_all_fields(samples)
        if is_grouped_by_field(photos):
            photos = photos.flatten()
            if photos.media_type == "group" and photos.group_media_types is None:
                # Slices that were chosen first: FiftyOne still takes their photos for groups.
                return photos_of(photos._root_dataset).select(photos.values("id"))
    if photos.media_type != "group":
        return photos
    return photos.select_group_slices(media_type="image")


def is_grouped_by_field(samples: Any) -> bool:
    """Whether a view groups photos by a field for looking at them; no groups of slices."""
    return isinstance(samples, fo.DatasetView) and bool(samples._is_dynamic_groups)


def count(photos: Any) -> int:
    """How many photos these are.

    Raises:
        PersamError: the view names so many photos that the database refuses to look for them.
    """
    try:
        return len(photos)
    except DocumentTooLarge:
        raise PersamError(
            "the view names more photos than one query of the database can hold: tag them in parts "
            "and give dataset.match_tags(...)"
        ) from None


def check_shows_photos(samples: Any) -> None:
    """Raise PersamError if a view shows parts of photos, or of videos, and say what shows photos.

    Public functions of a dataset as a whole, such as `list_runs`, take such views too.
    """
    if isinstance(samples, fo.Dataset):
        return
    name = samples._root_dataset.name
    if samples._is_patches:
        raise PersamError(
            f"a patches view of dataset {name!r} shows objects, not photos: give the photos behind "
            "it, dataset.select(view.values('sample_id'))"
        )
    if samples._is_frames:
        raise PersamError(
            f"a frames view shows videos of dataset {name!r}: give a dataset of its photos, "
            "view.clone()"
        )
    if samples._is_clips:
        raise PersamError(
            f"a clips view shows videos of dataset {name!r}: give a dataset of its photos, "
            "view.to_frames(sample_frames=True).clone()"
        )


def with_all_fields(view: Any) -> Any:
    """A copy of a view without the stages that leave fields out.

    A copy in any case: the view itself may remember the fields of another time.
    """
    stages = [s for s in view._stages if not isinstance(s, (fo.SelectFields, fo.ExcludeFields))]
    if len(stages) == len(view._stages):
        return view.view()
    return functools.reduce(lambda found, stage: found.add_stage(stage), stages, view._base_view)


def in_parts(ids: Iterable[str], size: int = PART) -> Iterator[list[str]]:
    """Ids in lists that a query of the database can hold: a document has 16 MB at most."""
    listed = list(ids)
    for start in range(0, len(listed), size):
        yield listed[start : start + size]


def values_of(dataset: Any, ids: Iterable[str], *fields: str) -> dict[str, Any]:
    """Sample id -> the value of one field, or the list of several fields' values.

    Photos that are not there any more are left out.
    """
    photos = photos_of(dataset)
    found: dict[str, Any] = {}
    for part in in_parts(ids):
        known, *columns = photos.select(part).values(["id", *fields])
        rows = columns[0] if len(fields) == 1 else zip(*columns, strict=True)
        found.update(zip(known, rows, strict=True))
    return found


def living(dataset: Any, ids: Iterable[str]) -> set[str]:
    """Those of these photos that are still in the dataset."""
    photos = photos_of(dataset)
    return {i for part in in_parts(ids) for i in photos.select(part).values("id")}


def selected(dataset: Any, ids: Sequence[str]) -> Any:
    """Some photos of a dataset as a view; where these are all of them, without naming each."""
    photos = photos_of(dataset)
    if len(ids) > PART and len(photos) == len(set(ids)) == len(living(dataset, ids)):
        return photos.view()
    return photos.select(list(ids))


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
    """The dataset behind a dataset or view, as it is in the database by now.

    Raises:
        PersamError: it is neither.
    """
    if not isinstance(samples, fo.core.collections.SampleCollection):
        raise PersamError(f"{type(samples).__name__} is no FiftyOne dataset or view: give one")
    home = samples if isinstance(samples, fo.Dataset) else samples._dataset
    if home.deleted:
        raise PersamError(f"dataset {home.name!r} is deleted: load or make another one")
    dataset = samples._root_dataset
    refresh(dataset)
    return dataset


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
