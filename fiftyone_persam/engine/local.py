"""The back end of this process: load ahead, encode in batches, decode, write behind."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import PersamError
from .frames import FrameReaders
from .job import Job, PhotoResult, PhotoTask, Timings
from .loading import load_ahead
from .memory import BatchLimit, batch_size_of
from .pipelined import Later, can_run, segment_pipelined
from .rendering import render
from .sequences import Sessions, arranged
from .side_by_side import Done, photos_side_by_side, segment_side_by_side
from .stages import Batch, Stages
from .writing import WriteBehind

if TYPE_CHECKING:
    from ..sam import Promptable


class LocalBackend:
    """Runs a job in this process, on the device of its model."""

    name = "local"
    help = "in this process"
    in_process = True

    @staticmethod
    def available() -> bool:
        """It always is."""
        return True

    def run(self, job: Job) -> Generator[list[PhotoResult], None, None]:
        """See `Backend.run`."""
        job = replace(job, tasks=arranged(job.tasks))
        cores = 1 if job.batch_size else photos_side_by_side(job.sam)
        sessions = Sessions(job.predictors, job.tasks, job.labelled)
        limit = BatchLimit(cores if cores > 1 else job.batch_size or batch_size_of(job.sam))
        keepers: WriteBehind[None] = WriteBehind(1, pending=2 * limit.size)
        with FrameReaders(job.tasks) as readers, keepers:
            stages = Stages(job, readers, sessions, keepers, limit)
            if cores > 1:
                yield from _run_side_by_side(job, stages, sessions, cores)
            else:
                yield from _run_in_batches(job, stages, limit)


def _run_in_batches(job: Job, stages: Stages, limit: BatchLimit) -> Iterator[list[PhotoResult]]:
    workers, pending = job.workers or workers_for(job.sam), 2 * limit.size
    photos = load_ahead(job.tasks, stages.load, workers, pending)
    writers: WriteBehind[PhotoResult] = WriteBehind(workers, pending=pending)
    with closing(photos), writers:
        batches = _batches(photos, limit, job.timings)
        computed: Iterator[Batch] = map(stages.compute, batches)
        if can_run(job):
            computed = segment_pipelined(job, batches, stages.encode, stages.compute, limit)
        for outcomes in computed:
            results: list[PhotoResult] = []
            for task, outcome in outcomes:
                if task.again:
                    continue
                with job.timings.measure("waiting_for_writers"):
                    results += writers.submit(_finish, job, task, outcome)
            results += writers.ready()
            yield results
        with job.timings.measure("waiting_for_writers"):
            rest = writers.drain()
        yield rest


def _run_side_by_side(
    job: Job, stages: Stages, sessions: Sessions, cores: int
) -> Iterator[list[PhotoResult]]:
    photos = segment_side_by_side(job, cores, stages.load)
    writers: WriteBehind[PhotoResult] = WriteBehind(
        job.workers or default_workers(), pending=2 * cores
    )
    timings = job.timings
    with closing(photos), writers:
        while True:
            with timings.measure("waiting_for_photos"):
                entry = next(photos, None)
            if entry is None:
                break
            task, done = entry
            outcome: Any = done
            if isinstance(done, Done):
                outcome = done.prediction
                if done.frame is not None:
                    with timings.measure("decoding"):
                        outcome = sessions.step(task, done.frame)
                timings.encoding += done.encoding / cores
                timings.decoding += done.decoding / cores
                if done.embedding is not None:
                    timings.photos_encoded += 1
                    stages.keep(done.key, done.embedding)
            if task.again:
                yield writers.ready()
                continue
            with timings.measure("waiting_for_writers"):
                results = writers.submit(_finish, job, task, outcome)
            yield results + writers.ready()
        with timings.measure("waiting_for_writers"):
            rest = writers.drain()
        yield rest


def _batches(photos: Iterator[Any], limit: BatchLimit, timings: Timings) -> Iterator[Batch]:
    batch: Batch = []
    while True:
        with timings.measure("waiting_for_photos"):
            entry = next(photos, None)
        if entry is None:
            break
        batch.append(entry)
        if len(batch) >= limit.size:
            yield batch
            batch = []
    if batch:
        yield batch


def default_workers() -> int:
    """Threads for loading, and as many for writing."""
    return max(1, min(8, (os.cpu_count() or 2) // 2))


def workers_for(sam: Promptable) -> int:
    """Threads for loading, and as many for writing, for a model: a GPU is hungry."""
    return min(16, os.cpu_count() or 2) if sam.device.type == "cuda" else default_workers()


def _finish(job: Job, task: PhotoTask, outcome: Any) -> PhotoResult:
    if isinstance(outcome, Later):
        try:
            outcome = outcome.prediction()
        except Exception as error:
            outcome = error
    if isinstance(outcome, Exception):
        return PhotoResult(id=task.id, error=describe(outcome))
    return render(task.id, outcome, job.output)


def describe(error: BaseException) -> str:
    """An exception as one line."""
    text = " ".join(str(error).split())
    if isinstance(error, PersamError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
