"""What a caller hands to the methods, checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from ..errors import BadReferenceError, PersamError
from ..sam import ImageEmbedding, PhotoSource, Promptable
from .reference import VISUAL, Reference, TextReference


def several_references_of(
    reference: object, kinds: Collection[str] = VISUAL, method: str = "the method"
) -> list[Any]:
    """One reference or a list of them, as a list.

    Args:
        reference: what a caller gave.
        kinds: the kinds of reference that the method takes.
        method: what it is called in the message.

    Raises:
        BadReferenceError: there is none, something else is among them, or one of another kind.
    """
    given = list(reference) if isinstance(reference, (list, tuple)) else [reference]
    references = [one for one in given if isinstance(one, (Reference, TextReference))]
    if not references or len(references) != len(given):
        raise BadReferenceError(
            "fit needs a Reference or a list of them: make one with Reference(image, mask=...)"
        )
    for one in references:
        check_kind(one.kind, kinds, method)
    return references


def check_kind(kind: str, kinds: Collection[str], method: str) -> None:
    """Raise BadReferenceError unless a method takes this kind of reference."""
    if kind not in kinds:
        raise BadReferenceError(
            f"{method} does not take a reference of kind {kind!r}: give one of kind "
            f"{' or '.join(map(repr, kinds))}, or choose another method"
        )


def several_photos(images: Iterable[PhotoSource]) -> list[PhotoSource]:
    """Photos as a list; a single one, whose letters or rows would pass for photos, is refused.

    Raises:
        PersamError: this is not a list.
    """
    single = isinstance(images, (str, bytes, os.PathLike)) or (
        isinstance(images, np.ndarray) and images.dtype != object and images.ndim < 4
    )
    if single or not isinstance(images, Iterable):
        raise PersamError(
            f"images is a {type(images).__name__}, not a list of photos: pass predict([photo])"
        )
    return list(images)


def recognition_dim_of(sam: Promptable) -> int:
    """Channels of what a model's embeddings have ``to_recognise``."""
    return int(getattr(sam, "recognition_dim", sam.matching_dim))


def check_embeddings(
    embeddings: Sequence[ImageEmbedding], sam: Promptable, count: int | None = None
) -> None:
    """Raise PersamError unless a model can have made these, ``count`` of them."""
    if count is not None and len(embeddings) != count:
        raise PersamError(
            f"{count} references need as many embeddings, not {len(embeddings)}: encode every "
            "reference's photo, or leave embeddings out"
        )
    grid = (sam.grid_size, sam.grid_size)
    for embedding in embeddings:
        if not isinstance(embedding, ImageEmbedding):
            raise PersamError(
                f"{type(embedding).__name__} is not an embedding: pass what encode() returned, or "
                "photos to predict()"
            )
        for tensor, expected, what in (
            (embedding.features, (sam.embed_dim, *grid), "an embedding"),
            (embedding.to_match, (sam.matching_dim, *grid), "an embedding with features to match"),
            (
                embedding.to_recognise,
                (recognition_dim_of(sam), *grid),
                "an embedding with features to recognise",
            ),
        ):
            if tuple(tensor.shape) != expected:
                raise PersamError(
                    f"{what} of shape {tuple(tensor.shape)} does not belong to {sam.name}, whose "
                    f"embeddings are {expected}: encode with this model"
                )
