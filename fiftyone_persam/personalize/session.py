"""A method over the frames of a sequence, one after the other."""

from __future__ import annotations

from typing import Any, Protocol

from ..sam import ImageEmbedding


class Session(Protocol):
    """One sequence: frames come in order, and what was seen may change what is found next."""

    def open(self, first: ImageEmbedding) -> Any:
        """Begin with the first frame; returns its `Prediction`."""
        ...

    def step(self, embedding: ImageEmbedding) -> Any:
        """The next frame's `Prediction`."""
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
