"""Photos side by side on the cores of a CPU, each on one: for small models.

A small model's operations are too short to be cut up between cores: two cores encode one photo
hardly faster than one does. So each core takes a photo of its own from file to mask. Large models
stay with one photo on all cores, which they use well and whose memory is enough for one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from .loading import load_ahead
from .memory import SMALL_ENCODER

if TYPE_CHECKING:
    from ..sam import ImageEmbedding, Promptable
    from .job import Job, PhotoTask

MOST = 16
"""Photos at once, whatever the number of cores, so that memory stays bounded."""


@dataclass(frozen=True, eq=False)
class Done:
    """What one core made of one photo.

    Attributes:
        prediction: of the job's predictor; None for a frame of a sequence, whose turn comes later.
        embedding: of the photo, if it had to be encoded.
        frame: the embedding of a frame of a sequence, else None.
        key: under which to keep that.
        encoding: seconds.
        decoding: seconds.
    """

    prediction: Any
    embedding: ImageEmbedding | None
    frame: ImageEmbedding | None
    key: str | None
    encoding: float
    decoding: float


def photos_side_by_side(sam: Promptable) -> int:
    """How many photos a model should work on at once, each on one core; 1 for all cores on one."""
    if sam.device.type != "cpu":
        return 1
    return min(MOST, torch.get_num_threads()) if sam.encoder_parameters <= SMALL_ENCODER else 1


def segment_side_by_side(
    job: Job, count: int, load: Callable[[PhotoTask], Any]
) -> Generator[tuple[PhotoTask, Done | Exception], None, None]:
    """Segment the photos of a job, ``count`` at a time; one that fails comes as its exception.

    Args:
        job: on the CPU.
        count: threads, each on one core.
        load: reads and resizes a task's photo, or gives its embedding if that is there.
    """

    def segment(task: PhotoTask) -> Done:
        loaded = load(task)
        started = time.perf_counter()
        known = hasattr(loaded, "features")
        embedding = loaded
        if not known:
            (embedding,) = job.sam.encode_resized([loaded.photo], [loaded.size])
        encoded = time.perf_counter()
        prediction = None
        if not task.sequence:
            (prediction,) = job.predictors[task.group].predict_embeddings([embedding])
        return Done(
            prediction,
            None if known else embedding,
            embedding if task.sequence else None,
            None if known else loaded.key,
            encoded - started,
            time.perf_counter() - encoded,
        )

    pool = single_core_threads(count)
    with closing(load_ahead(job.tasks, segment, count, count + 2, pool)) as photos:
        yield from photos


_STARTING = threading.Lock()


def single_core_threads(count: int) -> ThreadPoolExecutor:
    """Threads in which torch computes on one core each; every other thread keeps its number.

    ``torch.set_num_threads`` sets the number of the thread that calls it and, besides, the one
    that threads begin with which have not computed yet. So all threads are started here, and then
    the latter is set back: two jobs may overlap in one process, in any order.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix="persam-load")
    everyone = threading.Barrier(count)

    def begin() -> None:
        torch.get_num_threads()  # or else the thread's first computation would ask anew
        torch.set_num_threads(1)
        everyone.wait()  # keeps each thread busy until the last one has started

    with _STARTING:
        before = torch.get_num_threads()
        try:
            for started in [pool.submit(begin) for _ in range(count)]:
                started.result()
        finally:
            torch.set_num_threads(before)
    return pool
