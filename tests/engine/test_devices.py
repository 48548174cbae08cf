"""Several processes share a job; what dies costs no photo."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fiftyone_persam.engine import DevicesBackend, DiskCache, Job, LocalBackend, WriteError
from fiftyone_persam.engine.worker import pack
from fiftyone_persam.errors import PersamError

from .fitted import DEADLY_WIDTH, Deadly, make_job, paint
from .processes import needs_proc, workers_of


def collect(chunks: Iterator[list[Any]], job: Job) -> dict[str, Any]:
    """Results by id; every photo has exactly one."""
    results = [result for chunk in chunks for result in chunk]
    assert sorted(result.id for result in results) == sorted(task.id for task in job.tasks)
    return {result.id: result for result in results}


def children() -> set[int]:
    return workers_of(os.getpid())


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return make_job(tmp_path, 10)


@pytest.mark.slow
@needs_proc
def test_a_process_is_killed_in_the_middle(job: Job, tmp_path: Path) -> None:
    expected = collect(LocalBackend().run(job), job)
    masks = {name: Image.open(one.mask.path).tobytes() for name, one in expected.items()}
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    first_two: set[int] = set()

    def killing() -> Iterator[list[Any]]:
        results = DevicesBackend(["cpu", "cpu"]).run(job)
        for number, chunk in enumerate(filter(None, results)):
            if number == 1:
                first_two.update(children())
                os.kill(min(first_two), signal.SIGKILL)
            yield chunk

    found = collect(killing(), job)
    assert len(first_two) == 2
    assert children() == set()
    for name, result in found.items():
        assert result.error is None
        assert result.score == pytest.approx(expected[name].score, abs=1e-4)
        assert Image.open(result.mask.path).tobytes() == masks[name]
    assert len(list((tmp_path / "masks").iterdir())) == 10
    assert job.timings.photos_encoded >= 10


@pytest.mark.slow
@needs_proc
def test_a_photo_that_kills_its_process_costs_only_itself(tmp_path: Path) -> None:
    job = make_job(tmp_path, 4, Deadly)
    Image.fromarray(paint(2, DEADLY_WIDTH)[0]).save(job.tasks[2].path)
    found = collect(DevicesBackend(["cpu"]).run(job), job)
    errors = {name: result.error for name, result in found.items() if result.error}
    assert errors == {"photo2": "its worker died 3 times, the last time: on cpu: it was ended by "
                      "SIGKILL"}  # fmt: skip


@needs_proc
def test_closing_ends_the_processes(job: Job) -> None:
    results = DevicesBackend(["cpu", "cpu"]).run(job)
    next(results)
    assert children()
    results.close()
    assert children() == set()


@pytest.mark.slow
@needs_proc
def test_errors_come_through(job: Job, tmp_path: Path) -> None:
    """A bad photo is its own error; a disk that takes no masks ends the job."""
    Path(job.tasks[3].path).write_bytes(b"no photo")
    (tmp_path / "masks").rmdir()
    (tmp_path / "masks").write_bytes(b"in the way")
    with pytest.raises(WriteError, match=r"cannot write .*resume the run"):
        list(DevicesBackend(["cpu"]).run(job))
    (tmp_path / "masks").unlink()
    found = collect(DevicesBackend(["cpu"]).run(job), job)
    errors = [name for name, result in found.items() if result.error]
    assert errors == ["photo3"]
    assert "3.png is not an image" in found["photo3"].error


def test_processes_share_a_cache(tmp_path: Path) -> None:
    job = make_job(tmp_path, 3, cache=DiskCache(tmp_path / "cache"))
    collect(LocalBackend().run(job), job)
    assert job.timings.photos_encoded == 3
    collect(DevicesBackend(["cpu"]).run(job), job)
    assert job.timings.photos_encoded == 3


def test_a_job_without_photos_starts_nothing(tmp_path: Path) -> None:
    assert list(DevicesBackend(["cpu"]).run(make_job(tmp_path, 0))) == []


def test_a_model_that_cannot_travel(job: Job) -> None:
    job.sam.sam.image_encoder.hook = lambda: None
    try:
        with pytest.raises(PersamError, match=r"tiny or its cache cannot be sent .*: use"):
            pack(job, 1)
    finally:
        del job.sam.sam.image_encoder.hook


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("cpu", "'cpu' is not a list of devices: give"),
        ([], r"\[\] is not a list of devices: give"),
        (3, "3 is not a list of devices: give"),
        (["cpu", "gpu0"], "device 'gpu0' is not known: use"),
        (["cpu", "meta"], "device 'meta' computes nothing: use"),
    ],
)
def test_devices_that_are_none(devices: Any, message: str) -> None:
    with pytest.raises(PersamError, match=message):
        DevicesBackend(devices)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_no_device_there() -> None:
    with pytest.raises(PersamError, match="no CUDA device: use backend='local'"):
        DevicesBackend()
