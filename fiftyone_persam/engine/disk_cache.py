"""Embeddings on disk: another reference, method or threshold costs only decoding, even next week.

One safetensors file per embedding, never pickle. Files appear whole or not at all, so any number of
processes may share a folder. What a file says of itself (key, hash of its numbers) is checked when
it is read; one that is damaged is removed and its photo encoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import PersamError
from ..sam.checkpoints import model_zoo_dir
from .cache import check_size, in_main_memory, size_of
from .writing import PART_SUFFIX, write_bytes

if TYPE_CHECKING:
    import torch

    from ..sam import ImageEmbedding

logger = logging.getLogger(__name__)

MAX_BYTES = 10 * 2**30
SUFFIX = ".safetensors"
STALE_SECONDS = 3600.0
"""Age at which a half-written file can only be a killed process's."""


def default_cache_dir() -> Path:
    """``__persam_embeddings__`` beside FiftyOne's model zoo folder."""
    return model_zoo_dir().parent / "__persam_embeddings__"


class DiskCache:
    """Embeddings in a folder; least recently used ones are removed first.

    The limit holds for the folder, whoever writes into it; each process that is writing may go
    beyond it by a twentieth before it looks again.

    Args:
        folder: made where it is missing; `default_cache_dir` if None.
        max_bytes: how much to keep.

    Raises:
        PersamError: the folder cannot be written, or the limit is not a positive number.
    """

    def __init__(
        self, folder: str | os.PathLike[str] | None = None, max_bytes: int = MAX_BYTES
    ) -> None:
        max_bytes = check_size(max_bytes)
        self.folder = Path(folder or default_cache_dir()).expanduser().absolute()
        self.max_bytes = max_bytes
        self._lock = threading.Lock()
        self._room = 0  # bytes that may be written before the folder is looked through
        there = self.folder
        try:
            while not there.exists():
                there = there.parent
            usable = there.is_dir() and os.access(there, os.W_OK) and "\0" not in str(self.folder)
        except OSError:  # a name that is too long
            usable = False
        if not usable:
            raise PersamError(
                f"embeddings cannot be cached in {self.folder}: choose another folder"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Another process gets a cache of its own on the same folder."""
        return type(self), (self.folder, self.max_bytes)

    def get(self, key: str) -> ImageEmbedding | None:
        """See `EmbeddingCache.get`."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            embedding = _read(path, key)
        except FileNotFoundError:  # removed by another process in this moment
            return None
        except Exception as error:  # safetensors, json and torch each raise their own
            logger.warning("Cached embedding %s is damaged and is removed: %s", path, error)
            path.unlink(missing_ok=True)
            return None
        _touch(path)
        return embedding

    def put(self, key: str, embedding: ImageEmbedding) -> None:
        """See `EmbeddingCache.put`.

        Raises:
            WriteError: the file cannot be written.
        """
        if size_of(embedding) > self.max_bytes:
            return
        path = self._path(key)
        content = _to_bytes(key, in_main_memory(embedding))
        write_bytes(content, path)
        _touch(path)
        with self._lock:
            self._room -= len(content)
            if self._room < 0:
                self._make_room()

    def clear(self) -> None:
        """Remove every embedding."""
        for entry in self._entries():
            Path(entry.path).unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes of all embeddings in the folder."""
        return sum(size for _, size, _ in self._stats())

    def _path(self, key: str) -> Path:
        name = hashlib.sha256(key.encode()).hexdigest()
        return self.folder / name[:2] / f"{name}{SUFFIX}"

    def _entries(self) -> list[os.DirEntry[str]]:
        found = []
        for name in [f"{number:02x}" for number in range(256)]:
            try:
                found += list(os.scandir(self.folder / name))
            except OSError:
                continue
        return [entry for entry in found if entry.name.endswith((SUFFIX, PART_SUFFIX))]

    def _stats(self) -> list[tuple[int, int, str]]:
        """(time of last use, bytes, path) of every embedding, in that order."""
        found = []
        for entry in self._entries():
            try:
                status = entry.stat(follow_symlinks=False)
            except OSError:  # removed by another process in this moment
                continue
            if entry.name.endswith(PART_SUFFIX):
                if time.time() - status.st_mtime > STALE_SECONDS:
                    Path(entry.path).unlink(missing_ok=True)
                continue
            found.append((status.st_mtime_ns, status.st_size, entry.path))
        return sorted(found)

    def _make_room(self) -> None:
        found = self._stats()
        used = sum(size for _, size, _ in found)
        for _, size, path in found:
            if used <= self.max_bytes:
                break
            Path(path).unlink(missing_ok=True)
            used -= size
        # Others may be writing as well, so not all of what is free is ours.
        self._room = min(self.max_bytes - used, self.max_bytes // 20)


def _to_bytes(key: str, embedding: ImageEmbedding) -> bytes:
    from safetensors.torch import save

    tensors = {"features": embedding.features.detach().contiguous()}
    if embedding.matching is not None:
        tensors["matching"] = embedding.matching.detach().contiguous()
    if embedding.descriptors is not None:
        tensors["descriptors"] = embedding.descriptors.detach().contiguous()
    about = {
        "key": key,
        "hash": _hash(tensors),
        "input_size": list(embedding.input_size),
        "original_size": list(embedding.original_size),
        "image_size": embedding.image_size,
    }
    return bytes(save(tensors, {"about": json.dumps(about)}))


def _read(path: Path, key: str) -> ImageEmbedding:
    from safetensors import safe_open

    from ..sam import ImageEmbedding

    with safe_open(str(path), framework="pt") as file:
        about = json.loads(file.metadata()["about"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if about["key"] != key:
        raise ValueError("it is of another photo or model")
    if about["hash"] != _hash(tensors):
        raise ValueError("its numbers are not those that were written")
    height, width = about["input_size"]
    rows, columns = about["original_size"]
    return ImageEmbedding(
        tensors["features"],
        (height, width),
        (rows, columns),
        about["image_size"],
        tensors.get("matching"),
        descriptors=tensors.get("descriptors"),
    )


def _hash(tensors: dict[str, torch.Tensor]) -> str:
    import torch

    digest = hashlib.blake2b(digest_size=16)
    for _, tensor in sorted(tensors.items()):
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _touch(path: Path) -> None:
    now = time.time_ns()  # finer than the file system's own clock
    with contextlib.suppress(OSError):  # removed by another process in this moment
        os.utime(path, ns=(now, now))
