"""Stopping a run that goes on elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import pytest
import torch

import fiftyone_persam as fp
from fiftyone_persam.curation import objects_in
from fiftyone_persam.curation.runs import stopping

from ...films import moving_discs
from ..discs import Make, make_photos, tiny_sam
from ..jobs import context, finish, held_job, run_on, start


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 6))


def test_a_run_of_another_thread_stops_at_its_next_photo(
    photos: fo.Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stopping, "INTERVAL", 0)
    asked: list[bool] = []

    def ask(done: int, total: int) -> None:
        if done and not asked:
            thread = threading.Thread(target=lambda: asked.append(fp.stop_run(photos.view(), "x")))
            thread.start()
            thread.join()

    with pytest.raises(fp.RunStoppedError, match=r"'x' was stopped at \d of 6 photos: resume it"):
        run_on(photos, batch_size=1, progress=ask, presence_threshold=0)
    assert asked == [True]
    run = fp.load_run(photos, "x")
    assert run.state == "interrupted" and run.counts["remaining"] > 0
    assert run.counts["segmented"] == photos.count("x") > 0
    resumed = fp.resume_run(photos, "x", model=tiny_sam())  # the request was for one call
    assert resumed.state == "done" and resumed.counts["segmented"] == 6


def test_a_run_of_another_process_stops(photos: fo.Dataset) -> None:
    begun, go_on = context().Event(), context().Event()
    process = start(held_job, photos.name, begun, go_on)
    assert begun.wait(120)
    assert fp.stop_run(photos, "x")
    go_on.set()
    assert finish(process) == 1  # the error of a stopped run
    assert fp.load_run(photos, "x").state == "interrupted"


def test_nothing_to_stop(photos: fo.Dataset) -> None:
    with pytest.raises(fp.PersamError, match="no run 'x'"):
        fp.stop_run(photos, "x")
    run_on(photos)
    assert fp.stop_run(photos, "x") is False
    # What was asked of a run that is over, by a form that knew no better, is for nobody.
    stopping.request_stop(photos, "x")
    assert run_on(photos, overwrite=True).state == "done"


@pytest.mark.parametrize("threads", [1, 2], ids=["batches", "side by side"])
def test_a_run_over_a_film_stops_at_its_next_frame(
    dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Also where it only looks again at frames that it has; what it comes to is the same."""
    monkeypatch.setattr(stopping, "INTERVAL", 0)
    videos = dataset([moving_discs(tmp_path / "film.mp4", 8)])
    settings = {"method": "persam", "model": tiny_sam(), "presence_threshold": 0}
    objects = objects_in((videos.first(), 1))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    one = {} if threads > 1 else {"batch_size": 1}
    try:
        whole = fp.segment(videos, objects, out_field="whole", progress=False, **one, **settings)
        asked: list[bool] = []

        def ask(done: int, total: int) -> None:
            if done >= 2 and not asked:
                asked.append(fp.stop_run(videos, "x"))

        with pytest.raises(fp.RunStoppedError, match=r"'x' was stopped at \d of 8 photos"):
            fp.segment(videos, objects, out_field="x", progress=ask, **one, **settings)
        stopped = fp.load_run(videos, "x")
        assert asked == [True] and stopped.state == "interrupted"
        done = stopped.counts["segmented"]
        assert 2 <= done <= 6 and stopped.counts["remaining"] == 8 - done
        with pytest.raises(fp.RunStoppedError, match=r"stopped at 0 of"):  # seen again
            fp.resume_run(videos, "x", model=tiny_sam(), progress=_ask_at_once(videos), **one)
        assert fp.load_run(videos, "x").counts["segmented"] == done
        run = fp.resume_run(videos, "x", model=tiny_sam(), progress=False, **one)
    finally:
        torch.set_num_threads(before)
    assert (run.state, run.counts) == ("done", whole.counts)
    for frame in videos.first().frames.values():
        for found, same in zip(frame["whole"].detections, frame["x"].detections, strict=True):
            assert found.label == same.label and found.bounding_box == same.bounding_box
            assert (found.mask == same.mask).all()


def _ask_at_once(videos: fo.Dataset) -> Callable[[int, int], None]:
    return lambda done, total: stopping.request_stop(videos, "x") if done == 0 else None
