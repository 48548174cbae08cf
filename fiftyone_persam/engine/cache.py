"""Embeddings are nearly all the work: where a job looks for those that are there already."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..sam import ImageEmbedding, PromptableSam

# Part of every key: raise it when photos are read, resized or normalised in another way.
PREPROCESSING = 1


class EmbeddingCache(Protocol):
    """Embeddings by `embedding_key`. Safe to use from several threads."""

    def get(self, key: str) -> ImageEmbedding | None:
        """The embedding kept under a key, or None."""
        ...

    def put(self, key: str, embedding: ImageEmbedding) -> None:
        """Keep an embedding; may forget others to make room."""
        ...


def embedding_key(sam: PromptableSam, path: str) -> str | None:
    """Names the embedding of a photo file as it is now: file, checkpoint, preprocessing, dtype.

    Returns:
        None where that cannot be told: no such file, or weights that have no hash.
    """
    if sam.checkpoint_sha256 is None:
        return None
    try:
        status = os.stat(path)
    except OSError:
        return None
    model = f"{sam.name}|{sam.checkpoint_sha256}|{sam.image_size}|{sam.dtype}|{PREPROCESSING}"
    return f"{model}|{os.path.realpath(path)}|{status.st_size}|{status.st_mtime_ns}"


class MemoryCache:
    """Embeddings kept in memory; least recently used ones are forgotten first.

    Args:
        max_bytes: how much to keep.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
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
        with self._lock:
            self._forget(key)
            self._entries[key] = embedding
            self._bytes += _size(embedding)
            while self._bytes > self.max_bytes:
                self._forget(next(iter(self._entries)))

    def _forget(self, key: str) -> None:
        if (known := self._entries.pop(key, None)) is not None:
            self._bytes -= _size(known)


def _size(embedding: ImageEmbedding) -> int:
    return embedding.features.numel() * embedding.features.element_size()
