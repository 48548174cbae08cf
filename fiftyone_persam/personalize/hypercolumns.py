"""A location prior that compares cells by several layers of the encoder at once.

What the decoder sees has learned to outline things, and forgets for that what kind of thing they
are; earlier maps of the encoder say what a thing is made of and what it is. Describing a place by
several layers together is the idea of hypercolumns (Hariharan et al., CVPR 2015). A cell has to
look like the object in all of them: their cosines are multiplied, not averaged.
`benchmarks.priors` measures it against the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ..sam import ImageEmbedding, Promptable
from .checks import recognition_dim_of
from .location import ReferenceView
from .stronger_priors import DIRECTIONS, BackgroundRemovedPrior

_DESCRIPTORS = 2 / 3
"""How much the descriptors count beside the decoder's features: they are two maps of three."""
_DESCRIBED = "described_directions"


class HypercolumnsPrior(BackgroundRemovedPrior):
    """As `BackgroundRemovedPrior`, by the decoder's features and by the encoder's descriptors.

    With a model that gives no descriptors, or a second backbone to match by, it is
    `BackgroundRemovedPrior`.
    """

    name = "hypercolumns"
    help = (
        "as background_removed, by several layers of the encoder at once where the model has them"
    )

    def features(self, embedding: ImageEmbedding) -> Tensor:
        """See `LocationPrior.features`: the decoder's channels, then the descriptors'."""
        seen, told_by = embedding.to_match, embedding.to_recognise
        return seen if told_by is seen else torch.cat([seen, told_by.to(seen)])

    def dim(self, sam: Promptable) -> int:
        """See `LocationPrior.dim`."""
        described = getattr(sam, "descriptor_dim", 0) and getattr(sam, "features", None) is None
        return sam.matching_dim + (recognition_dim_of(sam) if described else 0)

    def fit(self, views: Sequence[ReferenceView]) -> dict[str, Tensor]:
        """(R, C) directions of the mean background of each reference, layer by layer."""
        width = len(views[0].embedding.to_match)
        found = super().fit([replace(v, features=v.features[:width]) for v in views])
        if width < len(views[0].features):
            rest = super().fit([replace(v, features=v.features[width:]) for v in views])
            found[_DESCRIBED] = rest[DIRECTIONS]
        return found

    def similarity(
        self, features: Tensor, valid: Tensor, targets: Tensor, fitted: Mapping[str, Tensor]
    ) -> Tensor:
        """See `LocationPrior.similarity`: the weighted geometric mean of the layers' cosines.

        What is unlike the object in one of them has the lower cosine.
        """
        if _DESCRIBED not in fitted:
            return super().similarity(features, valid, targets, fitted)
        width = fitted[DIRECTIONS].shape[1]
        seen, told = (
            super(HypercolumnsPrior, self).similarity(
                features[:, part], valid, targets[:, part], {DIRECTIONS: directions}
            )
            for part, directions in (
                (slice(width), fitted[DIRECTIONS]),
                (slice(width, None), fitted[_DESCRIBED]),
            )
        )
        lower = torch.minimum(seen, told)
        both = seen.clamp_min(1e-6).log() * (1 - _DESCRIPTORS)
        both = (both + told.clamp_min(1e-6).log() * _DESCRIPTORS).exp()
        return torch.where(lower > 0, both, lower)
