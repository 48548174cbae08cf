"""Embeddings are nearly all the work: where a job looks for those that are there already."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

from .. import __version__
from ..errors import PersamError

if TYPE_CHECKING:
    from ..sam import Contrast, ImageEmbedding, PromptableSam

logger = logging.getLogger(__name__)

# Part of every key: raise it when photos are read, resized or normalised in another way.
PREPROCESSING = 2

_WEIGHTS: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


@runtime_checkable
class EmbeddingCache(Protocol):
    """Embeddings by `embedding_key`. Safe to use from several threads."""

    def get(self, key: str) -> ImageEmbedding | None:
        """The embedding kept under a key, or None."""
        ...

    def put(self, key: str, embedding: ImageEmbedding) -> None:
        """Keep an embedding; may forget others to make room."""
        ...


def embedding_key(sam: PromptableSam, path: str, contrast: Contrast | None = None) -> str | None:
    """Names the embedding of a photo file as it is now.

    Made of the file's identity (path, inode, size, time of change), the model's weights and sizes,
    the preprocessing, the run's contrast and the dtype: whatever could change the embedding changes
    the key.

    Returns:
        None if there is no such file.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    weights = sam.checkpoint_sha256 or weights_sha256(sam)
    model = f"{sam.name}|{weights}|{sam.image_size}|{sam.grid_size}|{sam.dtype}"
    file = f"{os.path.realpath(path)}|{status.st_ino}|{status.st_size}|{status.st_mtime_ns}"
    window = "" if contrast is None else f"|{contrast.low!r}|{contrast.high!r}"
    return f"{__version__}|{PREPROCESSING}|{model}|{file}{window}"


def look_up(cache: EmbeddingCache | None, key: str | None) -> ImageEmbedding | None:
    """What is kept under a key; None if nothing is, or if it cannot be had."""
    if cache is None or key is None:
        return None
    try:
        return cache.get(key)
    except Exception as error:  # a cache is a help, never a need
        logger.warning("An embedding could not be read from the cache: %s", error)
        return None


def keep(cache: EmbeddingCache, key: str, embedding: ImageEmbedding) -> None:
    """Keep an embedding, if that can be done."""
    try:
        cache.put(key, embedding)
    except Exception as error:
        logger.warning("An embedding could not be kept in the cache: %s", error)


def encode_files(
    sam: PromptableSam,
    paths: Sequence[str],
    cache: EmbeddingCache,
    contrast: Contrast | None = None,
) -> list[ImageEmbedding]:
    """Embeddings of photo files, from the cache where it has them, else computed and kept."""
    found = []
    for path in paths:
        key = embedding_key(sam, path, contrast)
        embedding = look_up(cache, key)
        if embedding is None:
            embedding = sam.encode([path], contrast=contrast)[0]
            if key is not None:
                keep(cache, key, embedding)
        found.append(embedding)
    return found


class MemoryCache:
    """Embeddings kept in main memory; least recently used ones are forgotten first.

    Args:
        max_bytes: how much to keep.

    Raises:
        PersamError: the limit is no positive number.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise PersamError(f"max_bytes {max_bytes!r} is no size: give 1 or more")
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, ImageEmbedding] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: str) -> ImageEmbedding | None:
        """See `EmbeddingCache.get`."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: str, embedding: ImageEmbedding) -> None:
        """See `EmbeddingCache.put`."""
        embedding = in_main_memory(embedding)
        with self._lock:
            self._forget(key)
            self._entries[key] = embedding
            self._bytes += size_of(embedding)
            while self._bytes > self.max_bytes:
                self._forget(next(iter(self._entries)))

    def _forget(self, key: str) -> None:
        if (known := self._entries.pop(key, None)) is not None:
            self._bytes -= size_of(known)


def in_main_memory(embedding: ImageEmbedding) -> ImageEmbedding:
    """A copy off the device, and free of the batch that it is a row of."""
    features = embedding.features
    copied = features.clone() if features.device.type == "cpu" else features.cpu()
    return replace(embedding, features=copied)


def size_of(embedding: ImageEmbedding) -> int:
    """Bytes of an embedding."""
    return int(embedding.features.numel() * embedding.features.element_size())


def weights_sha256(sam: PromptableSam) -> str:
    """Hash of a model whose weights came from no known file."""
    if sam not in _WEIGHTS:
        import torch

        digest = hashlib.sha256(type(sam.sam.image_encoder).__qualname__.encode())
        for name, tensor in sorted(sam.sam.state_dict().items()):
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            raw = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
            digest.update(raw.numpy().tobytes())
        _WEIGHTS[sam] = digest.hexdigest()
    return _WEIGHTS[sam]
