"""What the database is asked about a run's photos: how many, which, and columns of numbers.

A view's `values` brings every value to Python one by one; here the database counts, and sends ids
and numbers as they are stored. An index of each run holds all that is asked, so that no photo's
document is read, whatever else is in it.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bson
import numpy as np
import numpy.typing as npt
from bson import ObjectId
from pymongo.errors import OperationFailure

from .. import fiftyone_api
from ..database import with_retries
from .suffixes import ERROR, PRESENCE, REVIEW

logger = logging.getLogger(__name__)

Query = Mapping[str, Any]
Floats = npt.NDArray[np.float64]

TEXT = {"$gte": ""}
"""Of type text: nothing else compares with a text."""
LOWEST = float("-inf")

# Of a document in BSON, which is what an array is too.
HEAD = 4
"""Bytes of its size, which comes first."""
EMPTY = HEAD + 1
"""Bytes of one without elements."""
KINDS: dict[type, tuple[bytes, tuple[Any, ...] | None]] = {
    ObjectId: (b"\x07", ("u1", 12)),
    float: (b"\x01", ("<f8",)),
    type(None): (b"\x0a", None),
}
"""How the values of `columns` are stored: their type, and what NumPy calls it."""


# Questions ----------------------------------------------------------------------------------------


def done(run: str) -> dict[str, Any]:
    """Photos that have a mask of a run."""
    return {f"{run}._cls": TEXT}


def without_mask(run: str) -> dict[str, Any]:
    """Photos that have none."""
    return {f"{run}._cls": None}


def failed(run: str) -> dict[str, Any]:
    """Photos with a reason why a run could not segment them; somebody may have drawn a mask."""
    return {f"{run}{ERROR}": TEXT}


def untouched(run: str) -> dict[str, Any]:
    """Photos that a run has not come to."""
    return {f"{run}._cls": None, f"{run}{ERROR}": None}


def below(run: str, threshold: float) -> dict[str, Any]:
    """Photos in which the object counts as absent: what `is_absent` says, for the database."""
    # To the database NaN, which says nothing, is lower than all numbers.
    return {f"{run}{PRESENCE}": {"$gte": LOWEST, "$lt": threshold}}


def decided(dataset: Any, run: str, decision: str) -> dict[str, Any]:
    """Photos that somebody has accepted, or rejected.

    Before anybody has, there is no such field: the index does not have it, so nobody asks for it.
    """
    field = f"{run}{REVIEW}"
    return {field: decision} if dataset.has_field(field) else {"_id": None}


def undecided(dataset: Any, run: str) -> dict[str, Any]:
    """Photos that nobody has accepted or rejected; see `decided`."""
    field = f"{run}{REVIEW}"
    return {field: {"$nin": ["accepted", "rejected"]}} if dataset.has_field(field) else {}


def open_to_threshold(dataset: Any, run: str) -> dict[str, Any]:
    """Photos whose state the threshold decides: with a mask, and nothing said about them."""
    return {**done(run), **undecided(dataset, run), f"{run}{ERROR}": None}


def some(sample_ids: Sequence[str]) -> dict[str, Any]:
    """These photos; as many as one query can hold, see `database.in_parts`."""
    return {"_id": {"$in": [ObjectId(i) for i in sample_ids]}}


# Answers ------------------------------------------------------------------------------------------


def count(photos: Any, *queries: Query) -> int:
    """How many of these photos fulfil all queries."""
    stages = [_match(queries), {"$count": "n"}]
    rows = with_retries(fiftyone_api.aggregate, photos, stages)
    return int(rows[0]["n"]) if rows else 0


def ids(photos: Any, *queries: Query) -> list[str]:
    """Sample ids of those of these photos that fulfil all queries, in the dataset's order."""
    return columns(photos, (), *queries).ids()


def rows(photos: Any, names: Sequence[str], *queries: Query) -> dict[str, list[Any]]:
    """Sample id -> values of some fields, as they are stored, of photos that fulfil all queries."""
    stages = [_match(queries), {"$project": dict.fromkeys(names, 1)}]
    found = with_retries(fiftyone_api.aggregate, photos, stages)
    return {str(row["_id"]): [_at(row, name) for name in names] for row in found}


