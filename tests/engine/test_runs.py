"""Whole runs through other back ends: the same record, fields and resume as in one process."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.engine import DevicesBackend, MemoryCache

from ..curation import jobs
from ..curation.discs import Make, make_photos, tiny_sam
from ..films import moving_discs, placed
from .processes import needs_proc, workers_of

PHOTOS = 10


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    made = dataset(make_photos(tmp_path, PHOTOS))
    made.persistent = True  # other processes end without asking
    return made


@pytest.mark.slow
@needs_proc
def test_a_run_on_two_devices_one_of_which_dies(photos: fo.Dataset, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no photo")
    photos.add_sample(fo.Sample(str(tmp_path / "bad.png")))
    expected = jobs.run_on(photos, out_field="expected", presence_threshold=0)
    killed: list[int] = []

    def kill(done: int, total: int) -> None:
        if done and not killed:
            killed.append(min(workers_of(os.getpid())))
            os.kill(killed[0], signal.SIGKILL)

    run = jobs.run_on(
        photos,
        backend=DevicesBackend(["cpu", "cpu"]),
        batch_size=1,
        presence_threshold=0,
        progress=kill,
    )
    assert killed and run.state == "done"
    assert run.config.backend == "devices" and "on cpu (devices)" in run.summary()
    assert run.counts == expected.counts == {"segmented": PHOTOS, "absent": 0, "failed": 1,
                                             "remaining": 0}  # fmt: skip
    assert [text.partition(":")[0] for text in run.errors.values()] == [
        text.partition(":")[0] for text in expected.errors.values()
    ]
    assert run.timings["photos_encoded"] >= PHOTOS
    for sample in photos.limit(PHOTOS):
        ours, theirs = sample["x"].get_mask() > 0, sample["expected"].get_mask() > 0
        assert (ours != theirs).mean() < 0.005
        assert sample["x_score"] == pytest.approx(sample["expected_score"], abs=1e-3)
    names = [path.name for path in run.masks_dir.glob("*.png")]
    assert sorted(n for n in names if n.count(".") == 1) == sorted(
        f"{sample_id}.png" for sample_id in photos.limit(PHOTOS).values("id")
    )


@pytest.mark.slow
@needs_proc
def test_workers_end_with_a_run_that_is_killed(photos: fo.Dataset) -> None:
    job = jobs.start(jobs.segment_job, photos.name, None, None, backend=DevicesBackend(["cpu"]))
    deadline = time.monotonic() + 60
    while not (workers := workers_of(job.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(workers) == 1
    os.kill(job.pid, signal.SIGKILL)
    assert jobs.finish(job) == -signal.SIGKILL
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    photos.reload()
    assert fp.load_run(photos, "x").config.backend == "devices"
    resumed = fp.resume_run(photos, "x", model=tiny_sam(), backend="local")
    assert resumed.state == "done" and resumed.counts["remaining"] == 0
    assert resumed.config.backend == "local"


def test_what_cannot_be_shared_is_refused_before_anything_is_written(photos: fo.Dataset) -> None:
    with pytest.raises(fp.PersamError, match="MemoryCache belongs to one process: give cache=True"):
        jobs.run_on(photos, backend=DevicesBackend(["cpu"]), cache=MemoryCache())
    assert fp.list_runs(photos) == []


def test_ray_that_is_not_installed(photos: fo.Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # what Python itself does for "cannot import"
    with pytest.raises(fp.PersamError, match=r"pip install fiftyone-persam\[ray\]"):
        jobs.run_on(photos, backend="ray")
    assert fp.list_runs(photos) == []


def test_local_by_name(photos: fo.Dataset) -> None:
    run = jobs.run_on(photos.limit(2), backend="local", presence_threshold=0)
    assert run.counts["segmented"] == 2
    assert run.config.backend == "local" and "on cpu\n" in run.summary()


@pytest.mark.slow
def test_several_objects_of_films_on_two_devices(dataset: Make, tmp_path: Path) -> None:
    """A film is followed in one process, and is what it is where there is only one."""
    films = dataset([moving_discs(tmp_path / f"{name}.mp4", 4) for name in "ab"])
    objects = curation.objects_in((films.first(), 1))
    settings = {"method": "persam", "model": tiny_sam(), "presence_threshold": 0}
    backend = DevicesBackend(["cpu", "cpu"])
    here = fp.segment(films, objects, out_field="here", progress=False, **settings)
    there = fp.segment(
        films, objects, out_field="there", progress=False, backend=backend, **settings
    )
    assert (there.config.backend, there.counts) == ("devices", here.counts)
    assert there.counts["segmented"] == 8
    tracks = set()
    for film in films:
        for frame in film.frames.values():
            for one, same in zip(frame["here"].detections, frame["there"].detections, strict=True):
                assert (one.label, one.index) == (same.label, same.index)
                assert fp.iou(placed(one), placed(same)) > 0.98
                tracks.add((film.id, same.label, same.instance.id))
    assert len(tracks) == 4
