"""Values of many samples and frames at once: written, moved, dropped and aggregated."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import bson
import fiftyone as fo
import fiftyone.core.odm as odm
from bson import Int64, ObjectId
from bson.raw_bson import DEFAULT_RAW_BSON_OPTIONS

from .documents import fields_list

LARGEST_BATCH = 1_000_000
"""Documents that the database may send at once; it sends 16 MB at most."""


def sample_collection(dataset: Any) -> Any:
    """The database's collection of a dataset's samples, for questions that views cannot ask."""
    # 1.22.1: `_sample_collection`. Without it runs have no index.
    return dataset._sample_collection


def frame_collection(dataset: Any) -> Any:
    """The database's collection of a video dataset's frames."""
    # 1.22.1: `_frame_collection`. Without it a run over videos cannot be counted, nor gone on with.
    return dataset._frame_collection


def bulk_write(
    dataset: Any, operations: Sequence[Any], ids: Iterable[str], concern: Any = None
) -> None:
    """Carry out operations of `pymongo` on samples, those in memory too.

    Args:
        dataset: the samples' dataset.
        operations: what to do.
        ids: the samples that are changed.
        concern: when they count as done, a `pymongo.WriteConcern`; FiftyOne's own if None.
    """
    # 1.22.1: `_bulk_write`. Without it `set_values` is left, which costs a request per field, and
    # a process that dies in between leaves photos that are half written. `_sample_collection` and
    # `Sample._reload_docs` are what it is made of: FiftyOne lets nobody choose the write concern.
    if concern is None:
        dataset._bulk_write(list(operations), ids=list(ids))
        return
    samples = dataset._sample_collection.with_options(write_concern=concern)
    samples.bulk_write(list(operations), ordered=False)
    if fields_list(dataset) == "frame_fields":
        fo.Frame._reload_docs(dataset._sample_collection_name, frame_ids=list(ids))
        return
    fo.Sample._reload_docs(dataset._sample_collection_name, sample_ids=list(ids))


def bulk_write_frames(dataset: Any, operations: Sequence[Any], ids: Iterable[str]) -> None:
    """Carry out operations of `pymongo` on frames of a video dataset, those in memory too."""
    # 1.22.1: `_bulk_write` with ``frames=True``; as `bulk_write`.
    dataset._bulk_write(list(operations), ids=list(ids), frames=True)


def rename_values(dataset: Any, renamed: Mapping[str, str]) -> None:
    """Move the values of fields of all samples to other names, where they are not moved yet."""
    # 1.22.1: `_sample_collection`. Without it values are lost where a database died while FiftyOne
    # renamed their fields.
    if renamed:
        anywhere = {"$or": [{name: {"$exists": True}} for name in renamed]}
        dataset._sample_collection.update_many(anywhere, {"$rename": dict(renamed)})


def drop_values(dataset: Any, names: Sequence[str]) -> None:
    """Remove values of all samples that are left over of fields which are gone."""
    # 1.22.1: `_sample_collection`, as `rename_values`.
    if names:
        anywhere = {"$or": [{name: {"$exists": True}} for name in names]}
        dataset._sample_collection.update_many(anywhere, {"$unset": dict.fromkeys(names, "")})


def has_sample(identity: str, values: Mapping[str, Any]) -> bool:
    """Whether a dataset has a sample with these stored values."""
    # 1.22.1: `fiftyone.core.odm.get_db_conn` and the name of a dataset's collection. Without it a
    # dataset that lacks one of the fields must be loaded to be asked.
    database = odm.get_db_conn()
    found = database.datasets.find_one(ObjectId(identity), {"sample_collection_name": 1})
    return (
        found is not None
        and database[found["sample_collection_name"]].find_one(dict(values), {"_id": 1}) is not None
    )


def aggregate(samples: Any, stages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The documents that the database makes of a dataset's or view's samples.

    Args:
        samples: a dataset or view.
        stages: of an aggregation, after those of the view.
    """
    # 1.22.1: `_pipeline` and `_sample_collection`. Without them counts and columns of a large run
    # are read through `values`, value by value: seconds instead of milliseconds.
    collection = samples._dataset._sample_collection
    return list(collection.aggregate([*samples._pipeline(), *stages], allowDiskUse=True))


def aggregate_raw(samples: Any, stages: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """Like `aggregate`, but arrays of documents in BSON, as the database sends them.

    The driver's own raw batches make an object of each document before they join them again, which
    takes three times as long as the database does.
    """
    # 1.22.1: as `aggregate`.
    collection = samples._dataset._sample_collection
    database = collection.database
    ask = functools.partial(database.command, codec_options=DEFAULT_RAW_BSON_OPTIONS)
    command = {
        "aggregate": collection.name,
        "pipeline": [*samples._pipeline(), *stages],
        "cursor": {"batchSize": LARGEST_BATCH},
        "allowDiskUse": True,
    }
    with database.client.start_session() as session:
        array, cursor = _batch(ask(command, session=session), b"firstBatch")
        yield array
        while cursor:
            more = {"getMore": Int64(cursor), "collection": collection.name}
            array, cursor = _batch(ask(more, session=session), b"nextBatch")
            yield array


def _batch(reply: Any, name: bytes) -> tuple[bytes, int]:
    """The array of documents in a reply, and the cursor's id, 0 at its end."""
    raw = reply["cursor"].raw
    head = b"\x04" + name + b"\0"
    before = raw.index(head)
    start = before + len(head)
    end = start + int.from_bytes(raw[start : start + 4], "little")
    rest = raw[4:before] + raw[end:]
    return raw[start:end], int(bson.decode(struct.pack("<i", len(rest) + 4) + rest)["id"])
