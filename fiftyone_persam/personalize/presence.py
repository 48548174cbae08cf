"""Is the object in the photo at all? SAM segments something either way.

A method gathers `Evidence`, and `probability` alone says what it is worth; `threshold.is_absent`
compares that with the threshold.

The evidence is a match of parts: every part of the object looks for its like inside the mask, and
every cell of the mask for its like on the object. What the backgrounds of both photos have in
common tells nothing of the object, and is taken out of all features first: that direction holds
whatever a model gives to all cells, and most of what tells "thing" from "rest".

How good a match has to be follows from the reference, so that no model and no object needs a
threshold of its own: how alike the object's own parts are, how much of it its own background can
pass for, how much the rest of the photo looks like it, and how far a part that goes to its like in
the photo and back again strays from where it began. `benchmarks.presence` fits what these count,
and measures them on objects and on features of other models that were held out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding
from .appearance import Appearance, each, grown, smoothed

DEFAULT_THRESHOLD = 0.5

KINDS = ("match", "cohesion", "own_found", "own_explained", "elsewhere", "straying")
"""The columns of `Evidence.columns`."""
# What `python -m benchmarks.presence ALBUM --every-reference --held-out` fits: how much a
# difference of 1 in each column adds to the log odds, and the log odds where all are 0.
WEIGHTS = (25.1, -8.4, 7.6, -18.4, -7.5, -11.4)
BIAS = 1.7
# A mask that is lost is worse than one too many, which a look at it tells: the log odds lean to
# keeping. With an object held out no mask is lost between 0.5 and 3 on the development album, and
# four in five wrong ones are emptied up to 2, there, and up to 1.5 on the demo's; among things that
# are much alike, and with other models' features, up to 0.5.
LEANING = 0.5
# A reference that was made smaller, to know the object where it is, gives every other thing one
# more chance: it gives away so much, and more where the mask is not nearly of its object's size
# (natural logarithm of a ratio of sides).
_SMALLER, _PER_SIZE, _NEAR_SIZE = 0.75, 5.0, 0.25
_MIN_GAP = 0.05
# Log odds beyond which float32 has no probability below 1: nothing is that certain, and a threshold
# of 1 holds every mask back.
_SUREST = 15.0


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for the object's being in each of B photos.

    Attributes:
        columns: (B, R, K) one row for each reference, one column for each of `KINDS`.
        covered: (B,) cells that the mask covers.
        scores: (B,) predicted IoU of the mask, if there is one.
        agreement: (B,) IoU of the first pass's mask and the last one's, if there are passes.
        ring: (B, R) how much more the mask's cells are like the object than those around it.
        rival: (B, N, K) as ``columns``, of N negative references, if there are any.
        handicap: (B, R) log odds that a reference gives away because it was made smaller.
    """

    columns: Tensor
    covered: Tensor
    scores: Tensor | None = None
    agreement: Tensor | None = None
    ring: Tensor | None = None
    rival: Tensor | None = None
    handicap: Tensor | None = None