@dataclass(frozen=True, eq=False)
class Columns:
    """Photos by id, with numbers.

    Attributes:
        keys: (N, 12) uint8, the bytes of the sample ids.
        values: field -> (N,), NaN where a photo has no number there.
    """

    keys: npt.NDArray[np.uint8]
    values: dict[str, Floats]

    def __len__(self) -> int:
        return len(self.keys)

    def ids(self) -> list[str]:
        """The sample ids."""
        text = self.keys.tobytes().hex()
        return [text[start : start + 24] for start in range(0, len(text), 24)]

    def isin(self, others: Columns) -> npt.NDArray[np.bool_]:
        """(N,) whether a photo is among others; both by id."""
        found = np.zeros(len(self), np.bool_)
        mine, theirs = _as_texts(self.keys), _as_texts(others.keys)
        places = np.searchsorted(mine, theirs)
        inside = places < len(mine)
        places, theirs = places[inside], theirs[inside]
        found[places[mine[places] == theirs]] = True
        return found

    def joined(self, others: Columns) -> tuple[Columns, npt.NDArray[np.intp]]:
        """These photos and others by id, and where each was in the one list after the other."""
        values = {n: np.concatenate([self.values[n], others.values[n]]) for n in self.values}
        both = Columns(np.concatenate([self.keys, others.keys]), values)
        order = both.order()
        return both.taken(order), order

    def order(self) -> npt.NDArray[np.intp]:
        """Places by id, which is the order in which photos were added."""
        high = np.ascontiguousarray(self.keys[:, :8]).view(">u8").ravel()
        low = np.ascontiguousarray(self.keys[:, 8:]).view(">u4").ravel()
        return np.lexsort((low, high))

    def taken(self, places: npt.NDArray[np.intp]) -> Columns:
        """The photos at these places."""
        return Columns(self.keys[places], {n: one[places] for n, one in self.values.items()})


def columns(photos: Any, names: Sequence[str], *queries: Query) -> Columns:
    """Numbers of those of these photos that fulfil all queries.

    Args:
        photos: a dataset or view, one document per photo.
        names: fields of numbers.
        queries: as of `done`.
    """
    shown = {"_id": 1, **dict.fromkeys(names, 1)}
    stages = [_match(queries), {"$project": shown}]

    def read() -> list[tuple[npt.NDArray[np.uint8], Floats]]:
        return [_numbers(array, names) for array in fiftyone_api.aggregate_raw(photos, stages)]

    parts = with_retries(read)
    keys = np.concatenate([part[0] for part in parts])
    table = np.concatenate([part[1] for part in parts])
    found = Columns(keys, {name: table[:, i] for i, name in enumerate(names)})
    return found.taken(found.order())


def _match(queries: Sequence[Query]) -> dict[str, Any]:
    return {"$match": {"$and": list(queries)}}


def _numbers(array: bytes, names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Floats]:
    """(N, 12) ids and (N, len(names)) numbers of an array of documents, as the database sends it.

    Nearly always all of them have the same fields of the same types, so the same bytes in the same
    places: then they are an array already. Where one differs, all are read one by one.
    """
    return _same_numbers(array, names) or _any_numbers(array, names)


