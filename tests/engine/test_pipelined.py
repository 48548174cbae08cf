"""A job on a device that computes by itself gives what every job gives."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fiftyone_persam.engine import Job, LocalBackend, MemoryCache, PhotoResult, pipelined
from fiftyone_persam.engine.job import Timings
from fiftyone_persam.personalize.pending import PendingPredictions

from .fitted import make_job


def in_steps(job: Job, **speed: Any) -> Job:
    """The same job with a method that is asked in steps, on whatever device."""
    method = job.predictors[""]
    sam = job.sam.with_speed(passes=True, **speed)  # type: ignore[attr-defined]
    steps = type(method)(sam, **method.settings)  # type: ignore[attr-defined]
    steps._state = method._state  # type: ignore[attr-defined]
    output = replace(job.output, masks_dir=job.output.masks_dir / "steps")
    return replace(job, sam=sam, predictors={"": steps}, output=output, timings=Timings())


def run(job: Job) -> dict[str, PhotoResult]:
    results = [one for chunk in LocalBackend().run(job) for one in chunk]
    found = {one.id: one for one in results}
    assert len(found) == len(results) == len(job.tasks)
    return found


def pixels(result: PhotoResult) -> Any:
    assert result.mask is not None
    kept = result.mask.array
    return np.asarray(Image.open(result.mask.path)) if kept is None else kept  # type: ignore[arg-type]


def assert_same(found: dict[str, PhotoResult], wanted: dict[str, PhotoResult]) -> None:
    for name, one in wanted.items():
        assert found[name].error == one.error
        assert (found[name].stage, found[name].absent) == (one.stage, one.absent)
        if one.error is None:
            np.testing.assert_array_equal(pixels(found[name]), pixels(one))


@pytest.mark.parametrize(("photos", "batch_size"), [(1, 4), (8, 4), (9, 4), (5, 1)])
def test_every_photo_once_and_as_ever(tmp_path: Path, photos: int, batch_size: int) -> None:
    job = make_job(tmp_path, photos, batch_size=batch_size)
    steps = in_steps(job)
    assert pipelined.can_run(steps) and not pipelined.can_run(job)
    assert_same(run(steps), run(job))
    assert steps.timings.photos_encoded == photos
    assert steps.timings.encoding > 0 and steps.timings.decoding > 0


def test_the_next_batch_is_encoded_before_this_one_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = in_steps(make_job(tmp_path, 6, batch_size=2))
    order: list[str] = []
    begin, decode = PendingPredictions.__init__, PendingPredictions.decode
    numbers: dict[int, int] = {}

    def beginning(self: Any, *args: Any) -> None:
        numbers[id(self)] = len(numbers)
        order.append(f"encoded {numbers[id(self)]}")
        begin(self, *args)

    def decoding(self: Any) -> None:
        order.append(f"decoded {numbers[id(self)]}")
        decode(self)

    monkeypatch.setattr(PendingPredictions, "__init__", beginning)
    monkeypatch.setattr(PendingPredictions, "decode", decoding)
    run(job)
    expected = ["encoded 0", "encoded 1", "decoded 0", "encoded 2", "decoded 1", "decoded 2"]
    assert order == expected


@pytest.mark.parametrize("fault", ["missing", "damaged"])
def test_a_bad_photo_costs_only_itself(tmp_path: Path, fault: str) -> None:
    job = make_job(tmp_path, 6, batch_size=3)
    bad = Path(job.tasks[4].path)
    bad.unlink() if fault == "missing" else bad.write_bytes(b"no photo")
    found = run(in_steps(job))
    assert [name for name, one in found.items() if one.error] == [job.tasks[4].id]
    assert_same(found, run(job))


@pytest.mark.parametrize("step", ["__init__", "decode", "prediction"])
def test_what_fails_is_found_out(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A photo that spoils its batch costs itself alone, whichever step it fails at."""
    job = make_job(tmp_path, 7, batch_size=4)
    wide = Image.open(job.tasks[5].path).resize((80, 48))
    wide.save(job.tasks[5].path)
    original = getattr(PendingPredictions, step)

    def failing(self: Any, *args: Any) -> Any:
        found = original(self, *args)
        rows = range(len(self._embeddings)) if step != "prediction" else args
        if any(self._embeddings[row].original_size[1] == 80 for row in rows):
            raise RuntimeError("spoilt\nbatch")
        return found

    monkeypatch.setattr(PendingPredictions, step, failing)
    found = run(in_steps(job))
    failed = {name: one.error for name, one in found.items() if one.error}
    assert failed == {job.tasks[5].id: "RuntimeError: spoilt batch"}


@pytest.mark.parametrize("step", ["__init__", "decode"])
def test_too_little_memory_halves_the_batches(
    step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(tmp_path, 16, batch_size=8)
    original = getattr(PendingPredictions, step)
    refused: list[int] = []

    def small(self: Any, *args: Any) -> Any:
        photos = args[1] if step == "__init__" else self._embeddings
        if len(photos) > 3:
            refused.append(len(photos))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
        return original(self, *args)

    monkeypatch.setattr(PendingPredictions, step, small)
    found = run(in_steps(job))
    assert [one.error for one in found.values()] == [None] * 16
    assert 8 in refused and len(refused) <= 6


def test_known_embeddings_are_not_computed_again(tmp_path: Path) -> None:
    job = replace(make_job(tmp_path, 5, batch_size=2), cache=MemoryCache())
    first, second = in_steps(job), in_steps(job)
    wanted = run(first)
    assert_same(run(second), wanted)
    assert second.timings.photos_encoded == 0
    # Those of photos that the device resizes are others.
    third = in_steps(job, resize=True)
    run(third)
    assert third.timings.photos_encoded == 5


def test_closing_stops_the_job(tmp_path: Path) -> None:
    job = in_steps(make_job(tmp_path, 12, batch_size=2))
    results = LocalBackend().run(job)
    next(results)
    results.close()
    assert job.timings.photos_encoded < 12