def recognisable(embeddings: Sequence[ImageEmbedding], device: torch.device) -> Tensor:
    """(B, D, h, w): what photos are told by, as `gather` takes it."""
    return torch.stack([embedding.to_recognise.to(device) for embedding in embeddings])


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
        features: (B, D, h, w) of the photos; see `recognisable`.
        logits: (B, hm, wm) of their masks.
        valid: (B, h, w) bool, the photos' cells.
        appearance: of the object in R references.
        scores: see `Evidence`.
        agreement: see `Evidence`.
        negatives: appearance of what the object is not.
    """
    masked = _Masked(features, logits, valid)
    smooth: _Masked | None = None

    def compare(one: Appearance) -> tuple[Tensor, Tensor]:
        nonlocal smooth
        if not one.fine[0]:
            return masked.compare(one)
        if smooth is None:
            smooth = _Masked(smoothed(features, valid), logits, valid)
        return smooth.compare(one)

    known = [compare(one) for one in each(appearance)]
    rival = None
    if negatives is not None:
        rival = torch.stack([compare(one)[0] for one in each(negatives)], dim=1)
    return Evidence(
        torch.stack([columns for columns, _ in known], dim=1),
        masked.covered,
        scores,
        agreement,
        torch.stack([ring for _, ring in known], dim=1),
        rival,
        handicap(masked.covered, appearance.sides),
    )


def handicap(covered: Tensor, sides: Tensor) -> Tensor:
    """(B,) cells of masks, (R,) `Appearance.sides` -> (B, R) `Evidence.handicap`."""
    apart = (covered.clamp_min(0.25).sqrt()[:, None] / sides.clamp_min(0.5)).log().abs()
    given_away = _SMALLER + _PER_SIZE * (apart - _NEAR_SIZE).clamp_min(0)
    return torch.where(sides > 0, given_away, torch.zeros_like(given_away))


def log_odds(columns: Tensor, handicap: Tensor | None = None) -> Tensor:
    """(B, R, K) of `Evidence`, and (B, R) if known -> (B,) of the reference that fits best."""
    # Number by number: a tensor of them would have to be sent to the device.
    terms = [weight * column for weight, column in zip(WEIGHTS, columns.unbind(-1), strict=True)]
    odds = torch.stack(terms).sum(dim=0) + BIAS + LEANING
    return (odds if handicap is None else odds - handicap).amax(dim=1)


def probability(evidence: Evidence) -> Tensor:
    """(B,) in [0, 1), how certainly the object is in each photo; 0 for an empty mask."""
    odds = log_odds(evidence.columns, evidence.handicap)
    certainty = torch.sigmoid(odds.clamp_max(_SUREST))
    if evidence.rival is not None:
        # A tie takes nothing away: another photo of the object itself is as near as its negatives.
        ahead = torch.sigmoid(odds - log_odds(evidence.rival))
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


class _Masked:
    """B photos and their masks, cell by cell.

    Attributes:
        covered: (B,) cells that the masks cover.
    """

    def __init__(self, features: Tensor, logits: Tensor, valid: Tensor) -> None:
        size = (features.shape[-2], features.shape[-1])
        share = F.adaptive_avg_pool2d((logits > 0).float()[None], size)[0] * valid
        self.covered = share.flatten(1).sum(dim=1)
        # The mask's cells: those that it covers by half, or as far as it covers any.
        inside = share >= share.flatten(1).amax(dim=1)[:, None, None].clamp(1e-6, 0.5)
        around = grown(inside, 2) & valid & (share <= 0)
        # Cells beside the mask share what the encoder saw of it.
        away = valid & ~grown(share > 0)
        self._cells = F.normalize(features.float().flatten(2), dim=1)
        self._inside = inside.flatten(1)
        self._weight = (share * inside).flatten(1)
        self._around, self._away = around.flatten(1).float(), away.flatten(1).float()
        outside = (valid & (share <= 0)).flatten(1).float()
        self._elsewhere = _mean((self._cells @ outside[:, :, None])[..., 0], outside)
        rows, columns = torch.meshgrid(
            *(torch.arange(side, device=features.device) for side in size), indexing="ij"
        )
        self._places = torch.stack([rows.flatten(), columns.flatten()], dim=1).float()

    def compare(self, known: Appearance) -> tuple[Tensor, Tensor]:
        """With one reference: (B, K) columns of the evidence, and (B,) its ring."""
        parts, own = known.parts[0], known.own[0]
        similarity = self._similarity(parts, known.background[0])
        there = similarity.masked_fill(~self._inside[:, None], -1)
        like = similarity.amax(dim=1)
        explained = _mean((like * self._weight).sum(dim=1), self._weight)
        match = (there.amax(dim=2).mean(dim=1) + explained) / 2
        elsewhere = _mean((like * self._away).sum(dim=1), self._away)
        ring = explained - _mean((like * self._around).sum(dim=1), self._around)
        found = torch.stack(
            [match, *own.expand(len(match), -1).unbind(1), elsewhere, self._straying(there, known)],
            dim=1,
        )
        return found, ring

    def _similarity(self, parts: Tensor, background: Tensor) -> Tensor:
        """(B, P, n) cosines, without the direction common to the backgrounds."""
        common = F.normalize(background + self._elsewhere, dim=1)
        # Cosines after the removal follow from those before it: no copy of the features is needed.
        along_parts = common @ parts.T
        along_cells = (common[:, None] @ self._cells)[:, 0]
        similarity = parts @ self._cells - along_parts[:, :, None] * along_cells[:, None]
        left_parts = (1 - along_parts.square()).clamp_min(1e-4).sqrt()
        left_cells = (1 - along_cells.square()).clamp_min(1e-4).sqrt()
        return similarity / (left_parts[:, :, None] * left_cells[:, None])

    def _straying(self, there: Tensor, known: Appearance) -> Tensor:
        """(B,) how far parts come back from where they began, in sides of the object; both ways.

        From the object to its like in the mask and back, and from the mask to its like on the
        object and back: cycle consistency.
        """
        places = known.places[0]
        to_mask, to_object = there.argmax(dim=2), there.argmax(dim=1)
        back = places[to_object.gather(1, to_mask)]
        out = (back - places).norm(dim=2).mean(dim=1)
        again = self._places[to_mask.gather(1, to_object)]
        steps = (again - self._places).norm(dim=2)
        side = self._weight.sum(dim=1).clamp_min(1).sqrt()
        return out + _mean((steps * self._weight).sum(dim=1), self._weight) / side


def _mean(sums: Tensor, weights: Tensor) -> Tensor:
    """(B,) or (B, D) weighted sums over the cells, (B, n) weights -> means; 0 of no weight."""
    total = weights.sum(dim=1).clamp_min(1e-6)
    return sums / (total if sums.ndim == 1 else total[:, None])
