"""What an object looks like in its references, cell by cell, to be recognised by in other photos.

An object is remembered by parts spread over it, where they are, and what the rest of its photo is
like. `presence` compares with it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor
from torch.nn import functional as F

# Where a reference's mask leaves much of the object out, what is around it is explained well by
# what is inside. That says that the mask is bad, not that the object is hard to tell.
_MOST_EXPLAINED = 0.35
# Parts of an object to remember: 64 spread over it tell as much as all.
PARTS = 64
BACKGROUND_CELLS = 256
# Cosine, without the background's direction, of neighbouring cells of an object; features that
# differ more are smoothed. `sam_lite`'s are at 0.65 to 0.88, those of an ImageNet network at stride
# 8 mostly at 0.3 to 0.6.
_FINE = 0.45


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
        sides: (R,) the object's side in cells where the reference was made smaller; 0 for one as it
            was given, whose object may have any size in other photos.
        fine: (R,) float64, on the CPU: 1 where the model's features differ so much from one cell of
            the object to the next that means of 3 x 3 cells are compared, else 0.
    """

    parts: Tensor
    places: Tensor
    background: Tensor
    own: Tensor
    sides: Tensor
    fine: Tensor

    def tensors(self) -> dict[str, Tensor]:
        """By name, to be saved."""
        return {
            **{one.name: getattr(self, one.name) for one in fields(self)},
            "parts": self.parts.half(),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Appearance:
        """What `tensors` gave; there may be others, and earlier versions gave no sides, no fine."""
        count, device = len(tensors["parts"]), tensors["parts"].device
        sides = tensors.get("sides", torch.zeros(count, device=device))
        fine = tensors.get("fine", torch.zeros(count, dtype=torch.float64))
        places, background, own = (tensors[name] for name in ("places", "background", "own"))
        return cls(tensors["parts"].float(), places, background, own, sides, fine)


def describe(features: Tensor, foreground: Tensor, valid: Tensor) -> Appearance:
    """The appearance of the object in one reference.

    Args:
        features: (D, h, w) of the reference, its embedding's ``to_recognise``.
        foreground: (h, w) bool, the object's cells, at least one.
        valid: (h, w) bool, the photo's cells.
    """
    background = mean_cell(features, valid & ~foreground)
    direction = F.normalize(background, dim=0)
    fine = _alike_beside(features, foreground, direction) < _FINE
    if fine:
        features = smoothed(features[None], valid[None])[0]
        background = mean_cell(features, valid & ~foreground)
        direction = F.normalize(background, dim=0)
    chosen = _spread(foreground, PARTS)
    parts = F.normalize(features.float()[:, chosen[0], chosen[1]], dim=0).T
    own = without_direction(parts, direction)
    # Cells beside the object share what the encoder saw of it.
    away = valid & ~grown(foreground[None])[0]
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
    return Appearance(
        parts[repeat][None],
        places[repeat][None],
        background[None],
        levels[None],
        parts.new_zeros(1),
        torch.tensor([float(fine)], dtype=torch.float64),
    )


def together(appearances: Sequence[Appearance]) -> Appearance:
    """Several references as one appearance."""
    rows = ([getattr(one, part.name) for one in appearances] for part in fields(Appearance))
    return Appearance(*(torch.cat(row) for row in rows))


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


def _alike_beside(features: Tensor, cells: Tensor, direction: Tensor) -> float:
    """How alike cells of the object are to those beside them, on average; 1 where none is."""
    found = []
    for axis in (1, 2):
        length = features.shape[axis] - 1
        both = cells.narrow(axis - 1, 0, length) & cells.narrow(axis - 1, 1, length)
        one, other = (
            without_direction(
                F.normalize(features.narrow(axis, start, length)[:, both].float(), dim=0).T,
                direction,
            )
            for start in (0, 1)
        )
        found.append((one * other).sum(dim=1))
    pairs = torch.cat(found)
    return float(pairs.mean()) if len(pairs) else 1.0


def smoothed(features: Tensor, valid: Tensor) -> Tensor:
    """(B, D, h, w) features, (B, h, w) bool -> means of 3 x 3 normalised cells of the photo."""
    inside = valid[:, None].float()
    sums = F.avg_pool2d(F.normalize(features.float(), dim=1) * inside, 3, 1, 1)
    return sums / F.avg_pool2d(inside, 3, 1, 1).clamp_min(1e-6)


def each(appearance: Appearance) -> list[Appearance]:
    """The references one by one."""
    rows = [getattr(appearance, part.name) for part in fields(appearance)]
    return [
        Appearance(*(row[number : number + 1] for row in rows))
        for number in range(len(appearance.parts))
    ]


def grown(cells: Tensor, by: int = 1) -> Tensor:
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
