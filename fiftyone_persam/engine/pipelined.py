"""Jobs on a device that computes by itself: it always has the next batch to work on.

Batch n + 1 is given to the device before the host looks at batch n, whose passes follow it, while
threads unpack and write batch n - 1. The host waits for small maps only, never for the device as a
whole. What fails in a batch is computed again by the ordinary way, which finds the cause.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from .job import Job, PhotoTask, Timings
from .memory import is_out_of_memory

if TYPE_CHECKING:
    from .memory import BatchLimit

Batch = list[tuple[PhotoTask, Any]]


def can_run(job: Job) -> bool:
    """Whether all of a job's predictors can be asked in steps, and no photo waits for another."""
    if any(task.sequence for task in job.tasks) or not job.tasks:
        return False
    return all(getattr(one, "in_steps", False) for one in job.predictors.values())


@dataclass(frozen=True, eq=False)
class Later:
    """One photo's prediction, which a writer's thread waits for."""

    pending: Any
    row: int

    def prediction(self) -> Any:
        """The prediction."""
        return self.pending.prediction(self.row)


@dataclass(eq=False)
class _Started:
    """A batch that is encoded, and whose maps are on their way."""

    batch: Batch
    good: Batch
    parts: list[tuple[list[int], Any]] = field(default_factory=list)
    error: Exception | None = None


class Clock:
    """Seconds of the device's own work, stage by stage; of the host's where it does the work.

    Args:
        timings: to add to.
        device: whose.
    """

    def __init__(self, timings: Timings, device: torch.device) -> None:
        self._timings = timings
        self._device = device
        self._on_device = device.type == "cuda"
        self._open: deque[tuple[str, Any, Any]] = deque()

    def start(self) -> Any:
        """Now, on the device."""
        if not self._on_device:
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def stop(self, stage: str, started: Any) -> None:
        """The stage ends here."""
        ended = self.start()
        if self._on_device:
            self._open.append((stage, started, ended))
            self.collect()
        else:
            self._timings.spend(stage, ended - started)

    def collect(self, everything: bool = False) -> None:
        """Add what the device is through with."""
        while self._open and (everything or self._open[0][2].query()):
            stage, started, ended = self._open.popleft()
            ended.synchronize()
            self._timings.spend(stage, started.elapsed_time(ended) / 1000)


def segment_pipelined(
    job: Job,
    batches: Iterator[Batch],
    encode: Callable[[Batch], list[Any]],
    again: Callable[[Batch], Batch],
    limit: BatchLimit,
) -> Iterator[Batch]:
    """Outcomes of batches, in order, one batch late.

    Args:
        job: `can_run` says that it can.
        batches: tasks with what was loaded, or the exception that kept it from being loaded.
        encode: embeddings of loaded photos.
        again: outcomes of a batch computed the ordinary way.
        limit: made smaller where memory was too small.

    Yields:
        Each task with its prediction, as a `Later`, or with an exception.
    """
    clock = Clock(job.timings, job.sam.device)
    before: _Started | None = None
    for batch in batches:
        started = _start(job, batch, encode, clock)
        if before is not None:
            yield _end(before, again, limit, clock, job)
        before = started
    if before is not None:
        yield _end(before, again, limit, clock, job)
    clock.collect(everything=True)


def _start(job: Job, batch: Batch, encode: Callable[[Batch], list[Any]], clock: Clock) -> _Started:
    good = [(task, loaded) for task, loaded in batch if not isinstance(loaded, Exception)]
    started = _Started(batch, good)
    if not good:
        return started
    try:
        now = clock.start()
        embeddings = encode(good)
        groups: dict[str, list[int]] = defaultdict(list)
        for index, (task, _) in enumerate(good):
            groups[task.group].append(index)
        for group, indices in groups.items():
            chosen = [embeddings[index] for index in indices]
            started.parts.append((indices, job.predictors[group].begin(chosen)))  # type: ignore[attr-defined]
        clock.stop("encoding", now)
    except Exception as error:
        started.parts, started.error = [], error
    return started


def _end(
    started: _Started,
    again: Callable[[Batch], Batch],
    limit: BatchLimit,
    clock: Clock,
    job: Job,
) -> Batch:
    """Give the device the rest of a batch's work."""
    outcomes: dict[PhotoTask, Any] = {}
    error = started.error
    if error is None:
        try:
            now = clock.start()
            for indices, pending in started.parts:
                pending.decode()
                for row, index in enumerate(indices):
                    outcomes[started.good[index][0]] = Later(pending, row)
            clock.stop("decoding", now)
        except Exception as failure:
            error = failure
    if error is not None:
        full = is_out_of_memory(error)
        started.parts, started.error = [], None
        del error
        if full:
            limit.shrink(len(started.good))
            if job.sam.device.type == "cuda":
                torch.cuda.empty_cache()
        outcomes = dict(again(started.good))
    return [(task, outcomes.get(task, loaded)) for task, loaded in started.batch]
