"""The database behind a dataset: all its photos, what other processes did, and waiting for it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import Any, ParamSpec, TypeVar

import fiftyone as fo
from bson import ObjectId
from pymongo import UpdateMany, UpdateOne, WriteConcern
from pymongo.errors import ConnectionFailure, DocumentTooLarge

from ..errors import PersamError
from . import fiftyone_api
from .frame_store import FrameStore, home

PATIENCE = 600.0
"""Seconds to wait for a database that went away."""

PART = 100_000
"""Sample ids that a query names at once."""

JOURNALED = WriteConcern(w="majority", j=True)
"""Acknowledged when it is on the disk: a database that is killed forgets what is not."""

CHUNK = 10_000
"""Samples that are named in one request."""

T = TypeVar("T")
P = ParamSpec("P")


def photos_of(samples: Any) -> Any:
    """All photos that a dataset or view stands for, one by one, with all their fields.

    Of groups, these are the photos of all slices; of photos that a view groups by a field for
    looking at them, all photos of all groups. Fields that a view leaves out are there: a view says
    which photos are meant, not what is known of them.

    Photos that are in several of the views that `concat` has joined count once; what is asked
    of such a view besides, FiftyOne asks of its first part alone.

    Of videos, and of a view of their frames, these are the frames that have a document: a
    `FrameStore`.

    Raises:
        PersamError: the view shows parts of photos or of videos.
    """
    if isinstance(samples, FrameStore):
        return samples
    if fiftyone_api.root_dataset(samples).media_type == fo.core.media.VIDEO:
        return _frames_of(samples)
    if isinstance(samples, fo.Dataset):
        photos = samples
    else:
        check_shows_photos(samples)
        photos = within_limits(with_all_fields(samples))
        if photos.media_type == "image" and _is_joined(photos):
            once = list(dict.fromkeys(photos.values("id")))
            photos = fiftyone_api.root_dataset(photos).select(once, ordered=True)
        if is_grouped_by_field(photos):
            photos = photos.flatten()
            if photos.media_type == "group" and photos.group_media_types is None:
                # Slices that were chosen first: FiftyOne still takes their photos for groups.
                return photos_of(fiftyone_api.root_dataset(photos)).select(photos.values("id"))
    if photos.media_type != "group":
        return photos
    return photos.select_group_slices(media_type="image")


def _frames_of(samples: Any) -> FrameStore:
    frames = home(samples)
    if isinstance(samples, fo.Dataset):
        return FrameStore(samples)
    check_shows_photos(samples)
    if fiftyone_api.is_frames(samples):
        return frames.select(samples.values("id"))
    return frames.select(samples.values("frames.id", unwind=True))


def is_grouped_by_field(samples: Any) -> bool:
    """Whether a view groups photos by a field for looking at them; no groups of slices."""
    return isinstance(samples, fo.DatasetView) and fiftyone_api.is_dynamic_groups(samples)


def count(photos: Any) -> int:
    """How many photos these are.

    Raises:
        PersamError: the view names so many photos that the database refuses to look for them.
    """
    try:
        if known := len(photos):
            return int(known)
        # FiftyOne asks for an estimate, which may be 0 after the database was killed.
        found = fiftyone_api.aggregate(photos, [{"$count": "n"}])
        return int(found[0]["n"]) if found else 0
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
    name = fiftyone_api.root_dataset(samples).name
    if fiftyone_api.is_patches(samples):
        raise PersamError(
            f"a patches view of dataset {name!r} shows objects, not photos: give the photos behind "
            "it, dataset.select(view.values('sample_id'))"
        )
    if fiftyone_api.is_clips(samples):
        raise PersamError(
            f"a clips view shows parts of videos of dataset {name!r}: give the videos, "
            "dataset.select(view.values('sample_id')), or the frames, view.to_frames()"
        )


def with_all_fields(view: Any) -> Any:
    """A copy of a view without the stages that leave fields out.

    A copy in any case: the view itself may remember the fields of another time.
    """
    stages = fiftyone_api.stages_of(view)
    kept = [one for one in stages if not isinstance(one, (fo.SelectFields, fo.ExcludeFields))]
    if len(kept) == len(stages):
        return view.view()
    whole = fiftyone_api.own_dataset(view).view()
    return functools.reduce(lambda found, stage: found.add_stage(stage), kept, whole)


def named_in(view: Any) -> int:
    """How many samples the stages of a view name one by one."""
    stages = [] if isinstance(view, fo.Dataset) else fiftyone_api.stages_of(view)
    return sum(len(one.sample_ids) for one in stages if isinstance(one, (fo.Select, fo.Exclude)))


def within_limits(view: Any) -> Any:
    """The same photos as a view that names fewer of them, where it names too many for a query.

    Those that are not there any more need no name, and of nearly all photos the others have one.
    """
    if named_in(view) <= PART:
        return view
    dataset = fiftyone_api.own_dataset(view)
    present = set(dataset.values("id"))
    found = dataset.view()
    for stage in fiftyone_api.stages_of(view):
        found = found.add_stage(_within_limits(stage, present))
    return found


def _within_limits(stage: Any, present: set[str]) -> Any:
    if not isinstance(stage, (fo.Select, fo.Exclude)):
        return stage
    named = [str(i) for i in stage.sample_ids if str(i) in present]
    chooses = isinstance(stage, fo.Select)
    if chooses and stage.ordered:
        return fo.Select(named, ordered=True)
    others = present.difference(named)
    if len(others) < len(named):
        return fo.Exclude(others) if chooses else fo.Select(others)
    return type(stage)(named)


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


def photo_ids(collection: Any) -> list[str]:
    """Sample ids of the photos in a dataset or view, in its order.

    Of a view by groups all photos of the groups, of a view of patches the photos they are of.
    """
    if isinstance(collection, fo.DatasetView) and fiftyone_api.is_patches(collection):
        return list(dict.fromkeys(collection.values("sample_id")))
    found: list[str] = photos_of(collection).values("id")
    return found


def _is_joined(view: Any) -> bool:
    return any(isinstance(stage, fo.Concat) for stage in fiftyone_api.stages_of(view))


def with_retries(action: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call something that uses the database; where that went away, wait for it to come back.

    Raises:
        PersamError: it stayed away.
    """
    away: float | None = None  # since when
    pause = 0.5
    while True:
        started = time.monotonic()
        try:
            return action(*args, **kwargs)
        except ConnectionFailure as error:
            now = time.monotonic()
            if away is None or now - started > PATIENCE:  # it was there all that time
                away, pause = now, 0.5
            if now - away > PATIENCE:
                raise PersamError(
                    f"FiftyOne's database has been away for {PATIENCE:.0f} s: start it, then "
                    "try again, or resume the run"
                ) from error
            time.sleep(pause)
            pause = min(2 * pause, 10.0)


