"""Sequences: one session, in order, whole; whatever back end and whatever fails."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from fiftyone_persam.engine import (
    BACKENDS,
    Job,
    LocalBackend,
    MemoryCache,
    PhotoResult,
    PhotoTask,
    available_backends,
    backend_name,
    choose_backend,
)
from fiftyone_persam.engine.devices import DevicesBackend
from fiftyone_persam.engine.sequences import (
    BACKWARDS,
    around_labels,
    arranged,
    track_name,
    with_earlier_frames,
)
from fiftyone_persam.engine.sharding import DEATHS_OF_A_PHOTO, Shards
from fiftyone_persam.errors import PersamError, PhotoError
from fiftyone_persam.personalize import Prediction
from fiftyone_persam.sam import ImageEmbedding
from fiftyone_persam.sam.frames import load_frame

from .fitted import FramewisePerSAM, make_job
from .predictions import prediction

Array = np.ndarray[Any, Any]


class Counting:
    """Carries state: the score of a frame is how many of its sequence were seen before it."""

    def __init__(self, fail_on: int | None = None) -> None:
        self.fail_on = fail_on
        self.opened = 0

    def predict_embeddings(self, embeddings: Sequence[ImageEmbedding]) -> list[Prediction]:
        return [replace(_whole(one), score=-1.0) for one in embeddings]

    def session(self) -> _Session:
        self.opened += 1
        return _Session(self.fail_on)


class _Session:
    def __init__(self, fail_on: int | None) -> None:
        self.fail_on = fail_on
        self.seen = 0

    def open(self, first: ImageEmbedding) -> Prediction:
        return self.step(first)

    def step(self, embedding: ImageEmbedding) -> Prediction:
        self.seen += 1
        if self.fail_on == self.seen:
            raise RuntimeError("lost\nit")
        return replace(_whole(embedding), score=float(self.seen))


def _whole(embedding: ImageEmbedding) -> Prediction:
    return prediction(np.ones(embedding.original_size, np.bool_))


@pytest.fixture(params=["batches", "side by side"])
def job(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Nine tasks over nine photos: two sequences, shuffled, and a photo by itself."""
    made = make_job(tmp_path, 9)
    order = [3, 0, 2, 1]
    tasks = [
        replace(task, sequence="ab"[n % 2], order=order[n // 2]) if n < 8 else task
        for n, task in enumerate(made.tasks)
    ]
    made.tasks = tasks
    made.predictors = {"": Counting()}
    made.batch_size = 3 if request.param == "batches" else None
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield made
    torch.set_num_threads(before)


def collect(job: Job) -> list[PhotoResult]:
    return [result for chunk in LocalBackend().run(job) for result in chunk]


def test_frames_come_in_order_to_one_session(job: Job) -> None:
    results = collect(job)
    by_id = {task.id: task for task in job.tasks}
    for name in "ab":
        frames = [r for r in results if by_id[r.id].sequence == name]
        assert [by_id[r.id].order for r in frames] == [0, 1, 2, 3]
        assert [r.score for r in frames] == [1, 2, 3, 4]
    assert [r.score for r in results if r.id == "photo8"] == [-1]
    assert job.predictors[""].opened == 2  # type: ignore[attr-defined]


def test_a_group_has_sessions_of_its_own(job: Job) -> None:
    job.tasks = [replace(task, sequence="a", group="xy"[n % 2]) for n, task in enumerate(job.tasks)]
    job.predictors = {"x": Counting(), "y": Counting()}
    scores = {result.id: result.score for result in collect(job)}
    assert sorted(scores.values()) == [1, 1, 2, 2, 3, 3, 4, 4, 5]  # type: ignore[type-var]


def test_a_frame_that_fails_costs_only_itself(job: Job) -> None:
    """Neither a bad file nor a method's fault ends a session, and no frame is seen twice."""
    Path(job.tasks[2].path).write_bytes(b"no photo")  # sequence a, frame 0
    job.predictors = {"": Counting(fail_on=2)}
    found = {result.id: result for result in collect(job)}
    assert "is not an image" in str(found["photo2"].error)
    of_a = [found[name] for name in ("photo6", "photo4", "photo0")]
    assert [one.score for one in of_a] == [1, None, 3]
    assert of_a[1].error == "RuntimeError: lost it"


def test_a_photo_that_spoils_its_batch_does_not_disturb_a_session(job: Job) -> None:
    class Fussy(Counting):
        def predict_embeddings(self, embeddings: Sequence[ImageEmbedding]) -> list[Prediction]:
            raise RuntimeError("spoilt")

    job.predictors = {"": Fussy()}
    results = {result.id: result for result in collect(job)}
    assert results["photo8"].error == "RuntimeError: spoilt"
    scores = sorted(r.score for name, r in results.items() if name != "photo8")  # type: ignore[type-var]
    assert scores == [1, 1, 2, 2, 3, 3, 4, 4]


def test_a_real_method_is_the_same_over_frames_as_over_photos(tmp_path: Path) -> None:
    """The default session wraps any method; cached embeddings serve it, too."""
    made = make_job(tmp_path, 3, FramewisePerSAM, cache=MemoryCache())
    plain = {r.id: r for r in collect(made)}
    made.tasks = [replace(t, sequence="film", order=n) for n, t in enumerate(made.tasks)]
    for result in collect(made):
        assert result.error is None and result.score == plain[result.id].score
    assert made.timings.photos_encoded == 3


class CountingPerSAM(FramewisePerSAM):
    """A real method whose session counts; workers load it by name."""

    def session(self) -> Any:
        return _Session(None)


@pytest.mark.slow
def test_another_process_keeps_a_sequence_whole(tmp_path: Path) -> None:
    made = make_job(tmp_path, 6, CountingPerSAM)
    made.tasks = [replace(t, sequence="ab"[n % 2], order=-n) for n, t in enumerate(made.tasks)]
    results = [r for chunk in DevicesBackend(["cpu"]).run(made) for r in chunk]
    by_id = {task.id: task for task in made.tasks}
    for name in "ab":
        frames = [r for r in results if by_id[r.id].sequence == name]
        assert [r.score for r in frames] == [1, 2, 3]
        assert [by_id[r.id].order for r in frames] == sorted(by_id[r.id].order for r in frames)


def tasks(spec: str) -> list[PhotoTask]:
    """One task for each letter: "." a photo by itself, any other letter a frame."""
    return [
        PhotoTask(f"t{n}", "x.jpg", sequence="" if letter == "." else letter, order=n)
        for n, letter in enumerate(spec)
    ]


@pytest.mark.parametrize(
    ("spec", "smallest", "largest", "shards"),
    [
        ("aaaa....", 1, 2, ["aaaa", "..", ".", "."]),
        (".a.a.b.b", 2, 2, [".", "aa", "..", "bb", "."]),
        ("aaaaaaaa", 1, 3, ["aaaaaaaa"]),
        ("ab" * 4, 1, 8, ["aaaa", "bbbb"]),
    ],
)
def test_shards_keep_a_sequence_whole(
    spec: str, smallest: int, largest: int, shards: list[str]
) -> None:
    handed = Shards(tasks(spec), 1, smallest, largest)
    found, seen = [], []
    while shard := handed.take():
        found.append("".join(task.sequence or "." for task in shard))
        seen += [task.id for task in shard]
        handed.deliver([PhotoResult(task.id) for task in shard])
    assert found == shards
    assert sorted(seen) == sorted(task.id for task in tasks(spec)) and handed.finished
    assert seen == [task.id for task in arranged(tasks(spec))]


def test_a_sequence_begins_again_after_a_death_and_no_result_counts_twice() -> None:
    handed = Shards(tasks("aaa."), 1, 8, 8)
    shard = handed.take()
    assert len(handed.deliver([PhotoResult(task.id) for task in shard[:2]])) == 2
    assert handed.give_back(shard, "SIGKILL") == []
    again = handed.take()
    assert [task.id for task in again] == ["t0", "t1", "t2", "t3"]  # whole: its state is lost
    handed.give_back(again, "SIGKILL")
    alone, photo = handed.take(), handed.take()
    assert [task.id for task in alone] == ["t0", "t1", "t2"] and len(photo) == 1
    errors = handed.give_back(alone, "SIGKILL")
    assert [one.id for one in errors] == ["t2"]  # what was delivered stays
    assert f"died {DEATHS_OF_A_PHOTO} times" in str(errors[0].error)
    handed.deliver([PhotoResult(photo[0].id)])
    assert handed.finished


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for number in range(4):
        writer.write(np.full((48, 64, 3), 60 * number, np.uint8))
    writer.release()
    return path


def test_a_task_names_a_frame_of_a_video(video: Path, tmp_path: Path) -> None:
    made = make_job(tmp_path, 1)
    job = replace(
        made,
        tasks=[
            PhotoTask(f"f{n}", str(video), frame=n, sequence="film", order=n) for n in (3, 1, 9, 2)
        ],
        predictors={"": Counting()},
        cache=MemoryCache(),
    )
    assert job.tasks[0].source == (str(video), 3)
    results = collect(job)
    assert [(r.id, r.score) for r in results] == [("f1", 1), ("f2", 2), ("f3", 3), ("f9", None)]
    assert "film.avi has no frame 9" in str(results[3].error)
    assert job.timings.photos_encoded == 3 and len(job.cache) == 3  # type: ignore[arg-type]


def test_frames_are_those_of_the_file(video: Path, tmp_path: Path) -> None:
    for number in range(4):
        frame = load_frame(video, number + 1)
        assert frame.shape == (48, 64, 3) and frame.dtype == np.uint8
        assert np.abs(frame.astype(int) - 60 * number).max() <= 3
    text = tmp_path / "text.avi"
    text.write_text("no video")
    for path, frame, says in (
        (tmp_path / "gone.avi", 1, r"gone\.avi does not exist"),
        (text, 1, "text.avi cannot be read as a video"),
        (video, 5, "has no frame 5"),
        (video, 0, "counted from 1"),
    ):
        with pytest.raises(PhotoError, match=says):
            load_frame(path, frame)


class ToyBackend:
    """Runs a job with this process's own, backwards."""

    name = "toy"
    help = "for this test"

    @staticmethod
    def available() -> bool:
        return True

    def run(self, job: Job) -> Any:
        return LocalBackend().run(replace(job, tasks=list(job.tasks)[::-1]))


def test_a_back_end_of_another_package(tmp_path: Path) -> None:
    BACKENDS.register(ToyBackend)
    try:
        chosen = choose_backend("toy")
        assert backend_name(chosen) == "toy" and "toy" in available_backends()
        made = make_job(tmp_path, 3)
        assert [r.id for chunk in chosen.run(made) for r in chunk] == ["photo2", "photo1", "photo0"]
        with pytest.raises(PersamError, match="MemoryCache belongs to one process"):
            choose_backend("toy", MemoryCache())
    finally:
        BACKENDS.unregister("toy")
    with pytest.raises(PersamError, match="backend 'toy' is not known: give local, devices, ray"):
        choose_backend("toy")
    assert [backend_name(choose_backend(name)) for name in ("local", None)] == ["local", "local"]
    assert list(BACKENDS) == ["local", "devices", "ray"]
    assert backend_name(type("Mine", (LocalBackend,), {})()) == "Mine"


def test_two_jobs_at_once_leave_torch_s_threads_alone(tmp_path: Path) -> None:
    """Side by side, each job computes on single cores; nobody else notices, whoever ends first."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    meeting = threading.Barrier(3)
    inside: list[int] = []

    class Meeting(Counting):
        met = False

        def predict_embeddings(self, embeddings: Sequence[ImageEmbedding]) -> list[Prediction]:
            inside.append(torch.get_num_threads())
            if not self.met:
                self.met = True
                meeting.wait(60)  # both jobs are at work, and the third one looks around
                meeting.wait(60)
            return super().predict_embeddings(embeddings)

    def run(number: int) -> None:
        (tmp_path / str(number)).mkdir()
        job = make_job(tmp_path / str(number), 4 + 8 * number, batch_size=None)
        job.predictors = {"": Meeting()}
        counts[number] = len(collect(job))

    def of_a_new_thread() -> int:
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        return seen[0]

    counts = [0, 0]
    jobs = [threading.Thread(target=run, args=(number,)) for number in range(2)]
    try:
        for job in jobs:
            job.start()
        meeting.wait(60)
        during = (torch.get_num_threads(), of_a_new_thread())
        meeting.wait(60)
        for job in jobs:
            job.join()
        after = (torch.get_num_threads(), of_a_new_thread())
    finally:
        torch.set_num_threads(before)
    assert counts == [4, 12] and set(inside) == {1}
    assert during == (2, 2) and after == (2, 2)


def named(letters: str) -> list[PhotoTask]:
    """A frame of sequence "s" for each letter, in this order."""
    return [PhotoTask(c, f"{c}.png", sequence="s", order=n) for n, c in enumerate(letters)]


@pytest.mark.parametrize(
    "labelled, left, shown",
    [
        ("", "abcd", ["s abcd"]),
        ("a", "abcd", ["s abcd"]),
        ("c", "abcd", ["s cd", "s< (c)ba"]),
        ("d", "abcd", ["s d", "s< (d)cba"]),
        ("bd", "abcd", ["s bcd", "s< (b)a"]),
        ("", "c", ["s (a)(b)c"]),
        ("c", "a", ["s< (c)(b)a"]),
        ("c", "d", ["s (c)d"]),
        ("c", "", []),
    ],
)
def test_from_where_sequences_are_followed(labelled: str, left: str, shown: list[str]) -> None:
    """From the labelled frame to both ends; of what is done, only what a session has to see."""
    tasks = arranged(with_earlier_frames(around_labels(named("abcd"), labelled), left))
    found: dict[str, str] = {}
    for task in tasks:
        assert track_name(task) == "s"
        text = f"({task.id})" if task.again else task.id
        found[task.sequence] = found.get(task.sequence, "") + text
    assert [f"{name.replace(BACKWARDS, '<')} {text}" for name, text in found.items()] == shown


def test_a_sequence_may_be_called_like_another_one_backwards() -> None:
    tasks = [*named("ab"), *(replace(t, id=t.id.upper(), sequence="s<") for t in named("ab"))]
    followed = arranged(around_labels(tasks, "b"))
    assert [(task.id, track_name(task)) for task in followed] == [
        *(("b", "s"), ("b", "s"), ("a", "s"), ("A", "s<"), ("B", "s<"))
    ]
    assert len({task.sequence for task in followed}) == 3


def test_a_session_begins_where_a_frame_is_labelled(job: Job) -> None:
    """Frame 2 of sequence a is labelled; the score is how many frames its session has seen."""
    label = next(task for task in job.tasks if (task.sequence, task.order) == ("a", 2))
    whole = around_labels(job.tasks, [label.id])
    orders = {task.id: (track_name(task), task.order) for task in job.tasks if task.sequence}
    job.tasks, job.labelled = whole, {label.id: {"": np.ones((4, 4), bool)}}
    scores = {orders[r.id]: r.score for r in collect(job) if r.id in orders}
    ends = {("a", 2): 1, ("a", 3): 2, ("a", 1): 2, ("a", 0): 3}
    assert scores == {**ends, **{("b", n): n + 1 for n in range(4)}}
    # Two frames are left, one on either side: they come to what they have come to.
    left = {i for i, place in orders.items() if place in (("a", 3), ("a", 0))}
    job.tasks = with_earlier_frames(whole, left)
    results = collect(job)
    assert {orders[r.id]: r.score for r in results} == {("a", 3): 2, ("a", 0): 3}
