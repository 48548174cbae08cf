"""A method over the frames of a sequence, one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..sam import ImageEmbedding, Photo
from .prediction import Prediction

Mask = npt.NDArray[np.bool_]
Answer = Prediction | Mask


class Session(Protocol):
    """One sequence: frames come in order, and what was seen may change what is found next."""

    def open(self, first: ImageEmbedding) -> Any:
        """Begin with the first frame; returns its `Prediction`."""
        ...

    def step(self, embedding: ImageEmbedding) -> Any:
        """The next frame's `Prediction`."""
        ...


class SequenceSession(Protocol):
    """One sequence and all objects that are wanted in it; no pixel is given to two of them.

    Frames come in the order in which they are to be followed, which may be backwards. Every
    dictionary that is returned has every object: one that is not there has an empty mask.
    """

    def open(
        self,
        first: ImageEmbedding,
        masks: Mapping[str, Mask] | None = None,
        photo: Photo | None = None,
    ) -> dict[str, Prediction]:
        """Begin with the frame in which objects are labelled.

        Args:
            first: the frame.
            masks: object -> (H, W) bool at the frame's own size. An object that is left out is
                looked for as in any photo.
            photo: (H, W, 3) uint8 RGB, the frame's pixels; a session may look closer at them.
        """
        ...

    def step(self, embedding: ImageEmbedding, photo: Photo | None = None) -> dict[str, Prediction]:
        """The next frame's predictions."""
        ...

    def follow(
        self,
        embedding: ImageEmbedding,
        answers: Mapping[str, Answer],
        photo: Photo | None = None,
    ) -> None:
        """Take over a frame whose answer is known: written before, or corrected by hand.

        Afterwards the session is as if `step` had given these masks.
        """
        ...


class FrameByFrame:
    """The session of a method that has none of its own: each frame is a photo like any other.

    Args:
        predictor: a fitted method, or anything with its ``predict_embeddings``.
    """

    def __init__(self, predictor: Any) -> None:
        self._predictor = predictor

    def open(self, first: ImageEmbedding) -> Any:
        """See `Session.open`."""
        return self.step(first)

    def step(self, embedding: ImageEmbedding) -> Any:
        """See `Session.step`."""
        (prediction,) = self._predictor.predict_embeddings([embedding])
        return prediction


def session_of(predictor: Any) -> Session:
    """A new session of a fitted method; `FrameByFrame` where it has none of its own."""
    own = getattr(predictor, "session", None)
    return own() if callable(own) else FrameByFrame(predictor)


class SideBySide:
    """Sessions of single objects as one; a pixel that several want goes to the highest score.

    Args:
        methods: object -> fitted method.
    """

    def __init__(self, methods: Mapping[str, Any]) -> None:
        self._sessions = {name: session_of(method) for name, method in methods.items()}
        self._is_open = False

    def open(
        self,
        first: ImageEmbedding,
        masks: Mapping[str, Mask] | None = None,
        photo: Photo | None = None,
    ) -> dict[str, Prediction]:
        """See `SequenceSession.open`; the masks are what the methods were fitted to."""
        return self.step(first, photo)

    def step(self, embedding: ImageEmbedding, photo: Photo | None = None) -> dict[str, Prediction]:
        """See `SequenceSession.step`."""
        found = {
            name: session.step(embedding) if self._is_open else session.open(embedding)
            for name, session in self._sessions.items()
        }
        self._is_open = True
        return competing(found)

    def follow(
        self,
        embedding: ImageEmbedding,
        answers: Mapping[str, Answer],
        photo: Photo | None = None,
    ) -> None:
        """See `SequenceSession.follow`; a session that remembers has to look for itself."""
        if any(not isinstance(one, FrameByFrame) for one in self._sessions.values()):
            self.step(embedding, photo)


def competing(found: Mapping[str, Prediction]) -> dict[str, Prediction]:
    """Predictions in which no pixel belongs to two objects: the higher score has it."""
    from dataclasses import replace

    if len(found) < 2:
        return dict(found)
    kept: dict[str, Prediction] = {}
    taken: Mask | None = None
    for name, one in sorted(found.items(), key=lambda item: -item[1].score):
        mask = one.mask if taken is None else one.mask & ~taken
        kept[name] = replace(one, mask=mask, candidate=mask if one.mask.any() else one.candidate)
        taken = mask.copy() if taken is None else taken | mask
    return {name: kept[name] for name in found}


def sequence_session(methods: Mapping[str, Any]) -> SequenceSession:
    """A new session for one sequence and several objects.

    Methods of one kind know best how; others go side by side.

    Args:
        methods: object -> fitted method, at least one.
    """
    kinds = {
        getattr(getattr(type(one), "sequence_session", None), "__func__", None)
        for one in methods.values()
    }
    modes = {getattr(one, "mode", None) for one in methods.values()}
    if len(kinds) == len(modes) == 1 and None not in kinds:
        first = next(iter(methods.values()))
        own: SequenceSession = type(first).sequence_session(methods)
        return own
    return SideBySide(methods)
