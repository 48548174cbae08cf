"""What a job does with its photos, stage by stage: loading, encoding, decoding."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from ..errors import PersamError
from ..sam.photos import Photo, PhotoSource, load_photo
from .cache import completed, embedding_key, keep, look_up, look_up_shared
from .frames import FrameReaders
from .job import Job, PhotoTask
from .memory import BatchLimit, is_out_of_memory
from .sequences import Sessions
from .writing import WriteBehind

if TYPE_CHECKING:
    from ..sam import ImageEmbedding
    from ..sam.raw_photos import RawPhoto

Batch = list[tuple[PhotoTask, Any]]

ENCODE_ALONE = ("cpu",)
"""Devices that encode photo by photo faster than several at once: activations fit their cache."""


@dataclass(frozen=True, eq=False)
class Fresh:
    """A photo that has to be encoded, and the key under which to keep its embedding."""

    photo: Photo | RawPhoto
    size: tuple[int, int]
    key: str | None


class Stages:
    """The stages of one job. `load` may be called in any thread, the others in one alone.

    Args:
        job: the job.
        readers: its open videos.
        sessions: its open sequences.
        keepers: put new embeddings into the job's cache.
        limit: how many photos are encoded at once; made smaller where memory was too small.
    """

    def __init__(
        self,
        job: Job,
        readers: FrameReaders,
        sessions: Sessions,
        keepers: WriteBehind[None],
        limit: BatchLimit,
    ) -> None:
        self._job = job
        self._readers = readers
        self._sessions = sessions
        self._keepers = keepers
        self._limit = limit

    def load(self, task: PhotoTask) -> Fresh | ImageEmbedding:
        """A photo resized for the model, or its embedding where the job's cache has it."""
        try:
            if not task.sequence:
                return self._load_from(task, lambda: self._readers.read(task))
            # A session may look closer at a frame, so its pixels are read, whatever the cache has.
            contrast = getattr(self._job.predictors[task.group], "contrast", None)
            pixels = load_photo(self._readers.read(task), contrast)
            self._sessions.show(task, pixels)
            return self._load_from(task, lambda: pixels)
        finally:
            self._readers.done(task)

    def _load_from(
        self, task: PhotoTask, source: Callable[[], PhotoSource]
    ) -> Fresh | ImageEmbedding:
        sam: Any = self._job.sam
        # The key comes first: a photo that changes while it is read is kept under its old state.
        path, frame = task.source
        predictor, cache = self._job.predictors[task.group], self._job.cache
        contrast = getattr(predictor, "contrast", None)
        # The released code's resize is its own, to the last bit.
        raw = getattr(sam, "resizes", False) and getattr(predictor, "in_steps", False)
        key = None if cache is None else embedding_key(sam, path, contrast, frame, raw)
        known = look_up(cache, key)
        if known is None:
            known = look_up_shared(cache, sam, path, contrast, frame)
        if known is not None:
            return completed(sam, known, source, contrast)
        loaded, size = (sam.load_raw if raw else sam.load_and_resize)(source(), contrast)
        return Fresh(loaded, size, key)

    def encode(self, batch: Batch) -> list[ImageEmbedding]:
        """Embeddings of what `load` gave; new ones are kept in the job's cache."""
        job = self._job
        fresh = [loaded for _, loaded in batch if isinstance(loaded, Fresh)]
        step = 1 if job.sam.device.type in ENCODE_ALONE else max(1, len(fresh))
        new: dict[Fresh, ImageEmbedding] = {}
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
            self.keep(one.key, new[one])
        return [new[one] if isinstance(one, Fresh) else one for _, one in batch]

    def keep(self, key: str | None, embedding: ImageEmbedding) -> None:
        """Put a new embedding into the job's cache, if there is one."""
        if self._job.cache is not None and key is not None:
            self._keepers.submit(keep, self._job.cache, key, embedding)

    def compute(self, batch: Batch) -> Batch:
        """Predictions of a batch in its order, or the exceptions that kept photos from one."""
        good = [(task, loaded) for task, loaded in batch if not isinstance(loaded, Exception)]
        computed = dict(self._compute_loaded(good))
        return [(task, computed.get(task, loaded)) for task, loaded in batch]

    def _compute_loaded(self, batch: Batch) -> Batch:
        if not batch:
            return []
        sam = self._job.sam
        try:
            return self._predict(batch)
        except Exception as error:
            full = is_out_of_memory(error)
            if full and len(batch) == 1:
                raise PersamError(
                    f"the {sam.device} has not enough memory for one photo with {sam.name}: "
                    "choose a smaller model or device='cpu'"
                ) from error
            if len(batch) == 1:
                return [(batch[0][0], error)]
        # Out here the failed batch's tensors are gone with its error.
        half = len(batch) // 2
        if full:
            self._limit.shrink(len(batch))
            if sam.device.type == "cuda":
                torch.cuda.empty_cache()
        # Smaller batches find the photo that spoils one, and the size that fits into memory.
        outcomes: Batch = []
        while batch:
            size = min(half, self._limit.size)
            outcomes += self._compute_loaded(batch[:size])
            batch = batch[size:]
        return outcomes

    def _predict(self, batch: Batch) -> Batch:
        job = self._job
        with job.timings.measure("encoding"):
            embeddings = self.encode(batch)
        groups: dict[str, list[int]] = defaultdict(list)
        frames: list[int] = []
        for index, (task, _) in enumerate(batch):
            (frames if task.sequence else groups[task.group]).append(index)
        outcomes: dict[int, Any] = {}
        with job.timings.measure("decoding"):
            for group, indices in groups.items():
                chosen = [embeddings[index] for index in indices]
                predictions = job.predictors[group].predict_embeddings(chosen)
                outcomes.update(zip(indices, predictions, strict=True))
            # Last, and without raising: a batch that fails is computed again, a session is not.
            for index in frames:
                outcomes[index] = self._sessions.step(batch[index][0], embeddings[index])
        return [(task, outcomes[index]) for index, (task, _) in enumerate(batch)]
