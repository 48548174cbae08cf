"""Embeddings are nearly all the work: where a job looks for those that are there already."""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from .. import __version__
from ..errors import PersamError
from ..options import as_plain

if TYPE_CHECKING:
    from torch import Tensor

    from ..sam import Contrast, ImageEmbedding, Photo, PhotoSource, Promptable

logger = logging.getLogger(__name__)

# Part of every key: raise it when photos are read, resized or normalised in another way.
PREPROCESSING = 3


@runtime_checkable
class EmbeddingCache(Protocol):
    """Embeddings by `embedding_key`. Safe to use from several threads."""

    def get(self, key: str) -> ImageEmbedding | None:
        """The embedding kept under a key, or None."""
        ...

    def put(self, key: str, embedding: ImageEmbedding) -> None:
        """Keep an embedding; may forget others to make room."""
        ...


def embedding_key(
    sam: Promptable,
    path: str,
    contrast: Contrast | None = None,
    frame: int | None = None,
    raw: bool = False,
) -> str | None:
    """Names the embedding of a photo file as it is now, or of a frame of a video file.

    Made of the file's identity (path, inode, size, time of change), the weights that encode it
    (those of another backbone for matching included), the model's sizes, the preprocessing,
    the run's contrast, the dtype, and whether the device resizes the photo (``raw``): whatever
    could change the embedding changes the key.

    Returns:
        None if there is no such file.
    """
    try:
        status = os.stat(path)
    except OSError:
        return None
    file = f"{os.path.realpath(path)}|{status.st_ino}|{status.st_size}|{status.st_mtime_ns}"
    window = "" if contrast is None else f"|{contrast.low!r}|{contrast.high!r}"
    which = "" if frame is None else f"|frame {frame}"
    by_device = "|raw" if raw else ""
    return f"{_encoding(sam)}|{file}{window}{which}{by_device}"


def _encoding(sam: Promptable) -> str:
    """Begins the keys of what one encoder makes."""
    # Not the model's name: another one with the same encoder has the same embeddings.
    model = f"{sam.encoder_identity}|{sam.image_size}|{sam.grid_size}|{sam.dtype}"
    return f"{__version__}|{PREPROCESSING}|{model}"


def look_up(cache: EmbeddingCache | None, key: str | None) -> ImageEmbedding | None:
    """What is kept under a key; None if nothing is, or if it cannot be had."""
    if cache is None or key is None:
        return None
    try:
        return cache.get(key)
    except Exception as error:  # a cache is a help, never a need
        logger.warning("An embedding could not be read from the cache: %s", error)
        return None


def look_up_shared(
    cache: EmbeddingCache | None,
    sam: Promptable,
    path: str,
    contrast: Contrast | None = None,
    frame: int | None = None,
) -> ImageEmbedding | None:
    """What a device that resizes photos itself has kept, for a model that does not.

    A `TextPromptable` shares its image encoder with such a model, and takes what that has made.
    """
    if cache is None or not hasattr(sam, "complete"):
        return None
    return look_up(cache, embedding_key(sam, path, contrast, frame, raw=True))


def keep(cache: EmbeddingCache, key: str, embedding: ImageEmbedding) -> None:
    """Keep an embedding, if that can be done."""
    try:
        cache.put(key, embedding)
    except Exception as error:
        logger.warning("An embedding could not be kept in the cache: %s", error)


def completed(
    sam: Promptable,
    embedding: ImageEmbedding,
    source: Callable[[], PhotoSource],
    contrast: Contrast | None = None,
) -> ImageEmbedding:
    """An embedding from a cache, with what its model needs of the photo beside it.

    Args:
        sam: a `TextPromptable` looks at photos once more; others need nothing.
        embedding: as it was kept.
        source: gives the photo, if it is needed.
        contrast: of the run.

    Raises:
        PhotoError: the photo is needed and cannot be read.
    """
    complete = getattr(sam, "complete", None)
    if complete is None:
        return embedding
    whole: ImageEmbedding = complete(embedding, source(), contrast)
    return whole


def encode_files(
    sam: Promptable,
    paths: Sequence[str],
    cache: EmbeddingCache,
    contrast: Contrast | None = None,
) -> list[ImageEmbedding]:
    """Embeddings of photo files, from the cache where it has them, else computed and kept."""
    return [_encode_file(sam, path, cache, contrast) for path in paths]


def _encode_file(
    sam: Promptable, path: str, cache: EmbeddingCache, contrast: Contrast | None
) -> ImageEmbedding:
    key = embedding_key(sam, path, contrast)
    known = look_up(cache, key)
    if known is None:
        known = look_up_shared(cache, sam, path, contrast)
    if known is not None:
        return completed(sam, known, lambda: path, contrast)
    embedding = sam.encode([path], contrast=contrast)[0]
    if key is not None:
        keep(cache, key, embedding)
    return embedding


def encode_pictures(
    sam: Promptable, cache: EmbeddingCache, pictures: Sequence[Photo]
) -> list[ImageEmbedding]:
    """Embeddings of (H, W, 3) uint8 pictures that are in no file, as `encode_files` has them."""
    found = []
    for picture in pictures:
        content = hashlib.sha256(picture.tobytes()).hexdigest()
        key = f"{_encoding(sam)}|{picture.shape}|{content}"
        embedding = look_up(cache, key)
        if embedding is None:
            embedding = sam.encode([picture])[0]
            keep(cache, key, embedding)
        found.append(embedding)
    return found


def check_size(max_bytes: Any) -> int:
    """A number of bytes as Python's own integer; NumPy's are taken, too.

    Raises:
        PersamError: this is not a positive integer.
    """
    number = as_plain(max_bytes)
    if isinstance(number, bool) or not isinstance(number, int) or number < 1:
        raise PersamError(f"max_bytes {max_bytes!r} is not a size: give 1 or more")
    return number


class MemoryCache:
    """Embeddings kept in main memory; least recently used ones are forgotten first.

    Args:
        max_bytes: how much to keep.

    Raises:
        PersamError: the limit is not a positive number.
    """

    def __init__(self, max_bytes: int = 2**30) -> None:
        self.max_bytes = check_size(max_bytes)
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
    other, described = embedding.matching, embedding.descriptors
    return replace(
        embedding,
        features=_copied(embedding.features),
        matching=None if other is None else _copied(other),
        descriptors=None if described is None else _copied(described),
        overview=None,  # the photo is quickly read again, and other models need none
    )


def size_of(embedding: ImageEmbedding) -> int:
    """Bytes of an embedding."""
    tensors = (embedding.features, embedding.matching, embedding.descriptors)
    return sum(int(one.numel() * one.element_size()) for one in tensors if one is not None)


def weights_sha256(sam: Promptable) -> str:
    """Names a model's weights, for records: the hash of its file where it came from one."""
    return sam.identity


def _copied(tensor: Tensor) -> Tensor:
    tensor = tensor.detach()
    return tensor.clone() if tensor.device.type == "cpu" else tensor.cpu()
