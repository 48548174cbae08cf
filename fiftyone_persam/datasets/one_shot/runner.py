"""Running episodes: every photo is encoded once, however many episodes look at it."""

from __future__ import annotations

import copy
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from ...engine.cache import keep, look_up, weights_sha256
from ...errors import PersamError
from ...metrics import OneShotAccumulator, OneShotScores
from ...personalize import Reference
from ...personalize.together import predict_masks
from .records import Episode, Example, OneShotIndex
from .regions import load_mask, load_view
from .sampling import episodes

if TYPE_CHECKING:
    from ...engine import EmbeddingCache
    from ...personalize import PerSAM, PerSAMF
    from ...sam import ImageEmbedding, PromptableSam

Mask = npt.NDArray[np.bool_]

REMEMBERED_MASKS = 16_384
"""32 KiB each at 512 x 512."""
REMEMBERED_FITS = 256
ENCODE_TOGETHER = 4
ANSWER_TOGETHER = 4
MOST_WORKERS = 8


@dataclass(frozen=True)
class OneShotRun:
    """What running a fold gave.

    Attributes:
        scores: see `OneShotScores`.
        encoded: photos (or crops of photos) that went through the encoder.
        encoding: seconds of that, and of reading the masks.
        answering: seconds of everything else: fitting, decoding, measuring.
        fitted: how often a method was fitted; a support that comes again is known already.
    """

    scores: OneShotScores
    encoded: int
    encoding: float
    answering: float
    fitted: int = 0

    @property
    def episodes_per_second(self) -> float:
        """Episodes a second once photos are encoded and masks are read."""
        return self.scores.episodes / max(self.answering, 1e-9)


def run_episodes(
    index: OneShotIndex,
    fold: int,
    sam: PromptableSam,
    build: Callable[..., PerSAM | PerSAMF],
    *,
    shots: int = 1,
    seed: int = 0,
    limit: int | None = None,
    workers: int | None = None,
    cache: EmbeddingCache | None = None,
    progress: Callable[[int, int], Any] | None = None,
    **options: Any,
) -> OneShotRun:
    """Answer the episodes of a fold.

    As published, photos are squashed to the model's square input and masks are compared at that
    size, resized by nearest neighbour.

    Args:
        index: the benchmark, see `read_benchmark`.
        fold: which fold.
        sam: the model.
        build: a method's class, called with the model and ``options``; "absent" is not an answer in
            these protocols, so ``presence_threshold`` is 0 unless given.
        shots: labelled supports of each episode.
        seed: of the episode stream.
        limit: stop after this many episodes.
        workers: threads that answer episodes side by side; by machine if None. One episode is too
            little work to keep two cores busy.
        cache: where embeddings are kept beyond this call and its memory.
        progress: called with episodes done and their number.
        **options: of the method.

    Raises:
        PersamError: no such fold, or a class with too few photos.
        DatasetLayoutError: a mask that is malformed.
        PhotoError: a photo that cannot be read.
    """
    wanted = list(episodes(index, fold, shots, seed, limit))
    if not wanted:
        raise PersamError(f"fold {fold} of {index.name} has no episode to answer: raise the limit")
    views = _Views(sam, cache)
    started = time.perf_counter()
    examples = [one for e in wanted for one in (*e.supports, e.query)]
    views.encode(examples)
    threads = workers or max(1, min(os.cpu_count() or 1, MOST_WORKERS))
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(views.mask, {id(one): one for one in examples[:REMEMBERED_MASKS]}.values()))
    encoding = time.perf_counter() - started
    scores = OneShotAccumulator()
    started = time.perf_counter()
    options.setdefault("presence_threshold", 0.0)
    fits = _Fits(build(sam, **options), views)  # wrong options are refused here, once

    def answer(some: list[Episode]) -> list[tuple[Mask, Mask]]:
        methods = [fits.method(episode) for episode in some]
        truths = [views.mask(episode.query) for episode in some]
        known = [place for place, method in enumerate(methods) if method is not None]
        queries = [views.embedding(some[place].query) for place in known]
        found = predict_masks([methods[place] for place in known], queries) if known else []
        masks = dict(zip(known, found, strict=True))
        # An object of a pixel or two can vanish when the support's mask is resized.
        return [(masks.get(n, np.zeros_like(truth)), truth) for n, truth in enumerate(truths)]

    parts = [wanted[n : n + ANSWER_TOGETHER] for n in range(0, len(wanted), ANSWER_TOGETHER)]
    with ThreadPoolExecutor(threads) as pool:
        done = 0
        for part, answers in zip(parts, pool.map(answer, parts), strict=True):
            for episode, (mask, truth) in zip(part, answers, strict=True):
                scores.update(index.classes[episode.class_index].name, mask, truth)
                done += 1
                if progress is not None:
                    progress(done, len(wanted))
    answering = time.perf_counter() - started
    return OneShotRun(scores.compute(), views.encoded, encoding, answering, fits.fitted)


