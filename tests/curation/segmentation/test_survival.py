"""A run of hours survives what happens to runs of hours."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation.runs import lease
from fiftyone_persam.curation.runs.folders import MARK

from .. import jobs
from ..discs import Make, make_photos, state_of, tiny_sam

PHOTOS = 12
SEED = 20230504


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    made = dataset(make_photos(tmp_path, PHOTOS))
    made.persistent = True  # other processes end without asking
    return made


@pytest.fixture
def clone_of(dataset: Make) -> Callable[[fo.Dataset], fo.Dataset]:
    def make(original: fo.Dataset) -> fo.Dataset:
        copy = dataset(original.clone())
        copy.persistent = True
        return copy

    return make


def masks_of(dataset: fo.Dataset) -> dict[str, np.ndarray]:
    """What was found in each photo, by file name: the object is absent from some."""
    found = {}
    for sample in dataset:
        withheld = sample["x_withheld"] if dataset.has_field("x_withheld") else None
        found[sample.filename] = (withheld or sample["x"]).get_mask() > 0
    return found


def referenced_files(dataset: fo.Dataset) -> list[str]:
    found = []
    for name, field in dataset.get_field_schema().items():
        kind = getattr(field, "document_type", None)
        if name.partition("_")[0] != "x":  # another run, with a folder of its own
            continue
        if kind is fo.Segmentation:
            found += [path for path in dataset.values(f"{name}.mask_path") if path]
        elif kind is fo.Detections:
            paths = dataset.values(f"{name}.detections.mask_path", unwind=True)
            found += [path for path in paths if path]
    return found


def expect_whole(dataset: fo.Dataset, expected: dict[str, np.ndarray]) -> None:
    """Every sample has exactly one result, the right one, and every file is some sample's."""
    dataset.reload()
    run = fp.load_run(dataset, "x")
    assert run.state == "done"
    assert run.counts["segmented"] == len(expected) and run.counts["remaining"] == 0
    assert run.errors == {}
    for name, mask in masks_of(dataset).items():
        assert mask.shape == expected[name].shape
        # Photos in another batch may differ in the last bit of a logit.
        assert (mask != expected[name]).mean() < 0.005, name
    for suffix in ("score", "presence", "agreement", "similarity", "prompts", "instances"):
        assert None not in dataset.values(f"x_{suffix}"), suffix
    files = referenced_files(dataset)
    present = {path.name for path in run.masks_dir.iterdir()} - {MARK}
    wanted = {Path(path).name for path in files if Path(path).parent == run.masks_dir}
    assert not [name for name in present if name.endswith(".part")]
    assert wanted <= present
    # A whole file of a photo that was cut off before its database entry is its later result's.
    ids = set(dataset.values("id"))
    assert {name.split(".")[0] for name in present} <= ids
    for path in files:
        with Image.open(path) as image:
            image.load()  # raises on a file that is cut off


def expect_gone(dataset: fo.Dataset, before: dict[str, Any]) -> None:
    """Nothing of the run is left, neither in the database nor on the disk."""
    with pytest.raises(fp.PersamError, match="no run 'x'"):
        fp.load_run(dataset, "x")
    after = state_of(dataset)
    assert after["files"] == before["files"] and after["runs"] == []
    # The lease of a process that is dead keeps nobody out, and the next one takes it over.
    assert all(not lease.is_live(entry["value"]) for entry in after["store"])
    strip = ("last_modified_at",)
    for kept, now in zip(before["samples"], after["samples"], strict=True):
        assert {k: v for k, v in kept.items() if k not in strip} == {
            k: v for k, v in now.items() if k not in strip
        }
    names = [[field["name"] for field in s["dataset"]["sample_fields"]] for s in (before, after)]
    assert names[0] == names[1]
    assert after["dataset"]["mask_targets"] == before["dataset"]["mask_targets"]


def uninterrupted(dataset: fo.Dataset, report: Path, **changes: Any) -> tuple[float, int]:
    """Seconds and dangerous operations of a run that nobody stops."""
    jobs.finish(jobs.start(jobs.segment_job, dataset.name, None, None, out_field="warm_up"))
    dataset.reload()
    fp.delete_run(dataset, "warm_up")
    started = time.monotonic()
    job = jobs.start(jobs.segment_job, dataset.name, None, str(report), **changes)
    assert jobs.finish(job) == 0
    seconds = time.monotonic() - started
    dataset.reload()
    return seconds, json.loads(report.read_text())


def resume(dataset: fo.Dataset, **changes: Any) -> None:
    """What a user does next; a run that was not even registered is started again."""
    dataset.reload()
    if "x" in [run.name for run in fp.list_runs(dataset)]:
        assert fp.load_run(dataset, "x").state in ("interrupted", "done")
        fp.resume_run(dataset, "x", model=tiny_sam(), batch_size=3, num_workers=2)
    else:
        jobs.run_on(dataset, **changes)


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


# The database -------------------------------------------------------------------------------------


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


