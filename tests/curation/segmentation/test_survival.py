"""A run of hours survives processes that are killed, a database that dies, and somebody else."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_persam as fp

from .. import jobs
from ..discs import Make, make_photos, state_of
from .survivors import (
    expect_gone,
    expect_whole,
    masks_of,
    persistent,
    resume,
    uninterrupted,
)

PHOTOS = 12
SEED = 20230504


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return persistent(dataset(make_photos(tmp_path, PHOTOS)))


@pytest.fixture
def clone_of(dataset: Make) -> Callable[[fo.Dataset], fo.Dataset]:
    def make(original: fo.Dataset) -> fo.Dataset:
        return persistent(dataset(original.clone()))

    return make


@pytest.mark.slow
def test_kill_minus_nine_at_twenty_moments(
    photos: fo.Dataset, clone_of: Callable[[fo.Dataset], fo.Dataset], tmp_path: Path
) -> None:
    """Half at a dangerous operation, half at any time; with and without absent objects."""
    moments = random.Random(SEED)
    killed = 0
    for threshold in (0.0, 0.5):
        whole = clone_of(photos)
        seconds, operations = uninterrupted(
            whole, tmp_path / "operations.json", presence_threshold=threshold
        )
        expected = masks_of(whole)
        for trial in range(10):
            copy = clone_of(photos)
            before = state_of(copy)
            if trial % 2:
                blows_at = moments.randint(1, operations)
                job = jobs.start(
                    jobs.segment_job, copy.name, blows_at, None, presence_threshold=threshold
                )
            else:
                job = jobs.start(
                    jobs.segment_job, copy.name, None, None, presence_threshold=threshold
                )
                job.join(moments.uniform(0, seconds))
                job.kill()
            code = jobs.finish(job)
            assert code in (0, -signal.SIGKILL)
            killed += code != 0
            resume(copy, presence_threshold=threshold)
            expect_whole(copy, expected)
            if trial < 3:
                fp.delete_run(copy, "x")
                expect_gone(copy, before)
            copy.delete()
    assert killed >= 10  # those at an operation always die


def test_a_killed_deletion_is_deleted_again(
    photos: fo.Dataset, clone_of: Callable[[fo.Dataset], fo.Dataset], tmp_path: Path
) -> None:
    report = tmp_path / "operations.json"
    moments = random.Random(SEED)
    before, operations, trials = None, 0, 6
    for trial in range(trials):
        copy = clone_of(photos)
        before = state_of(copy)
        run = jobs.run_on(copy)
        fp.curation.set_review(copy.limit(2), "x", "accepted")
        if not operations:
            assert jobs.finish(jobs.start(jobs.delete_job, copy.name, None, str(report))) == 0
            operations = json.loads(report.read_text())
        else:
            blows_at = moments.randint(
                1 + (trial - 1) * operations // (trials - 1), trial * operations // (trials - 1)
            )
            killed = jobs.finish(jobs.start(jobs.delete_job, copy.name, blows_at, None))
            assert killed == -signal.SIGKILL
            if [run.name for run in fp.list_runs(copy)]:  # it had not begun
                fp.delete_run(copy, "x")
        copy.reload()
        expect_gone(copy, before)
        assert not run.masks_dir.exists()


def test_a_killed_renaming_is_renamed_again(
    photos: fo.Dataset, clone_of: Callable[[fo.Dataset], fo.Dataset], tmp_path: Path
) -> None:
    report = tmp_path / "operations.json"
    first = clone_of(photos.limit(3))
    jobs.run_on(first)
    fp.curation.set_review(first.limit(2), "x", "accepted")
    original, unharmed = clone_of(first), clone_of(first)
    assert jobs.finish(jobs.start(jobs.rename_job, unharmed.name, None, str(report))) == 0
    operations = json.loads(report.read_text())
    for blows_at in range(1, operations + 1, 3):
        copy = clone_of(original)
        ids = copy.values("x.id")
        killed = jobs.finish(jobs.start(jobs.rename_job, copy.name, blows_at, None))
        assert killed == -signal.SIGKILL
        if fp.list_runs(copy)[0].name == "x":  # it had not begun
            fp.rename_run(copy, "x", "y")
        run = fp.load_run(copy, "y")
        assert run.state == "done" and run.counts["segmented"] == 3
        assert copy.values("y.id") == ids
        assert not [name for name in copy.get_field_schema() if name.startswith("x")]
        assert fp.curation.review_counts(copy, "y").accepted == 2
        assert fp.rename_run(copy, "y", "z").counts["segmented"] == 3
        copy.delete()


def test_the_database_dies_twice_and_comes_back(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.curation.away", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.strip().splitlines()[-1])
    assert found["deaths"] == found["returns"] == 2
    assert found["state"] == "done" and found["missing"] == []
    assert found["counts"]["segmented"] == PHOTOS and found["counts"]["remaining"] == 0
    assert len(found["paths"]) == PHOTOS and set(found["paths"]) <= set(found["masks"])
    assert not [name for name in found["masks"] if name.endswith(".part")]


def test_two_runs_into_one_field_at_once(photos: fo.Dataset) -> None:
    events = jobs.context()
    begun, go_on = events.Event(), events.Event()
    job = jobs.start(jobs.held_job, photos.name, begun, go_on)
    try:
        assert begun.wait(120)
        before = [run.name for run in fp.list_runs(photos)]
        state = state_of(photos)
        for changes in ({}, {"skip_existing": True}, {"overwrite": True}):
            with pytest.raises(fp.RunConflictError, match="run 'x'") as caught:
                jobs.run_on(photos, **changes)
            assert "\n" not in str(caught.value)
        with pytest.raises(fp.RunConflictError, match=f"'x'.*process {job.pid} on"):
            fp.delete_run(photos, "x")
        with pytest.raises(fp.RunConflictError, match="'x_score' belongs to run 'x'"):
            jobs.run_on(photos, out_field="x_score")
        assert [run.name for run in fp.list_runs(photos)] == before == ["x"]
        after = state_of(photos)
        for part in ("runs", "files", "samples"):
            assert after[part] == state[part]
    finally:
        go_on.set()
        assert jobs.finish(job) == 0
    photos.reload()
    assert fp.load_run(photos, "x").counts["segmented"] == PHOTOS
