"""Where the pixels of a task come from: a photo's file, or a video that is read frame by frame."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from ..sam.frames import FrameReader
from ..sam.photos import PhotoSource

if TYPE_CHECKING:
    from .job import PhotoTask


class FrameReaders:
    """The open videos of a job: each is opened at its first frame and closed after its last.

    Args:
        tasks: of the job, frames of one sequence in their order.
    """

    def __init__(self, tasks: Sequence[PhotoTask]) -> None:
        self._wanted: dict[tuple[str, str, str], set[int]] = defaultdict(set)
        for task in tasks:
            if task.frame is not None:
                self._wanted[_key(task)].add(task.frame)
        self._open: dict[tuple[str, str, str], FrameReader] = {}
        self._lock = threading.Lock()

    def read(self, task: PhotoTask) -> PhotoSource:
        """A task's photo: the path of its file, or the pixels of its frame.

        Raises:
            PhotoError: the video cannot be read, or has no such frame.
        """
        if task.frame is None:
            return task.path
        key = _key(task)
        with self._lock:
            if key not in self._open:
                self._open[key] = FrameReader(task.path, self._wanted[key])
            reader = self._open[key]
        return reader.read(task.frame)

    def done(self, task: PhotoTask) -> None:
        """Say that a task's pixels will not be asked for again."""
        if task.frame is None:
            return
        key = _key(task)
        with self._lock:
            left, reader = self._wanted[key], self._open.get(key)
            left.discard(task.frame)
            if not left:
                self._open.pop(key, None)
        if reader is not None:
            reader.forget(task.frame)
            if not left:
                reader.close()

    def __enter__(self) -> FrameReaders:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for reader in self._open.values():
            reader.close()


def _key(task: PhotoTask) -> tuple[str, str, str]:
    return task.group, task.sequence, task.path
