"""The back end of this process: load ahead, encode in batches, decode, write behind."""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from ..errors import PersamError
from ..sam.photos import Photo, PhotoSource, load_photo
from .cache import completed, embedding_key, keep, look_up, look_up_shared
from .frames import FrameReaders
from .job import Job, PhotoResult, PhotoTask, Timings
from .loading import load_ahead
from .memory import BatchLimit, batch_size_of, is_out_of_memory
from .pipelined import Later, can_run, segment_pipelined
from .rendering import render
from .sequences import Sessions, arranged
from .side_by_side import Done, photos_side_by_side, segment_side_by_side
from .writing import WriteBehind

if TYPE_CHECKING:
    from ..sam import ImageEmbedding, Promptable
    from ..sam.raw_photos import RawPhoto

Batch = list[tuple[PhotoTask, Any]]

ENCODE_ALONE = ("cpu",)
"""Devices that encode photo by photo faster than several at once: activations fit their cache."""


@dataclass(frozen=True, eq=False)
class _Fresh:
    """A photo that has to be encoded, and the key under which to keep its embedding."""

    photo: Photo | RawPhoto
    size: tuple[int, int]
    key: str | None


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
        sessions = Sessions(job.predictors, job.tasks, job.labelled)
        cores = 1 if job.batch_size else photos_side_by_side(job.sam)
        with FrameReaders(job.tasks) as readers:
            if cores > 1:
                yield from _run_side_by_side(job, cores, sessions, readers)
            else:
                yield from self._run_in_batches(job, sessions, readers)

    @staticmethod
    def _run_in_batches(
        job: Job, sessions: Sessions, readers: FrameReaders
    ) -> Iterator[list[PhotoResult]]:
        batch_size = job.batch_size or batch_size_of(job.sam)
        limit = BatchLimit(batch_size)
        workers = job.workers or workers_for(job.sam)
        photos = load_ahead(
            job.tasks, lambda task: _load(job, task, readers, sessions), workers, 2 * batch_size
        )
        writers: WriteBehind[PhotoResult] = WriteBehind(workers, pending=2 * batch_size)
        keepers: WriteBehind[None] = WriteBehind(1, pending=2 * batch_size)

        def compute(batch: Batch) -> Batch:
            return _compute(job, batch, keepers, limit, sessions)

        with closing(photos), keepers, writers:
            batches = _batches(photos, limit, job.timings)
            computed: Iterator[Batch] = map(compute, batches)
            if can_run(job):
                computed = segment_pipelined(
                    job, batches, lambda batch: _encode(job, batch, keepers), compute, limit
                )
            for outcomes in computed:
                results: list[PhotoResult] = []
                for task, outcome in outcomes:
                    if task.again:
                        continue
                    with _measure(job.timings, "waiting_for_writers"):
                        results += writers.submit(_finish, job, task, outcome)
                results += writers.ready()
                yield results
            with _measure(job.timings, "waiting_for_writers"):
                rest = writers.drain()
            yield rest


def _run_side_by_side(
    job: Job, cores: int, sessions: Sessions, readers: FrameReaders
) -> Iterator[list[PhotoResult]]:
    photos = segment_side_by_side(job, cores, lambda job, task: _load(job, task, readers, sessions))
    writers: WriteBehind[PhotoResult] = WriteBehind(
        job.workers or default_workers(), pending=2 * cores
    )
    keepers: WriteBehind[None] = WriteBehind(1, pending=2 * cores)
    timings = job.timings
    with closing(photos), keepers, writers:
        while True:
            with _measure(timings, "waiting_for_photos"):
                entry = next(photos, None)
            if entry is None:
                break
            task, done = entry
            outcome: Any = done
            if isinstance(done, Done):
                outcome = done.prediction
                if done.frame is not None:
                    with _measure(timings, "decoding"):
                        outcome = sessions.step(task, done.frame)
                timings.encoding += done.encoding / cores
                timings.decoding += done.decoding / cores
                timings.photos_encoded += done.embedding is not None
                if done.embedding is not None and done.key is not None and job.cache is not None:
                    keepers.submit(keep, job.cache, done.key, done.embedding)
            if task.again:
                yield writers.ready()
                continue
            with _measure(timings, "waiting_for_writers"):
                results = writers.submit(_finish, job, task, outcome)
            yield results + writers.ready()
        with _measure(timings, "waiting_for_writers"):
            rest = writers.drain()
        yield rest


