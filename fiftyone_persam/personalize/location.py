"""Location priors: where the object may be, as a similarity map, points and an attention bias.

"aligned" and "released" are the paper's one (eq. 5 to 8): the former knows the padding, the latter
computes what the published code does. `stronger_priors` has others, `hypercolumns` the default. Yet
another one is a class like these, registered in `LOCATION_PRIORS`; methods that decode in passes
take it by ``location_prior="..."``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..sam import ImageEmbedding, Photo, Promptable
from . import prior
from .presence import DEFAULT_THRESHOLD


@dataclass(frozen=True, eq=False)
class ReferenceView:
    """One reference as a location prior sees it.

    Attributes:
        embedding: the reference's photo.
        features: (C, h, w) float32, what the prior compares objects by.
        foreground: (h, w) bool, the object's cells.
        valid: (h, w) bool, the photo's cells; the others are padding.
        target: (C,) the method's normalised target feature.
        photo: (H, W, 3) uint8, the reference's photo itself, for methods that look at it again.
    """

    embedding: ImageEmbedding
    features: Tensor
    foreground: Tensor
    valid: Tensor
    target: Tensor
    photo: Photo | None = None


@dataclass(frozen=True, eq=False)
class Guide:
    """What B photos are decoded with.

    Attributes:
        points: (B, n, 2) int64 x, y in photo pixels: the likely places, the most likely one first,
            and last the least likely place.
        attention_bias: (B, h * w) for the guided attention.
    """

    points: npt.NDArray[np.int64]
    attention_bias: Tensor


class LocationPrior(Protocol):
    """Finds where the object may be, without decoding.

    Attributes:
        name: what it is called.
        help: one sentence, without a full stop.
        exact: whether all is as released: boxes and tuning go by the photo's own resolution, the
            object is what is not 0 in the mask's first channel, and an empty last mask stays; else
            they go by the size inside the model's input, which costs the same for every photo.
        suppresses: whether it can look for a further object in the cells that are left.
        presence_threshold: the default below which an object counts as absent.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    exact: ClassVar[bool]
    suppresses: ClassVar[bool]
    presence_threshold: ClassVar[float]

    def features(self, embedding: ImageEmbedding) -> Tensor:
        """(C, h, w) of a photo, what objects are compared by."""
        ...

    def dim(self, sam: Promptable) -> int:
        """Channels of `features` of a model's embeddings."""
        ...

    def foreground(
        self,
        sam: Promptable,
        mask: npt.NDArray[np.bool_],
        channel: npt.NDArray[np.uint8],
        embedding: ImageEmbedding,
    ) -> Tensor:
        """The object's cells in a reference.

        Args:
            sam: the model.
            mask: (H, W) bool.
            channel: (H, W) uint8, the mask's first channel as it was given.
            embedding: the reference's photo.

        Returns:
            (h, w) bool with a cell at least.

        Raises:
            BadReferenceError: no cell is the object's.
        """
        ...

    def fit(self, views: Sequence[ReferenceView]) -> dict[str, Tensor]:
        """What it has to remember of the references beside their targets; saved with the method."""
        ...

    def similarity(
        self, features: Tensor, valid: Tensor, targets: Tensor, fitted: Mapping[str, Tensor]
    ) -> Tensor:
        """How much each place of the photos looks like the object.

        Args:
            features: (B, C, h, w), what objects are compared by.
            valid: (B, h, w) bool.
            targets: (R, C) normalised target features.
            fitted: what `fit` returned.

        Returns:
            (B, R, h, w) float32, about -1 to 1, one map for each reference.
        """
        ...

    def guide(
        self,
        sam: Promptable,
        similarity: Tensor,
        valid: Tensor,
        embeddings: Sequence[ImageEmbedding],
        positives: int = 1,
    ) -> Guide:
        """Points and attention bias of (B, h, w) similarity maps, by their valid cells alone.

        Args:
            sam: the model.
            similarity: (B, h, w).
            valid: (B, h, w) bool.
            embeddings: the B photos.
            positives: likely places to name.
        """
        ...


class AlignedPrior:
    """Similarity to the mean feature, which knows the padding and any size of object."""

    name = "aligned"
    help = "cosine similarity to the object's mean feature, by the photo's own cells alone"
    exact = False
    suppresses = True
    presence_threshold = DEFAULT_THRESHOLD

    def features(self, embedding: ImageEmbedding) -> Tensor:
        """See `LocationPrior.features`: what the decoder sees, or a second backbone's."""
        return embedding.to_match

    def dim(self, sam: Promptable) -> int:
        """See `LocationPrior.dim`."""
        return sam.matching_dim

    def foreground(
        self,
        sam: Promptable,
        mask: npt.NDArray[np.bool_],
        channel: npt.NDArray[np.uint8],
        embedding: ImageEmbedding,
    ) -> Tensor:
        """See `LocationPrior.foreground`; never empty."""
        return prior.aligned_foreground(sam, mask, embedding)

    def fit(self, views: Sequence[ReferenceView]) -> dict[str, Tensor]:
        """Nothing beside the targets."""
        return {}

    def similarity(
        self, features: Tensor, valid: Tensor, targets: Tensor, fitted: Mapping[str, Tensor]
    ) -> Tensor:
        """See `LocationPrior.similarity`."""
        return prior.similarity_maps(features, targets)

    def guide(
        self,
        sam: Promptable,
        similarity: Tensor,
        valid: Tensor,
        embeddings: Sequence[ImageEmbedding],
        positives: int = 1,
    ) -> Guide:
        """See `LocationPrior.guide`."""
        points = prior.aligned_points(similarity, valid, embeddings, sam.image_size, positives)
        return Guide(points, prior.aligned_attention(similarity, valid))


class ReleasedPrior(AlignedPrior):
    """Exactly what the published code computes."""

    name = "released"
    help = "as in the authors' released code, its faults included"
    exact = True
    suppresses = False
    presence_threshold = 0.0

    def foreground(
        self,
        sam: Promptable,
        mask: npt.NDArray[np.bool_],
        channel: npt.NDArray[np.uint8],
        embedding: ImageEmbedding,
    ) -> Tensor:
        """See `LocationPrior.foreground`; a small object has no cell there."""
        return prior.released_foreground(sam, channel)

    def guide(
        self,
        sam: Promptable,
        similarity: Tensor,
        valid: Tensor,
        embeddings: Sequence[ImageEmbedding],
        positives: int = 1,
    ) -> Guide:
        """See `LocationPrior.guide`; padding counts as photo, and there is one likely place."""
        both = [
            prior.released_prior(sam, row, e) for row, e in zip(similarity, embeddings, strict=True)
        ]
        return Guide(np.stack([p for p, _ in both]), torch.stack([b for _, b in both]))
