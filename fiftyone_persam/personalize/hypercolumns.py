"""A location prior that compares cells by several layers of the encoder at once.

What the decoder sees has learned to outline things, and forgets for that what kind of thing they
are; earlier maps of the encoder say what a thing is made of and what it is. A cell described by
several layers together is a hypercolumn (Hariharan et al., CVPR 2015). `benchmarks.priors` measures
it against the others.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding, Promptable
from .checks import recognition_dim_of
from .stronger_priors import BackgroundRemovedPrior

_DESCRIPTORS = 0.5
"""How much of a cosine is the descriptors': as much as the decoder's features."""


class HypercolumnsPrior(BackgroundRemovedPrior):
    """As `BackgroundRemovedPrior`, by the decoder's features and the encoder's descriptors.

    With a model that gives no descriptors, or a second backbone to match by, it is
    `BackgroundRemovedPrior`.
    """

    name = "hypercolumns"
    help = (
        "as background_removed, by several layers of the encoder at once where the model has them"
    )

    def features(self, embedding: ImageEmbedding) -> Tensor:
        """See `LocationPrior.features`; of length 1 in each cell where there are descriptors."""
        seen, told_by = embedding.to_match, embedding.to_recognise
        if told_by is seen:
            return seen
        # Cosines of such columns are the weighted mean of the parts' cosines.
        parts = ((1 - _DESCRIPTORS, seen), (_DESCRIPTORS, told_by))
        return torch.cat([F.normalize(one.float(), dim=0) * share**0.5 for share, one in parts])

    def dim(self, sam: Promptable) -> int:
        """See `LocationPrior.dim`."""
        described = getattr(sam, "descriptor_dim", 0) and getattr(sam, "features", None) is None
        return sam.matching_dim + (recognition_dim_of(sam) if described else 0)
