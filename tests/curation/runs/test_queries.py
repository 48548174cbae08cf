"""What the database is asked about a run's photos, against plain values of FiftyOne."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bson
import fiftyone as fo
import fiftyone.core.odm as odm
import numpy as np
import pytest
from bson import ObjectId

import fiftyone_persam as fp
from fiftyone_persam.curation.fiftyone_api import values
from fiftyone_persam.curation.review import table
from fiftyone_persam.curation.review.decisions import set_review, undo_review, undo_steps
from fiftyone_persam.curation.review.store import packed, unpacked
from fiftyone_persam.curation.review.table import (
    STATES,
    masks_in,
    review_counts,
    review_queue,
    review_table,
    states_of,
)
from fiftyone_persam.curation.review.threshold import presence_changes
from fiftyone_persam.curation.runs import queries

from ..discs import Make
from ..reviewed_run import PHOTOS, RUN, ids_of, reviewed_run


@pytest.fixture
def album(dataset: Make, tmp_path: Path) -> fo.Dataset:
    made = reviewed_run(dataset, tmp_path)
    queries.make_index(made, RUN)
    return made


VALUES: dict[str, list[Any]] = {
    "all alike": [0.5, 0.25, 1.0],
    "nothing": [None, None, None],
    "some missing": [0.5, None, 0.75],
    "whole numbers": [1, 0, 1],
    "not a number": [float("nan"), 0.5, float("inf")],
    "of other types": ["0.5", True, 0.5],
}


@pytest.mark.parametrize("kind", VALUES)
def test_columns_are_what_is_stored(dataset: Make, kind: str) -> None:
    samples = [fo.Sample(f"/none/{number}.jpg") for number in range(3)]
    made = dataset(samples)
    made.add_sample_field("x_score", fo.FloatField)
    made.add_sample_field("x_presence", fo.FloatField)
    stored = made._sample_collection
    for sample, value in zip(samples, VALUES[kind], strict=True):
        stored.update_one({"_id": sample._id}, {"$set": {"x_score": value, "x_presence": 0.5}})
    found = queries.columns(made, ["x_presence", "x_score"], {})
    expected = [float(v) if isinstance(v, (int, float)) else np.nan for v in VALUES[kind]]
    assert found.ids() == [sample.id for sample in samples]
    np.testing.assert_array_equal(found.values["x_score"], expected)
    np.testing.assert_array_equal(found.values["x_presence"], [0.5] * 3)


@pytest.mark.parametrize("count", [0, 1, 10, 11, 1_200])
@pytest.mark.parametrize("kind", ["all alike", "nothing", "missing", "the last differs"])
def test_many_rows_are_what_the_database_sends(count: int, kind: str) -> None:
    rows = []
    for number in range(count):
        last = kind == "the last differs" and number == count - 1
        score = None if kind == "nothing" or last else number / 7
        rows.append({"_id": ObjectId(), "x_score": score, "x_presence": float(number)})
        if kind == "missing":
            del rows[-1]["x_score"]
    array = bson.encode({str(place): row for place, row in enumerate(rows)})
    keys, numbers = queries._numbers(array, ["x_presence", "x_score"])
    assert [key.tobytes() for key in keys] == [row["_id"].binary for row in rows]
    expected = [[row["x_presence"], row.get("x_score")] for row in rows]
    np.testing.assert_array_equal(numbers, np.array(expected, np.float64).reshape(count, 2))


def test_batches_of_the_database_are_joined(album: fo.Dataset, monkeypatch: Any) -> None:
    expected = queries.columns(album, [f"{RUN}_score"], {})
    monkeypatch.setattr(values, "LARGEST_BATCH", 2)
    found = queries.columns(album, [f"{RUN}_score"], {})
    assert found.ids() == expected.ids() == sorted(album.values("id")) and len(found) > 4
    np.testing.assert_array_equal(
        found.values[f"{RUN}_score"], expected.values[f"{RUN}_score"], strict=True
    )


QUESTIONS: dict[str, Callable[[Any, list[str]], Any]] = {
    "list_runs": lambda album, ids: fp.list_runs(album),
    "counts": lambda album, ids: review_counts(album, RUN),
    "queue": lambda album, ids: review_queue(album, RUN, limit=2).values("id"),
    "accept": lambda album, ids: set_review(album, RUN, "accepted", ids),
    "undo": lambda album, ids: undo_review(album, RUN),
    "threshold": lambda album, ids: presence_changes(album, RUN, 0.9),
}


@pytest.mark.parametrize("what", QUESTIONS)
def test_no_question_reads_photos_that_it_is_not_about(album: fo.Dataset, what: str) -> None:
    ids = ids_of(album, "sure")
    set_review(album, RUN, "rejected", ids)  # the field is there
    database, collection = odm.get_db_conn(), album._sample_collection_name
    database.command("profile", 2)
    try:
        QUESTIONS[what](album, ids)
    finally:
        database.command("profile", 0)
        asked = list(database["system.profile"].find({"ns": f"{database.name}.{collection}"}))
        database.drop_collection("system.profile")
    assert asked and {one["ns"] for one in asked if one.get("planSummary") == "COLLSCAN"} == set()


def test_photos_are_found_among_others(album: fo.Dataset) -> None:
    everybody = queries.columns(album, (), {})
    done = queries.columns(album, (), queries.done(RUN))
    assert list(everybody.isin(done)) == [PHOTOS[p][0] is not None for p in album.values("photo")]
    assert done.isin(everybody).all() and not everybody.isin(done.taken(np.arange(0))).any()


@pytest.mark.parametrize("view", ["dataset", "view", "one state at a time"])
def test_counts_states_and_table_agree(album: fo.Dataset, view: str) -> None:
    set_review(album, RUN, "accepted", ids_of(album, "sure", "absent"))
    set_review(album, RUN, "rejected", ids_of(album, "good"))
    photos = {"dataset": album, "view": album.skip(2), "one state at a time": album.limit(1)}[view]
    found, states = review_table(photos, RUN), states_of(photos, RUN, photos.values("id"))
    assert dict(zip(found.ids, found.states, strict=True)) == states
    counts = review_counts(photos, RUN)
    assert {s: getattr(counts, s) for s in STATES} == {
        s: list(states.values()).count(s) for s in STATES
    }
    assert counts == found.counts()


def test_a_photo_that_the_run_has_not_come_to_has_no_mask(album: fo.Dataset) -> None:
    asked = [*ids_of(album, "sure", "failed", "untouched"), "0" * 24, "no id"]
    assert list(masks_in(album, RUN, asked).values()) == [True, False]


def test_a_limited_queue_begins_as_the_whole_one(album: fo.Dataset) -> None:
    whole = review_queue(album, RUN).values("id")
    assert len(whole) == 4 and review_queue(album, RUN, limit=2).values("id") == whole[:2]


def test_a_long_queue_is_put_in_order_in_parts(
    album: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = review_queue(album, RUN).values("id")
    monkeypatch.setattr(table, "HEAD", 1)
    parts = review_queue(album, RUN)
    assert parts.values("id") == whole == [sample.id for sample in parts]
    assert (
        len(parts) == 4 and parts.first().id == whole[0] and parts[1:3].values("id") == whole[1:3]
    )
    assert review_queue(album.skip(1), RUN).values("id") == [
        i for i in whole if i in album.skip(1).values("id")
    ]


def test_the_index_follows_the_fields(album: fo.Dataset) -> None:
    def indexed() -> set[str]:
        (keys,) = queries._indexes(album, RUN).values()
        return {key for key, _ in keys}

    assert f"{RUN}_review" not in indexed()
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    assert f"{RUN}_review" in indexed()
    # FiftyOne makes indexes anew when a user renames a field, which must find all of them there.
    album.rename_sample_field(f"{RUN}_score", "mine_only")
    album.rename_sample_field("mine_only", f"{RUN}_score")
    assert f"{RUN}_score" in indexed()
    fp.rename_run(album, RUN, "other")
    assert queries._indexes(album, "other") and not queries._indexes(album, RUN)
    fp.delete_run(album, "other")
    assert not queries._indexes(album, "other")


@pytest.mark.parametrize(
    "decisions",
    [{}, {"a" * 24: None}, {"a" * 24: "accepted", "0" * 24: "rejected", "b" * 24: None}],
)
def test_decisions_are_packed_and_unpacked(decisions: dict[str, str | None]) -> None:
    assert unpacked(packed(decisions)) == decisions
    assert unpacked(decisions) == decisions  # as earlier versions have stored them


def test_undoers_at_once_take_one_step_each(album: fo.Dataset) -> None:
    ids = ids_of(album, "sure", "good", "low_score")
    for one in ids:
        set_review(album, RUN, "accepted", [one])
    undone: list[int] = []
    threads = [
        threading.Thread(target=lambda: undone.append(undo_review(album, RUN))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert undone == [1, 1] and undo_steps(album, RUN) == 1
    assert review_counts(album, RUN).accepted == 1
    assert states_of(album, RUN, ids)[ids[0]] == "accepted"  # the first step is the one that stays


def test_who_decides_while_a_run_is_deleted_leaves_nothing(album: fo.Dataset) -> None:
    ids = ids_of(album, "sure", "good", "low_score", "low_presence")
    begun, refused = threading.Event(), []

    def decide() -> None:
        for number in range(40):
            begun.set()
            try:
                set_review(album, RUN, ("accepted", "rejected")[number % 2], ids)
            except fp.PersamError as error:
                refused.append(str(error))
                return

    reviewer = threading.Thread(target=decide)
    reviewer.start()
    begun.wait()
    fp.delete_run(album, RUN)
    reviewer.join()
    assert len(refused) == 1 and RUN in refused[0]
    album.reload()
    assert not album.has_field(f"{RUN}_review")
    assert not any(f"{RUN}_review" in one for one in album._sample_collection.find())
