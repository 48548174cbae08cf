"""Frames of a sequence: kept whole, in order, and given to one session one after the other."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import PersamError
from .memory import is_out_of_memory

if TYPE_CHECKING:
    from ..sam import ImageEmbedding
    from .job import PhotoTask, Predictor


def units(tasks: Iterable[PhotoTask]) -> list[list[PhotoTask]]:
    """Tasks that belong together: a photo alone, or all frames of a sequence in their order.

    A sequence stands where its first task stood.
    """
    found: list[list[PhotoTask]] = []
    sequences: dict[tuple[str, str], list[PhotoTask]] = {}
    for task in tasks:
        if not task.sequence:
            found.append([task])
        elif (key := (task.group, task.sequence)) in sequences:
            sequences[key].append(task)
        else:
            sequences[key] = [task]
            found.append(sequences[key])
    for frames in sequences.values():
        frames.sort(key=lambda task: task.order)
    return found


def arranged(tasks: Iterable[PhotoTask]) -> list[PhotoTask]:
    """The tasks with every sequence whole and in order."""
    return [task for unit in units(tasks) for task in unit]


def with_earlier_frames(tasks: Iterable[PhotoTask], wanted: Container[str]) -> list[PhotoTask]:
    """What is left of some tasks, so that sessions come to what they would have come to.

    Args:
        tasks: all.
        wanted: ids of those that lack their result.

    Returns:
        Those, and the frames before them in their sequences, which are only seen `again`.
    """
    found: list[PhotoTask] = []
    for unit in units(tasks):
        last = max((n for n, task in enumerate(unit) if task.id in wanted), default=-1)
        found += [replace(t, again=t.id not in wanted) for t in unit[: last + 1]]
    return found


class Sessions:
    """The sessions of a job, one per sequence and object, open from its first frame to its last.

    Args:
        predictors: by object.
        tasks: `arranged`.
    """

    def __init__(self, predictors: Mapping[str, Predictor], tasks: Sequence[PhotoTask]) -> None:
        self._predictors = predictors
        self._open: dict[tuple[str, str], Any] = {}
        self._last = {(t.group, t.sequence): t.id for t in tasks if t.sequence}

    def step(self, task: PhotoTask, embedding: ImageEmbedding) -> Any:
        """The prediction of the next frame of a sequence, or the exception that it ended with.

        A frame that fails is left out: the session goes on with the next one. It is not tried
        again, because the session has seen it.
        """
        from ..personalize import session_of

        key = (task.group, task.sequence)
        try:
            if key in self._open:
                return self._open[key].step(embedding)
            session = session_of(self._predictors[task.group])
            prediction = session.open(embedding)
            self._open[key] = session
            return prediction
        except Exception as error:
            if is_out_of_memory(error):
                return PersamError(
                    "the device has not enough memory for this frame: choose a smaller model or "
                    "device='cpu'"
                )
            return error
        finally:
            if self._last[key] == task.id:
                self._open.pop(key, None)
