"""Is the object in the photo at all? SAM segments something either way.

A method gathers `Evidence`, and `probability` alone says what it is worth; `threshold.is_absent`
compares that with the threshold.

The evidence is a match of parts, calibrated on the reference itself: every part of the object looks
for its like inside the mask, and every part of the mask for its like on the object. How similar
those are is put in relation to how similar the object's own parts are to one another, so that
neither a model's scale nor a plain or motley object shifts it. What the backgrounds of both photos
have in common tells nothing of the object, and is taken out of all features first: that direction
holds whatever a model gives to all cells, and most of what tells "thing" from "rest".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

DEFAULT_THRESHOLD = 0.5

# The match at which the object is as likely there as not, and how fast certainty grows from there.
# Chosen by eye from the pooled table of `benchmarks.presence` with sam_lite, so that hardly a photo
# with the object is lost; no object was held out. Features of stride 16 from an ImageNet backbone
# fit about the same centre, those of stride 32 one near 0.4.
_EVEN_MATCH = 0.71
_STEEPNESS = 0.04
# Parts of an object to remember: 64 spread over it tell as much as all.
PARTS = 64
# Cells this near share what the encoder saw: they say nothing of how alike an object's parts are.
_NEIGHBOURS = 1
_MIN_GAP = 0.05


@dataclass(frozen=True, eq=False)
class Appearance:
    """What the object looks like in R references.

    Attributes:
        parts: (R, P, C) normalised features of cells spread over the object.
        background: (R, C) mean normalised feature of the cells without the object; 0 where there
            are none.
        likeness: (R,) how similar a part of the object is to the one most like it that is not its
            neighbour, above 0.
    """

    parts: Tensor
    background: Tensor
    likeness: Tensor


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for the object's being in each of B photos.

    Attributes:
        match: (B,) similarity of object and mask, part by part, as a multiple of the object's own
            likeness; of the reference that matches best.
        covered: (B,) cells that the mask covers.
        scores: (B,) predicted IoU of the mask, if there is one.
        agreement: (B,) IoU of the first pass's mask and the last one's, if there are passes.
        rival: (B,) as ``match``, of the negative reference that matches best, if there is one.
    """

    match: Tensor
    covered: Tensor
    scores: Tensor | None = None
    agreement: Tensor | None = None
    rival: Tensor | None = None


def describe(features: Tensor, foreground: Tensor, valid: Tensor) -> Appearance:
    """The appearance of the object in one reference.

    Args:
        features: (C, h, w) of the reference, as the decoder has them.
        foreground: (h, w) bool, the object's cells, at least one.
        valid: (h, w) bool, the photo's cells.
    """
    parts = F.normalize(features.float()[:, foreground], dim=0).T
    background = mean_cell(features, valid & ~foreground)
    specific = without_direction(parts, F.normalize(background, dim=0))
    rows, columns = foreground.nonzero(as_tuple=True)
    apart = torch.maximum((rows[:, None] - rows).abs(), (columns[:, None] - columns).abs())
    alike = specific @ specific.T
    best = alike.masked_fill(apart <= _NEIGHBOURS, -torch.inf).amax(dim=1)
    # A part with neighbours alone is compared with all of them.
    likeness = torch.where(best.isfinite(), best, alike.mean(dim=1)).mean()
    spread = parts_of(features, foreground, PARTS)
    return Appearance(spread[None], background[None], likeness.clamp_min(_MIN_GAP)[None])


def together(appearances: Sequence[Appearance]) -> Appearance:
    """Several references as one appearance."""
    return Appearance(
        torch.cat([one.parts for one in appearances]),
        torch.cat([one.background for one in appearances]),
        torch.cat([one.likeness for one in appearances]),
    )


