"""The list of a dataset's fields, changed by several processes together."""

from __future__ import annotations

import os
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.runs import lease, schema

from .. import jobs
from ..discs import SIZE, Make, make_photos

PROCESSES = 3
TRIES = int(os.environ.get("PERSAM_TRIES", "2"))
"""How often as many runs are begun together: PERSAM_TRIES=40 for a thorough look."""


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    made = dataset(make_photos(tmp_path, 3))
    made.persistent = True  # other processes end without asking
    return made


def test_fields_of_several_processes(photos: fo.Dataset) -> None:
    together = jobs.context().Barrier(PROCESSES)
    started = [
        jobs.start(jobs.fields_job, photos.name, f"p{n}_", 6, together) for n in range(PROCESSES)
    ]
    assert [jobs.finish(job) for job in started] == [0] * PROCESSES
    expected = {f"p{n}_{number}" for n in range(PROCESSES) for number in range(6)}
    assert expected <= schema.stored_fields(photos)


@pytest.mark.parametrize("number", range(TRIES))
def test_three_runs_at_once(photos: fo.Dataset, number: int) -> None:
    """Each try on a dataset of its own: whoever loses a field loses it in some tries only."""
    together = jobs.context().Barrier(PROCESSES)
    names = ["x", "y", "z"]
    started = [jobs.start(jobs.beside_job, photos.name, name, together) for name in names]
    assert [jobs.finish(job) for job in started] == [0] * PROCESSES
    # As the database has it, with nothing of this process's in between.
    fields = schema.stored_fields(photos)
    photos.reload()
    assert photos.first().filepath  # a field that is not declared makes every sample unreadable
    assert {run.name: run.state for run in fp.list_runs(photos)} == dict.fromkeys(names, "done")
    for name in names:
        run = fp.load_run(photos, name)
        assert run.counts["segmented"] == len(photos) and run.counts["remaining"] == 0
        late = {f"{name}_withheld", f"{name}_instances_withheld"}
        assert set(run.fields.types()) - fields <= late
        assert photos.mask_targets[name] == {255: "object"}
        for sample in photos:
            kept = sample[f"{name}_withheld"] if f"{name}_withheld" in fields else None
            mask = (kept or sample[name]).get_mask()
            assert mask.shape == SIZE and np.isin(mask, (0, 255)).all()


def test_fields_are_renamed_and_deleted_with_all_that_names_them(photos: fo.Dataset) -> None:
    schema.add_fields(photos, {"a": fo.FloatField(), "b": fo.FloatField()})
    photos.create_index("a")
    schema.name_values(photos, "a", {1: "one"})
    schema.rename_fields(photos, {"a": "c", "gone": "d"})
    assert not photos.has_field("a") and photos.has_field("c") and not photos.has_field("d")
    assert photos.mask_targets == {"c": {1: "one"}}
    schema.delete_fields(photos, ["c", "gone"])
    assert not photos.has_field("c") and photos.has_field("b")
    assert photos.mask_targets == {} and "c" not in photos.list_indexes()


def test_a_locked_field_is_one_line(photos: fo.Dataset) -> None:
    field = photos.get_field("ground_truth")
    field.read_only = True
    field.save()
    schema.check_unlocked(photos, ["colour", "nothing"], "this")
    with pytest.raises(fp.PersamError, match=r"'ground_truth' is locked.*so this is not") as caught:
        schema.check_unlocked(photos, ["colour", "ground_truth"], "this")
    assert "\n" not in str(caught.value)


def test_the_lease_of_a_dead_process_is_taken_over_and_removed(photos: fo.Dataset) -> None:
    store = lease._store(photos._doc.id)
    dead = {**lease._me(), "token": "t", "time": lease.time.time()}
    # Another process has the number of the one that died.
    store.set("x", {**dead, "started": dead["started"] - 100})
    store.set("y", {**dead, "pid": 2**22 + 1})
    store.set("z", {**dead, "token": "mine"})
    assert lease.holder_of(photos, "z")["pid"] == os.getpid()
    with lease.Lease(photos, "y"):
        pass
    assert fp.list_runs(photos) == []
    assert store.list_keys() == ["z"]