def surviving(action: Callable[[], T]) -> T:
    """Do something that can be repeated, until all of it is on the database's disk.

    A database that is killed forgets what it has acknowledged just before. Where it died meanwhile,
    all is done once more: nobody can tell which of the steps it has forgotten.

    Raises:
        PersamError: it stayed away.
    """
    while True:
        began = with_retries(fiftyone_api.database_process)
        done = with_retries(action)
        make_durable()
        if with_retries(fiftyone_api.database_process) == began:
            return done


def root(samples: Any) -> Any:
    """The dataset behind a dataset or view, as it is in the database by now; see `home`.

    Raises:
        PersamError: it is neither.
    """
    if not isinstance(samples, (fo.core.collections.SampleCollection, FrameStore)):
        raise PersamError(f"{type(samples).__name__} is not a FiftyOne dataset or view: give one")
    own = samples.videos if isinstance(samples, FrameStore) else fiftyone_api.own_dataset(samples)
    if own.deleted:
        raise PersamError(f"dataset {own.name!r} is deleted: load or make another one")
    dataset = home(samples)
    refresh(dataset)
    return dataset


def refresh(dataset: Any) -> None:
    """See what other processes have done to a dataset.

    A full reload makes views unusable that somebody has already looked through, so it is kept for
    when another process has changed the fields.
    """
    with_retries(_refresh, dataset)