# The disk -----------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 64 KiB."""
    folder = tmp_path / "small_disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk(photos: fo.Dataset, small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(48 * 1024))
    with pytest.raises(fp.PersamError, match=r"No space left on device.*resume the run") as caught:
        jobs.run_on(photos, masks_dir=small_disk)
    assert "\n" not in str(caught.value)
    run = fp.load_run(photos, "x")
    assert run.state == "failed" and "No space left" in run.summary()
    names = [path.name for path in small_disk.iterdir()]
    assert not [name for name in names if name.endswith(".part")]
    for path in referenced_files(photos):
        with Image.open(path) as image:
            image.load()
    filler.unlink()
    small_disk_again = ["mount", "-o", "remount,size=4m", str(small_disk)]
    subprocess.run(small_disk_again, check=True)
    resumed = fp.resume_run(photos, "x", model=tiny_sam(), batch_size=3)
    assert resumed.state == "done" and resumed.counts["segmented"] == PHOTOS
    fp.delete_run(photos, "x")
    assert list(small_disk.iterdir()) == []


def test_files_that_cannot_grow(photos: fo.Dataset, tmp_path: Path) -> None:
    """The same without the right to mount: the process may write no file above some bytes."""
    whole = jobs.run_on(photos, out_field="whole")
    sizes = sorted(path.stat().st_size for path in whole.masks_dir.glob("*.png"))
    expected = {s.filename: s["whole_withheld"] or s["whole"] for s in photos}
    report = tmp_path / "error.json"
    job = jobs.start(jobs.limited_job, photos.name, str(report), sizes[-1] - 1)
    assert jobs.finish(job) == 0
    kind, message = json.loads(report.read_text())
    assert kind == "WriteError" and "File too large" in message and "resume the run" in message
    photos.reload()
    run = fp.load_run(photos, "x")
    assert run.state == "failed" and run.counts["failed"] == 0
    assert not list(run.masks_dir.glob(".*.part"))
    fp.resume_run(photos, "x", model=tiny_sam(), batch_size=3)
    expect_whole(photos, {name: label.get_mask() > 0 for name, label in expected.items()})


# The photos ---------------------------------------------------------------------------------------


def write_truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def write_animated(path: Path) -> None:
    frames = [Image.new("RGB", (40, 30), (60 * n, 90, 30)) for n in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def write_odd_name(path: Path) -> None:
    Image.new("RGB", (40, 30), (200, 50, 30)).save(path, "PNG")


def write_vast(path: Path) -> None:
    """One bit per pixel: a small file that would fill gigabytes."""
    Image.new("1", (20_000, 20_000)).save(path)


ODD_PHOTOS: list[tuple[str, Callable[[Path], Any], tuple[int, int] | str]] = [
    ("zero.jpg", lambda p: p.write_bytes(b""), "zero.jpg is empty"),
    ("truncated.png", write_truncated, "truncated.png cannot be decoded"),
    ("text.jpg", lambda p: p.write_text("no photo"), "text.jpg is not an image"),
    ("folder.jpg", lambda p: p.mkdir(), "folder.jpg is not a file"),
    ("pipe.jpg", os.mkfifo, "pipe.jpg is not a file"),
    ("vast.png", write_vast, "vast.png has more than"),
    ("png.jpg", write_odd_name, (30, 40)),
    ("no_suffix", write_odd_name, (30, 40)),
    ("one.png", lambda p: Image.new("RGB", (1, 1)).save(p), (1, 1)),
    ("strip.jpg", lambda p: Image.new("RGB", (20_000, 300), "red").save(p), (300, 20_000)),
    ("animated.gif", write_animated, (30, 40)),
    ("animated.webp", write_animated, (30, 40)),
    ("cmyk.jpg", lambda p: Image.new("CMYK", (40, 30), (9, 99, 9, 9)).save(p), (30, 40)),
    ("grey16.png", lambda p: Image.new("I;16", (40, 30), 9000).save(p), (30, 40)),
    ("ünï çödé\n.png", lambda p: Image.new("RGB", (40, 30)).save(p), (30, 40)),
]


def test_odd_photos_cost_only_themselves(photos: fo.Dataset, tmp_path: Path) -> None:
    expected: dict[str, tuple[int, int] | str] = {}
    for name, write, outcome in ODD_PHOTOS:
        path = tmp_path / name
        write(path)
        expected[photos.add_sample(fo.Sample(str(path), media_type="image"))] = outcome
    gone, deleted, changed = photos.skip(2).limit(3)
    expected[gone.id] = f"{gone.filename} does not exist"
    expected[changed.id] = (70, 50)
    done_with = [*photos.values("id")]

    def meddle(done: int, total: int) -> None:
        """Between listing and reading."""
        if done == 0:
            Path(gone.filepath).unlink()
            Image.new("RGB", (50, 70), (9, 90, 200)).save(changed.filepath)
            photos.delete_samples([deleted.id])

    run = jobs.run_on(photos, progress=meddle)
    assert run.state == "done"
    done_with.remove(deleted.id)
    assert photos.values("id") == done_with
    for sample in photos:
        outcome = expected.get(sample.id, (48, 64))
        error = sample["x_error"]
        if isinstance(outcome, str):
            assert error is not None and outcome in error and "\n" not in error
            assert sample["x"] is None and run.errors[sample.id] == error
        else:
            assert error is None, error
            assert sample["x"].get_mask().shape == outcome, sample.filename
    assert run.counts["remaining"] == 0
    assert run.counts["segmented"] + run.counts["failed"] == len(done_with)


# Somebody else ------------------------------------------------------------------------------------


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
