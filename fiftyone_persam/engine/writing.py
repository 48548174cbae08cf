"""Files that are whole or not there, written by threads behind the computation."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from ..errors import PersamError

PART_SUFFIX = ".part"
MASK_VALUE = 255

T = TypeVar("T")


class WriteError(PersamError):
    """A result could not be written, for example to a full disk. Nothing half-written is left."""


def write_mask(mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8], path: Path) -> None:
    """Write a (H, W) mask as an 8-bit grey PNG, see `encode_mask`, whole or not at all.

    Raises:
        WriteError: the file cannot be written.
    """
    write_bytes(encode_mask(mask), path)


def encode_mask(mask: npt.NDArray[np.bool_] | npt.NDArray[np.uint8]) -> bytes:
    """A (H, W) mask as the content of an 8-bit grey PNG: bool as 0 and 255, values as they are.

    Raises:
        WriteError: it has no pixels.
    """
    pixels = mask.view(np.uint8)
    if mask.dtype == np.bool_:
        pixels = pixels * np.uint8(MASK_VALUE)
    # OpenCV's default compression is both faster and smaller than its level 1 on masks.
    done, encoded = cv2.imencode(".png", pixels)
    if not done:
        raise WriteError(f"a mask of shape {mask.shape} cannot be written as PNG")
    return bytes(encoded.tobytes())


def write_bytes(content: bytes, path: Path) -> None:
    """Write a file so that it is either whole or not there; an older one is replaced at once.

    Raises:
        WriteError: the file cannot be written.
    """
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART_SUFFIX}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            part.write_bytes(content)
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise WriteError(
            f"cannot write {path}: {reason}. Mend that, then resume the run"
        ) from error


class WriteBehind(Generic[T]):
    """A few threads that finish results while the next ones are computed.

    At most ``pending`` results wait at a time: `submit` blocks beyond that, so memory stays flat
    when the disk is slower than the model.
    """

    def __init__(self, workers: int, pending: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="persam-write")
        self._pending = pending
        self._queue: list[Future[T]] = []

    def submit(self, function: Callable[..., T], *args: Any) -> list[T]:
        """Hand over one piece of work.

        Returns:
            Results that are ready, in the order in which they were handed over.

        Raises:
            Exception: whatever an earlier piece of work raised.
        """
        self._queue.append(self._pool.submit(function, *args))
        return self.ready(len(self._queue) - self._pending)

    def ready(self, at_least: int = 0) -> list[T]:
        """Results from the front of the queue; waits for the first ``at_least`` of them."""
        results: list[T] = []
        while self._queue and (len(results) < at_least or self._queue[0].done()):
            results.append(self._queue.pop(0).result())
        return results

    def drain(self) -> list[T]:
        """Wait for everything that was handed over."""
        return self.ready(len(self._queue))

    def __enter__(self) -> WriteBehind[T]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
