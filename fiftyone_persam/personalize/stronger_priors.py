"""Location priors that compare otherwise than with the object's mean feature alone (eq. 5).

`benchmarks.priors` measures them against one another.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from . import prior
from .appearance import PARTS, mean_cell, parts_of
from .location import AlignedPrior, ReferenceView

DIRECTIONS = "directions"
_NEAREST_PARTS = 5
_WINDOW = 3


class BackgroundRemovedPrior(AlignedPrior):
    """Similarity to the mean feature, after what the reference's background is like was taken out.

    What all cells of a photo have in common, and what tells things from the rest, says nothing of
    this object, but makes up much of a cosine.
    """

    name = "background_removed"
    help = (
        "cosine similarity to the object's mean feature, without the direction of the reference's "
        "background"
    )

    def fit(self, views: Sequence[ReferenceView]) -> dict[str, Tensor]:
        """(R, C) the mean background of each reference, normalised; 0 where there is none."""
        means = [mean_cell(view.features, view.valid & ~view.foreground) for view in views]
        return {DIRECTIONS: F.normalize(torch.stack(means), dim=1)}

    def similarity(
        self, features: Tensor, valid: Tensor, targets: Tensor, fitted: Mapping[str, Tensor]
    ) -> Tensor:
        """See `LocationPrior.similarity`."""
        directions = fitted[DIRECTIONS].float()
        # A target has nothing along its direction, so the product with what is left of a feature is
        # that with all of it: one matrix product for all references.
        own = targets.float() - (targets.float() * directions).sum(dim=1, keepdim=True) * directions
        flat = features.float().flatten(2)
        products = torch.cat([F.normalize(own, dim=1), directions]) @ flat
        toward, along = products.split(len(targets), dim=1)
        left = flat.square().sum(dim=1, keepdim=True) - along.square()
        return (toward / left.clamp_min(1e-12).sqrt()).unflatten(2, features.shape[-2:])


class PartsPrior(AlignedPrior):
    """Similarity to the parts of the object that are most alike, instead of to their mean."""

    name = "parts"
    help = "mean cosine similarity to the five most similar parts of the object"

    def fit(self, views: Sequence[ReferenceView]) -> dict[str, Tensor]:
        """(R, P, C) normalised features of cells spread over each object."""
        return {"parts": torch.stack([parts_of(v.features, v.foreground, PARTS) for v in views])}

    def similarity(
        self, features: Tensor, valid: Tensor, targets: Tensor, fitted: Mapping[str, Tensor]
    ) -> Tensor:
        """See `LocationPrior.similarity`."""
        maps = [prior.similarity_maps(features, parts) for parts in fitted["parts"]]
        return torch.stack([m.topk(_NEAREST_PARTS, dim=1).values.mean(dim=1) for m in maps], dim=1)


class MultiScalePrior(BackgroundRemovedPrior):
    """The mean of the maps of single cells and of neighbourhoods of three by three."""

    name = "multi_scale"
    help = "as background_removed, for cells and for neighbourhoods of cells"

    def similarity(
        self, features: Tensor, valid: Tensor, targets: Tensor, fitted: Mapping[str, Tensor]
    ) -> Tensor:
        """See `LocationPrior.similarity`."""
        fine = super().similarity(features, valid, targets, fitted)
        inside = valid[:, None].float()
        sums = F.avg_pool2d(features.float() * inside, _WINDOW, 1, _WINDOW // 2)
        counts = F.avg_pool2d(inside, _WINDOW, 1, _WINDOW // 2)
        coarse = super().similarity(sums / counts.clamp_min(1e-6), valid, targets, fitted)
        return (fine + coarse) / 2