class _Fits:
    """Methods fitted to supports; one that comes again is fitted once.

    Args:
        prototype: not fitted.
        views: what the supports look like.
    """

    def __init__(self, prototype: Any, views: _Views) -> None:
        self.fitted = 0
        self._prototype = prototype
        self._views = views
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[int, ...], Future[Any]] = OrderedDict()
        side = views.side
        self._canvas = np.broadcast_to(np.zeros(3, np.uint8), (side, side, 3))

    def method(self, episode: Episode) -> Any:
        """The method of an episode; None if no support shows anything."""
        key = tuple(id(one) for one in episode.supports)
        with self._lock:
            known = self._known.get(key)
            if known is None:
                mine = self._known[key] = Future()
                if len(self._known) > REMEMBERED_FITS:
                    self._known.popitem(last=False)
        if known is not None:
            return known.result()  # another thread may be at it
        try:
            mine.set_result(self._fit(episode))
        except BaseException as error:
            mine.set_exception(error)
        return mine.result()

    def _fit(self, episode: Episode) -> Any:
        views = self._views
        supports = [one for one in episode.supports if views.mask(one).any()]
        if not supports:
            return None
        references = [Reference(self._canvas, mask=views.mask(one)) for one in supports]
        method = copy.copy(self._prototype)
        method.looks_smaller = False  # there is no photo in it, only its embedding
        method.fit(references, [views.embedding(one) for one in supports])
        with self._lock:
            self.fitted += 1
        return method


class _Views:
    """Embeddings and masks of what episodes look at."""

    def __init__(self, sam: PromptableSam, cache: EmbeddingCache | None) -> None:
        self.encoded = 0
        self._sam = sam
        self._cache = cache
        self._lock = threading.Lock()
        self.side = sam.image_size
        self._embeddings: dict[tuple[Any, ...], ImageEmbedding] = {}
        self._masks: OrderedDict[tuple[Any, ...], npt.NDArray[np.uint8]] = OrderedDict()  # bits

    def embedding(self, example: Example) -> ImageEmbedding:
        """The embedding of an example's view; encoded already."""
        return self._embeddings[example.view]

    def mask(self, example: Example) -> npt.NDArray[np.bool_]:
        """(S, S) mask of an example at the model's input size."""
        key = (*example.view, example.class_index, id(example))
        with self._lock:
            if key in self._masks:
                self._masks.move_to_end(key)
                bits = np.unpackbits(self._masks[key], count=self.side**2)
                return bits.reshape(self.side, self.side).view(np.bool_)
        mask = load_mask(example).astype(np.uint8)
        size = (self.side, self.side)
        small: npt.NDArray[np.bool_] = (
            cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT) > 0
        )
        with self._lock:
            self._masks[key] = np.packbits(small)
            if len(self._masks) > REMEMBERED_MASKS:
                self._masks.popitem(last=False)
        return small

    def encode(self, examples: list[Example]) -> None:
        """Encode the views that are not known yet, each once."""
        missing: dict[tuple[Any, ...], Example] = {}
        for example in examples:
            if example.view in self._embeddings or example.view in missing:
                continue
            found = look_up(self._cache, self._key(example)) if self._cache is not None else None
            if found is None:
                missing[example.view] = example
            else:
                self._embeddings[example.view] = found
        waiting = list(missing.values())
        for start in range(0, len(waiting), ENCODE_TOGETHER):
            chunk = waiting[start : start + ENCODE_TOGETHER]
            pixels = [self._squash(load_view(example)) for example in chunk]
            for example, embedding in zip(chunk, self._sam.encode(pixels), strict=True):
                # A row of a batch would keep the whole batch in memory.
                own = replace(embedding, features=embedding.features.clone())
                self._embeddings[example.view] = own
                self.encoded += 1
                key = self._key(example)
                if self._cache is not None and key is not None:
                    keep(self._cache, key, own)

    def _squash(self, photo: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """(S, S, 3): both sides resized to the input's, as the published loaders do."""
        from PIL import Image

        resized = Image.fromarray(photo).resize((self.side, self.side), Image.Resampling.BILINEAR)
        return np.asarray(resized)

    def _key(self, example: Example) -> str | None:
        try:
            status = os.stat(example.photo)
        except OSError:
            return None
        weights = self._sam.checkpoint_sha256 or weights_sha256(self._sam)
        photo = f"{os.path.realpath(example.photo)}|{status.st_size}|{status.st_mtime_ns}"
        return f"squashed|{weights}|{self.side}|{self._sam.dtype}|{photo}|{example.crop}"