def gather(
    features: Tensor,
    logits: Tensor,
    valid: Tensor,
    appearance: Appearance,
    scores: Tensor | None = None,
    agreement: Tensor | None = None,
    negatives: Appearance | None = None,
) -> Evidence:
    """The evidence that features and masks give.

    Args:
        features: (B, C, h, w) of the photos, as the decoder has them.
        logits: (B, hm, wm) of their masks.
        valid: (B, h, w) bool, the photos' cells.
        appearance: of the object in R references.
        scores: see `Evidence`.
        agreement: see `Evidence`.
        negatives: appearance of what the object is not.
    """
    cells = F.normalize(features.float().flatten(2), dim=1)
    size = (features.shape[-2], features.shape[-1])
    share = F.adaptive_avg_pool2d((logits > 0).float()[None], size)[0] * valid
    share, valid = share.flatten(1), valid.flatten(1)
    covered = share.sum(dim=1)
    # The mask's cells: those that it covers by half, or as far as it covers any.
    inside = share >= share.amax(dim=1, keepdim=True).clamp(1e-6, 0.5)
    outside = (valid & (share <= 0)).float()
    elsewhere = (cells @ outside[:, :, None])[..., 0]
    elsewhere = elsewhere / outside.sum(dim=1, keepdim=True).clamp_min(1)

    def best(known: Appearance) -> Tensor:
        matches = [
            _match(cells, share, inside, parts, F.normalize(background + elsewhere, dim=1)) / like
            for parts, background, like in zip(
                known.parts, known.background, known.likeness, strict=True
            )
        ]
        found = torch.stack(matches, dim=1).amax(dim=1)
        return found.where(covered > 0, torch.zeros_like(found))

    rival = None if negatives is None else best(negatives)
    return Evidence(best(appearance), covered, scores, agreement, rival)


def probability(evidence: Evidence) -> Tensor:
    """(B,) in [0, 1], how certainly the object is in each photo; 0 for an empty mask."""
    certainty = torch.sigmoid((evidence.match - _EVEN_MATCH) / _STEEPNESS)
    if evidence.rival is not None:
        # A tie takes nothing away: another photo of the object itself is as near as its negatives.
        ahead = torch.sigmoid((evidence.match - evidence.rival) / _STEEPNESS)
        certainty = certainty * (2 * ahead).clamp_max(1)
    return torch.where(evidence.covered > 0, certainty, torch.zeros_like(certainty))


def calibrate(similarity: Tensor, foreground: Tensor, valid: Tensor) -> tuple[float, float]:
    """Similarity levels of the object and of the rest, in the reference.

    Args:
        similarity: (h, w) of the reference to its own target.
        foreground: (h, w) bool, the object's cells.
        valid: (h, w) bool, the photo's cells.

    Returns:
        Mean over the object's cells and mean over all others.
    """
    rest = valid & ~foreground
    inside = float(similarity[foreground].mean())
    # A photo that is all object says nothing of anything else.
    outside = float(similarity[rest].mean()) if rest.any() else 0.0
    return inside, min(outside, inside - _MIN_GAP)


def mean_cell(features: Tensor, cells: Tensor) -> Tensor:
    """(C, h, w) features, (h, w) bool -> (C,) mean of the normalised features; 0 of no cell."""
    if not cells.any():
        return torch.zeros(len(features), device=features.device)
    return F.normalize(features.float()[:, cells], dim=0).mean(dim=1)


def parts_of(features: Tensor, cells: Tensor, count: int) -> Tensor:
    """(C, h, w) features, (h, w) bool -> (count, C) normalised, of cells spread over the object.

    An object of fewer cells has some of them several times.
    """
    parts = F.normalize(features.float()[:, cells], dim=0).T
    spread = torch.linspace(0, len(parts) - 1, count, device=parts.device).round().long()
    return parts[spread]


def without_direction(vectors: Tensor, direction: Tensor) -> Tensor:
    """(n, C) without their part along a normalised (C,), normalised again."""
    return F.normalize(vectors - (vectors @ direction)[:, None] * direction, dim=1)


def _match(cells: Tensor, share: Tensor, inside: Tensor, parts: Tensor, common: Tensor) -> Tensor:
    """Mean of both directions' best similarities, without the direction common to the backgrounds.

    Args:
        cells: (B, C, n) normalised.
        share: (B, n) of each cell that the mask covers.
        inside: (B, n) bool, the mask's cells.
        parts: (P, C) of one reference.
        common: (B, C) normalised, or 0.

    Returns:
        (B,).
    """
    # Cosines after the removal follow from those before it: no copy of the features is needed.
    along_parts = common @ parts.T
    along_cells = (common[:, None] @ cells)[:, 0]
    similarity = parts @ cells - along_parts[:, :, None] * along_cells[:, None]
    left_parts = (1 - along_parts.square()).clamp_min(1e-4).sqrt()
    left_cells = (1 - along_cells.square()).clamp_min(1e-4).sqrt()
    similarity = similarity / (left_parts[:, :, None] * left_cells[:, None])
    found = similarity.masked_fill(~inside[:, None], -1).amax(dim=2).mean(dim=1)
    weight = share * inside
    explained = (similarity.amax(dim=1) * weight).sum(dim=1) / weight.sum(dim=1).clamp_min(1e-6)
    return (found + explained) / 2