def default_workers() -> int:
    """Threads for loading, and as many for writing."""
    return max(1, min(8, (os.cpu_count() or 2) // 2))


def workers_for(sam: Promptable) -> int:
    """Threads for loading, and as many for writing, for a model: a GPU is hungry."""
    return min(16, os.cpu_count() or 2) if sam.device.type == "cuda" else default_workers()


def _load(
    job: Job, task: PhotoTask, readers: FrameReaders, sessions: Sessions
) -> _Fresh | ImageEmbedding:
    try:
        if not task.sequence:
            return _load_from(job, task, lambda: readers.read(task))
        # A session may look closer at a frame, so its pixels are read, whatever the cache has.
        contrast = getattr(job.predictors[task.group], "contrast", None)
        pixels = load_photo(readers.read(task), contrast)
        sessions.show(task, pixels)
        return _load_from(job, task, lambda: pixels)
    finally:
        readers.done(task)


def _load_from(
    job: Job, task: PhotoTask, source: Callable[[], PhotoSource]
) -> _Fresh | ImageEmbedding:
    # The key comes first: a photo that changes while it is read is kept under its old state.
    path, frame = task.source
    predictor = job.predictors[task.group]
    contrast = getattr(predictor, "contrast", None)
    # The released code's resize is its own, to the last bit.
    raw = getattr(job.sam, "resizes", False) and getattr(predictor, "in_steps", False)
    key = None if job.cache is None else embedding_key(job.sam, path, contrast, frame, raw)
    known = look_up(job.cache, key)
    if known is None:
        known = look_up_shared(job.cache, job.sam, path, contrast, frame)
    if known is not None:
        return completed(job.sam, known, source, contrast)
    sam: Any = job.sam
    loaded, size = (sam.load_raw if raw else sam.load_and_resize)(source(), contrast)
    return _Fresh(loaded, size, key)


def _batches(photos: Iterator[Any], limit: BatchLimit, timings: Timings) -> Iterator[list[Any]]:
    batch = []
    while True:
        with _measure(timings, "waiting_for_photos"):
            entry = next(photos, None)
        if entry is None:
            break
        batch.append(entry)
        if len(batch) >= limit.size:
            yield batch
            batch = []
    if batch:
        yield batch


def _compute(
    job: Job, batch: Batch, keepers: WriteBehind[None], limit: BatchLimit, sessions: Sessions
) -> Batch:
    """Predictions of a batch in its order, or the exceptions that kept photos from one."""
    good = [(task, loaded) for task, loaded in batch if not isinstance(loaded, Exception)]
    computed = dict(_compute_good(job, good, keepers, limit, sessions))
    return [(task, computed.get(task, loaded)) for task, loaded in batch]


def _compute_good(
    job: Job, batch: Batch, keepers: WriteBehind[None], limit: BatchLimit, sessions: Sessions
) -> Batch:
    if not batch:
        return []
    try:
        return _predict(job, batch, keepers, sessions)
    except Exception as error:
        full = is_out_of_memory(error)
        if full and len(batch) == 1:
            raise PersamError(
                f"the {job.sam.device} has not enough memory for one photo with {job.sam.name}: "
                "choose a smaller model or device='cpu'"
            ) from error
        if len(batch) == 1:
            return [(batch[0][0], error)]
    # Out here the failed batch's tensors are gone with its error.
    half = len(batch) // 2
    if full:
        limit.shrink(len(batch))
        if job.sam.device.type == "cuda":
            torch.cuda.empty_cache()
    # Smaller batches find the photo that spoils one, and the size that fits into memory.
    outcomes: Batch = []
    while batch:
        size = min(half, limit.size)
        outcomes += _compute_good(job, batch[:size], keepers, limit, sessions)
        batch = batch[size:]
    return outcomes


def _predict(job: Job, batch: Batch, keepers: WriteBehind[None], sessions: Sessions) -> Batch:
    with _measure(job.timings, "encoding"):
        embeddings = _encode(job, batch, keepers)
    groups: dict[str, list[int]] = defaultdict(list)
    frames: list[int] = []
    for index, (task, _) in enumerate(batch):
        (frames if task.sequence else groups[task.group]).append(index)
    outcomes: dict[int, Any] = {}
    with _measure(job.timings, "decoding"):
        for group, indices in groups.items():
            chosen = [embeddings[index] for index in indices]
            predictions = job.predictors[group].predict_embeddings(chosen)
            outcomes.update(zip(indices, predictions, strict=True))
        # Last, and without raising: a batch that fails is computed again, a session is not.
        for index in frames:
            outcomes[index] = sessions.step(batch[index][0], embeddings[index])
    return [(task, outcomes[index]) for index, (task, _) in enumerate(batch)]


def _encode(job: Job, batch: Batch, keepers: WriteBehind[None]) -> list[ImageEmbedding]:
    fresh = [loaded for _, loaded in batch if isinstance(loaded, _Fresh)]
    step = 1 if job.sam.device.type in ENCODE_ALONE else max(1, len(fresh))
    new: dict[_Fresh, ImageEmbedding] = {}
    execution = getattr(job.sam, "execution", None)
    compiling = 0.0 if execution is None else execution.compiling
    for start in range(0, len(fresh), step):
        chunk = fresh[start : start + step]
        photos: list[Any] = [one.photo for one in chunk]
        encoded = job.sam.encode_resized(photos, [one.size for one in chunk])
        new.update(zip(chunk, encoded, strict=True))
    job.timings.photos_encoded += len(fresh)
    if execution is not None:
        job.timings.compiling += execution.compiling - compiling
    for one in fresh:
        if job.cache is not None and one.key is not None:
            keepers.submit(keep, job.cache, one.key, new[one])
    return [new[one] if isinstance(one, _Fresh) else one for _, one in batch]


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


@contextmanager
def _measure(timings: Timings, stage: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        setattr(timings, stage, getattr(timings, stage) + time.perf_counter() - start)