def _refresh(dataset: Any) -> None:
    fiftyone_api.reload_document(dataset)
    # Where a process was killed while it deleted one, the dataset still names it.
    fiftyone_api.mend_runs(dataset)
    stored = fiftyone_api.loaded_fields(dataset)
    if {name for name in stored if not name.startswith("_")} != set(dataset.get_field_schema()):
        dataset.reload()


def refresh_if_changed(dataset: Any) -> None:
    """Like `refresh`, at the cost of one small query where nothing has changed."""
    fields_list = fiftyone_api.fields_list(dataset)
    names = (f"{fields_list}.name", "runs", "evaluations")
    stored = with_retries(fiftyone_api.stored_document, dataset, names)
    fields = {field["name"] for field in stored.get(fields_list) or []}
    same = {name for name in fields if not name.startswith("_")} == set(dataset.get_field_schema())
    for kind in ("runs", "evaluations"):
        same = same and fiftyone_api.run_documents(dataset, kind) == stored.get(kind, {})
    if not same:
        refresh(dataset)


def write_samples(
    dataset: Any, changes: Mapping[str, Mapping[str, Any]], journaled: bool = False
) -> None:
    """Write values of several fields: all of a sample's in one step, so that none is half written.

    Args:
        dataset: where to.
        changes: sample id -> field -> value, as Python has it, or a document as the database has
            it; samples that are gone are left out.
        journaled: whether to wait until it is on the disk.
    """
    if not changes:
        return
    now = datetime.now(timezone.utc)
    ops = []
    for sample_id, values in changes.items():
        stored = {
            name: value
            if value is None or isinstance(value, dict)
            else dataset.get_field(name).to_mongo(value)
            for name, value in values.items()
        }
        ops.append(
            UpdateOne({"_id": ObjectId(sample_id)}, {"$set": {**stored, "last_modified_at": now}})
        )
    # A database that dies after it has acknowledged them would forget them, and nobody would know.
    fiftyone_api.bulk_write(dataset, ops, ids=changes, concern=JOURNALED if journaled else None)


def set_samples(dataset: Any, ids: Sequence[str], values: Mapping[str, Any]) -> None:
    """Give some samples the same values, as the database has them. Fields must be there."""
    changed = {**values, "last_modified_at": datetime.now(timezone.utc)}
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        chosen = {"_id": {"$in": [ObjectId(i) for i in chunk]}}
        change = UpdateMany(chosen, {"$set": changed})
        with_retries(fiftyone_api.bulk_write, dataset, [change], ids=chunk)


def clear_samples(dataset: Any, ids: Sequence[str], names: Sequence[str]) -> None:
    """Empty fields of some samples, all of a sample's in one step. Fields may be missing."""
    present = [name for name in names if dataset.has_field(name)]
    for start in range(0, len(ids) if present else 0, CHUNK):
        chunk = ids[start : start + CHUNK]
        values = {**dict.fromkeys(present), "last_modified_at": datetime.now(timezone.utc)}
        chosen = {"_id": {"$in": [ObjectId(i) for i in chunk]}}
        change = UpdateMany(chosen, {"$set": values})
        with_retries(fiftyone_api.bulk_write, dataset, [change], ids=chunk)


def make_durable() -> None:
    """Return when everything that the database has acknowledged until now is on its disk.

    The database keeps one journal in order: when one entry of it is on the disk, so are all before.
    """
    entry = {"store_name": "fiftyone-persam", "key": "durable", "dataset_id": None}
    store = fiftyone_api.store_collection().with_options(write_concern=JOURNALED)
    with_retries(store.update_one, entry, {"$inc": {"value": 1}}, upsert=True)
