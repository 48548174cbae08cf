"""What a caller hands to the methods, checked before anything is computed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from numbers import Real

import numpy as np

from ..errors import BadReferenceError, PersamError
from ..sam import ImageEmbedding, PhotoSource, PromptableSam
from .reference import Reference


def is_number(value: object, kind: type = Real) -> bool:
    """Whether a setting is a number at all, before it is compared with its range."""
    return isinstance(value, kind) and not isinstance(value, bool)


def check_switches(**switches: object) -> None:
    """Raise PersamError unless all are True or False: "off" would switch a part on."""
    for name, value in switches.items():
        if not isinstance(value, (bool, np.bool_)):
            raise PersamError(f"{name} {value!r} is no switch: give True or False")


def several_references_of(reference: object) -> list[Reference]:
    """One reference or a list of them, as a list.

    Raises:
        BadReferenceError: there is none, or something else is among them.
    """
    given = list(reference) if isinstance(reference, (list, tuple)) else [reference]
    references = [one for one in given if isinstance(one, Reference)]
    if not references or len(references) != len(given):
        raise BadReferenceError(
            "fit needs a Reference or a list of them: make one with Reference(image, mask=...)"
        )
    return references


def several_photos(images: Iterable[PhotoSource]) -> list[PhotoSource]:
    """Photos as a list; a single one, whose letters or rows would pass for photos, is refused.

    Raises:
        PersamError: this is no list.
    """
    single = isinstance(images, (str, bytes, os.PathLike)) or (
        isinstance(images, np.ndarray) and images.dtype != object and images.ndim < 4
    )
    if single or not isinstance(images, Iterable):
        raise PersamError(
            f"images is a {type(images).__name__}, not a list of photos: pass predict([photo])"
        )
    return list(images)


def check_embeddings(
    embeddings: Sequence[ImageEmbedding], sam: PromptableSam, count: int | None = None
) -> None:
    """Raise PersamError unless a model can have made these, ``count`` of them."""
    if count is not None and len(embeddings) != count:
        raise PersamError(
            f"{count} references need as many embeddings, not {len(embeddings)}: encode every "
            "reference's photo, or leave embeddings out"
        )
    expected = (sam.embed_dim, sam.grid_size, sam.grid_size)
    for embedding in embeddings:
        if not isinstance(embedding, ImageEmbedding):
            raise PersamError(
                f"{type(embedding).__name__} is no embedding: pass what encode() returned, or "
                "photos to predict()"
            )
        if tuple(embedding.features.shape) != expected:
            raise PersamError(
                f"an embedding of shape {tuple(embedding.features.shape)} does not belong to "
                f"{sam.name}, whose embeddings are {expected}: encode with this model"
            )
