"""Frames of a sequence: kept whole, in order, and given to one session one after the other."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ..errors import PersamError
from .memory import is_out_of_memory

if TYPE_CHECKING:
    from ..sam import ImageEmbedding
    from ..sam.photos import Photo
    from .job import PhotoTask, Predictor


BACKWARDS = "\0<"
"""Ends the name of a sequence whose frames come from the last to the first; no other name does."""


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
        open_ = [not task.again and task.id in wanted for task in unit]
        last = max((n for n, one in enumerate(open_) if one), default=-1)
        found += [
            replace(task, again=not one) for task, one in zip(unit[: last + 1], open_, strict=False)
        ]
    return found


def around_labels(tasks: Iterable[PhotoTask], labelled: Container[str]) -> list[PhotoTask]:
    """Sequences with a labelled frame in the order in which sessions follow their objects.

    From the first labelled frame to the last frame, and then, in a sequence of its own, from the
    labelled frame back to the first. See `track_name`.
    """
    found: list[PhotoTask] = []
    for unit in units(tasks):
        first = next((n for n, task in enumerate(unit) if task.id in labelled), 0)
        found += unit[first:]
        if first:
            seen, *earlier = unit[first::-1]
            back = [replace(seen, again=True), *earlier]
            found += [
                replace(task, sequence=task.sequence + BACKWARDS, order=place)
                for place, task in enumerate(back)
            ]
    return found


def track_name(task: PhotoTask) -> str:
    """The sequence that a task is a frame of, in whichever direction it is followed."""
    return task.sequence.removesuffix(BACKWARDS)


class Sessions:
    """The sessions of a job, one per sequence, open from its first frame to its last.

    Args:
        predictors: by object, as tasks name it in ``group``.
        tasks: `arranged`.
        labelled: see `Job`.
    """

    def __init__(
        self,
        predictors: Mapping[str, Predictor],
        tasks: Sequence[PhotoTask],
        labelled: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._predictors = predictors
        self._labelled = labelled or {}
        self._open: dict[tuple[str, str], Any] = {}
        self._photos: dict[tuple[str, str], Photo] = {}
        self._last = {(t.group, t.sequence): t.id for t in tasks if t.sequence}

    def show(self, task: PhotoTask, photo: Photo) -> None:
        """Take the pixels of a frame, before its turn comes."""
        self._photos[task.sequence, task.id] = photo

    def step(self, task: PhotoTask, embedding: ImageEmbedding) -> Any:
        """The prediction of the next frame of a sequence, or the exception that it ended with.

        A frame that fails is left out: the session goes on with the next one. It is not tried
        again, because the session has seen it.
        """
        key = (task.group, task.sequence)
        photo = self._photos.pop((task.sequence, task.id), None)
        try:
            return self._step(key, self._labelled.get(task.id, {}), embedding, photo)
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

    def _step(
        self,
        key: tuple[str, str],
        masks: Mapping[str, Any],
        embedding: ImageEmbedding,
        photo: Photo | None,
    ) -> Any:
        from ..personalize.session import sequence_session
        from ..personalize.several import Scene

        predictor = self._predictors[key[0]]
        several = getattr(predictor, "objects", None)
        session = self._open.get(key)
        if session is not None:
            found = session.step(embedding, photo)
            if masks:  # what is labelled here is known, and the others are where they were found
                masks = {**{n: one.mask for n, one in found.items() if one.mask.any()}, **masks}
        if session is None or masks:
            session = sequence_session(several or {"": predictor})
            found = session.open(embedding, masks, photo)
            self._open[key] = session
        return Scene(found) if several else found[""]