def _same_numbers(
    array: bytes, names: Sequence[str]
) -> tuple[npt.NDArray[np.uint8], Floats] | None:
    """Like `_numbers`, of documents that all have numbers or nulls in the same fields."""
    if len(array) <= EMPTY:
        return None
    start = HEAD + len(b"\x030\0")  # in front of each is its type and its place, as text
    (size,) = struct.unpack_from("<i", array, start)
    first = bson.decode(array[start : start + size])  # in an order of the database's own
    heads = {"type": b"\x03"}
    layout: list[tuple[Any, ...]] = [("size", "<i4")]
    for name, value in first.items():
        kind, stored = KINDS.get(type(value), (b"", None))
        if not kind:
            return None
        heads[f"head {name}"] = kind + name.encode() + b"\0"
        layout.append((f"head {name}", "u1", len(heads[f"head {name}"])))
        layout += [(name, *stored)] if stored else []
    at, keys, tables = HEAD, [], []
    for digits in range(1, 10):
        place = [("type", "u1", 1), ("place", "u1", digits + 1)]
        row = np.dtype([*place, *layout, ("end", "u1")])
        count = min(
            10**digits - 10**digits // 10 + (digits == 1), (len(array) - at) // row.itemsize
        )
        table = np.frombuffer(array, row, count, at)
        same = all((table[name] == np.frombuffer(head, "u1")).all() for name, head in heads.items())
        if row.itemsize != size + digits + 2 or not same or not (table["size"] == size).all():
            return None
        keys.append(table["_id"])
        blank = np.full(count, np.nan)
        numbers = [table[n] if first.get(n) is not None else blank for n in names]
        tables.append(np.stack(numbers, axis=1) if numbers else np.zeros((count, 0)))
        at += table.nbytes
        if at == len(array) - 1:
            return np.concatenate(keys), np.concatenate(tables)
        if count < 9 * 10 ** (digits - 1):
            return None
    return None


def _any_numbers(array: bytes, names: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Like `_numbers`, document by document."""
    documents = list(bson.decode(array).values())
    keys = b"".join(document["_id"].binary for document in documents)
    values = [[_number(document.get(name)) for name in names] for document in documents]
    shape = (len(documents), len(names))
    return (
        np.frombuffer(keys, np.uint8).reshape(-1, 12),
        np.array(values, np.float64).reshape(shape),
    )


def _number(value: Any) -> float:
    return float(value) if isinstance(value, (int, float)) else np.nan


def _as_texts(keys: npt.NDArray[np.uint8]) -> npt.NDArray[np.bytes_]:
    # NumPy leaves zeros out at the end of texts, so there is one more byte that is none.
    longer = np.concatenate([keys, np.ones((len(keys), 1), np.uint8)], axis=1)
    return np.ascontiguousarray(longer).view("S13").ravel()


def _at(document: Any, path: str) -> Any:
    for name in path.split("."):
        document = document.get(name) if isinstance(document, Mapping) else None
    return document


# The index ----------------------------------------------------------------------------------------


def make_index(dataset: Any, run: str) -> None:
    """Have the database keep what is asked of a run beside its photos, if it does not yet.

    Only fields that are there are in the index: where a user renames or deletes one of them,
    FiftyOne makes the index anew, or drops it, and knows no others.
    """
    # Presence before other numbers: how many are below a threshold is one range then.
    suffixes = ("review", "error", "presence", "score", "agreement")
    present = dataset.get_field_schema()
    keys = [f"{run}._cls", *(n for n in (f"{run}_{s}" for s in suffixes) if n in present), "_id"]
    wanted = [(key, 1) for key in keys]
    samples, earlier = fiftyone_api.sample_collection(dataset), _indexes(dataset, run)
    if wanted in earlier.values():
        return
    try:
        with_retries(samples.create_index, wanted)
        for name in earlier:
            with_retries(samples.drop_index, name)
    except OperationFailure as error:  # a collection has 64 at most
        logger.info("Run %r has no index, so counting its photos takes longer: %s", run, error)


def drop_index(dataset: Any, run: str) -> None:
    """Take the index of a run away, as before its fields are renamed.

    FiftyOne would make it anew under other names, which fails where some fields have theirs already
    because a process was killed.
    """
    samples = fiftyone_api.sample_collection(dataset)
    for name in _indexes(dataset, run):
        with_retries(samples.drop_index, name)


def _indexes(dataset: Any, run: str) -> dict[str, list[Any]]:
    """Name -> keys, of the indexes that `make_index` has made for a run."""
    known = with_retries(fiftyone_api.sample_collection(dataset).index_information)
    keys = {name: one["key"] for name, one in known.items()}
    ours = (f"{run}._cls", "_id")
    return {name: key for name, key in keys.items() if (key[0][0], key[-1][0]) == ours}
