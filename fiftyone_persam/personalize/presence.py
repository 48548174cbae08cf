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

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding

DEFAULT_THRESHOLD = 0.5

KINDS = ("match", "cohesion", "own_found", "own_explained", "elsewhere", "straying")
"""The columns of `Evidence.columns`."""
# What `python -m benchmarks.presence ALBUM --every-reference --held-out` fits: how much a
# difference of 1 in each column adds to the log odds, and the log odds where all are 0.
_WEIGHTS = (25.1, -8.4, 7.6, -18.4, -7.5, -11.4)
_BIAS = 1.7
# A mask that is lost is worse than one too many, which a look at it tells: the log odds lean to
# keeping, for objects that are smaller than in the reference, and references that are cut badly.
_LEANING = 1.0
# Where a reference's mask leaves much of the object out, what is around it is explained well by
# what is inside. That says that the mask is bad, not that the object is hard to tell.
_MOST_EXPLAINED = 0.35
# Parts of an object to remember: 64 spread over it tell as much as all.
PARTS = 64
BACKGROUND_CELLS = 256
_MIN_GAP = 0.05
# Log odds beyond which float32 has no probability below 1: nothing is that certain, and a threshold
# of 1 holds every mask back.
_SUREST = 15.0


@dataclass(frozen=True, eq=False)
class Appearance:
    """What the object looks like in R references.

    Attributes:
        parts: (R, P, D) normalised features of cells spread over the object.
        places: (R, P, 2) row and column of each, in multiples of the object's side: the root of the
            cells that it covers.
        background: (R, D) mean normalised feature of the cells without the object; 0 where there
            are none.
        own: (R, 3) what the reference alone says of how well its object can be told: how alike the
            object's parts are on average (`KINDS` 1), how well they are found in its own background
            (2), and how well that is explained by them (3). About -1 to 1.
    """

    parts: Tensor
    places: Tensor
    background: Tensor
    own: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name, to be saved."""
        named = {"parts": self.parts.half()}
        return {**named, "places": self.places, "background": self.background, "own": self.own}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Appearance:
        """What `tensors` gave; there may be others."""
        named = (tensors[name] for name in ("places", "background", "own"))
        return cls(tensors["parts"].float(), *named)


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
    """

    columns: Tensor
    covered: Tensor
    scores: Tensor | None = None
    agreement: Tensor | None = None
    ring: Tensor | None = None
    rival: Tensor | None = None


def describe(features: Tensor, foreground: Tensor, valid: Tensor) -> Appearance:
    """The appearance of the object in one reference.

    Args:
        features: (D, h, w) of the reference, its embedding's ``to_recognise``.
        foreground: (h, w) bool, the object's cells, at least one.
        valid: (h, w) bool, the photo's cells.
    """
    background = mean_cell(features, valid & ~foreground)
    direction = F.normalize(background, dim=0)
    chosen = _spread(foreground, PARTS)
    parts = F.normalize(features.float()[:, chosen[0], chosen[1]], dim=0).T
    own = without_direction(parts, direction)
    # Cells beside the object share what the encoder saw of it.
    away = valid & ~_grown(foreground[None])[0]
    if away.any():
        rows, columns = _spread(away, BACKGROUND_CELLS)
        rest = F.normalize(features.float()[:, rows, columns], dim=0).T
        across = own @ without_direction(rest, direction).T
        found = across.amax(dim=1).mean()
        explained = across.amax(dim=0).mean().clamp_max(_MOST_EXPLAINED)
    else:  # a photo that is all object says nothing of anything else
        found = explained = parts.new_zeros(())
    levels = torch.stack([(own @ own.T).mean(), found, explained])
    side = foreground.sum().sqrt()
    places = torch.stack(chosen, dim=1) / side
    repeat = _evenly(len(parts), PARTS, parts.device)
    return Appearance(parts[repeat][None], places[repeat][None], background[None], levels[None])


def together(appearances: Sequence[Appearance]) -> Appearance:
    """Several references as one appearance."""
    return Appearance(
        torch.cat([one.parts for one in appearances]),
        torch.cat([one.places for one in appearances]),
        torch.cat([one.background for one in appearances]),
        torch.cat([one.own for one in appearances]),
    )


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
    known = [masked.compare(one) for one in _each(appearance)]
    rival = None
    if negatives is not None:
        rival = torch.stack([masked.compare(one)[0] for one in _each(negatives)], dim=1)
    return Evidence(
        torch.stack([columns for columns, _ in known], dim=1),
        masked.covered,
        scores,
        agreement,
        torch.stack([ring for _, ring in known], dim=1),
        rival,
    )


def log_odds(columns: Tensor) -> Tensor:
    """(B, R, K) of `Evidence` -> (B,) of the reference that fits best."""
    # Number by number: a tensor of them would have to be sent to the device.
    terms = [weight * column for weight, column in zip(_WEIGHTS, columns.unbind(-1), strict=True)]
    return (torch.stack(terms).sum(dim=0) + _BIAS + _LEANING).amax(dim=1)


def probability(evidence: Evidence) -> Tensor:
    """(B,) in [0, 1), how certainly the object is in each photo; 0 for an empty mask."""
    odds = log_odds(evidence.columns)
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
    return parts[_evenly(len(parts), count, parts.device)]


def without_direction(vectors: Tensor, direction: Tensor) -> Tensor:
    """(n, C) without their part along a normalised (C,), normalised again."""
    return F.normalize(vectors - (vectors @ direction)[:, None] * direction, dim=1)


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
        around = _grown(inside, 2) & valid & (share <= 0)
        # Cells beside the mask share what the encoder saw of it.
        away = valid & ~_grown(share > 0)
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


def _each(appearance: Appearance) -> list[Appearance]:
    rows = (appearance.parts, appearance.places, appearance.background, appearance.own)
    return [
        Appearance(*(row[number : number + 1] for row in rows))
        for number in range(len(appearance.parts))
    ]


def _mean(sums: Tensor, weights: Tensor) -> Tensor:
    """(B,) or (B, D) weighted sums over the cells, (B, n) weights -> means; 0 of no weight."""
    total = weights.sum(dim=1).clamp_min(1e-6)
    return sums / (total if sums.ndim == 1 else total[:, None])


def _grown(cells: Tensor, by: int = 1) -> Tensor:
    """(B, h, w) bool, with the cells as near as ``by``."""
    return F.max_pool2d(cells.float(), 2 * by + 1, stride=1, padding=by) > 0


def _spread(cells: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(h, w) bool -> rows and columns of up to ``count`` cells, spread evenly."""
    rows, columns = cells.nonzero(as_tuple=True)
    chosen = _evenly(len(rows), min(count, len(rows)), cells.device)
    return rows[chosen], columns[chosen]


def _evenly(length: int, count: int, device: torch.device) -> Tensor:
    """(count,) indices from the first to the last of ``length``."""
    return torch.linspace(0, length - 1, count, device=device).round().long()
