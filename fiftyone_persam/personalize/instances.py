"""Several objects that look the same in one photo: suppress and repeat.

The released code finds one. Here the cells of what was found are taken out of the similarity map,
and the location prior and the decoder passes run again on what is left, until nothing left looks
like the object. The photo is never encoded again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from .prediction import Prediction

# A further object must start from a cell this close to the reference's object, and end in a region
# this close to the strongest one found.
MIN_PEAK = 0.6
MIN_PRESENCE_SHARE = 0.6
# What mostly lies on an object found before is that object again.
MAX_SHARE_FOUND = 0.5
_ATTEMPTS_PER_INSTANCE = 2

Segment = Callable[[list[int], Tensor], list[Prediction]]
Cover = Callable[[int, npt.NDArray[np.bool_]], Tensor]


def find_instances(
    first: Sequence[Prediction],
    similarity: Tensor,
    valid: Tensor,
    levels: Tensor,
    limit: int,
    segment: Segment,
    cover: Cover,
) -> list[Prediction]:
    """Look for more objects in B photos whose strongest is known.

    Args:
        first: (B,) predictions of the strongest object.
        similarity: (B, h, w).
        valid: (B, h, w) bool, the photos' cells.
        levels: (B, 2) similarity of object and background in the reference.
        limit: objects per photo, at most.
        segment: rows of the batch and their (n, h, w) bool blocked cells -> n predictions whose
            location prior avoids the blocked cells.
        cover: row and mask (H, W) -> (h, w) share of each cell that the mask covers.

    Returns:
        (B,) predictions; where more than one object was found, the union of them, with
        ``instances`` strongest first.
    """
    found = [[p] for p in first]
    # Where the strongest object is absent there is no second one.
    active = [row for row, p in enumerate(first) if p.mask.any()]
    blocked = ~valid
    for row in active:
        blocked[row] |= _cells(cover(row, first[row].mask), first[row], valid[row])
    for _ in range(_ATTEMPTS_PER_INSTANCE * (limit - 1)):
        peaks = similarity.masked_fill(blocked, -torch.inf).flatten(1).amax(dim=1)
        inside, outside = levels.unbind(dim=1)
        near = ((peaks - outside) / (inside - outside) >= MIN_PEAK).tolist()
        active = [row for row in active if near[row] and len(found[row]) < limit]
        if not active:
            break
        more = segment(active, blocked[active])
        for row, prediction in zip(active, more, strict=True):
            blocked[row] |= _cells(cover(row, prediction.candidate), prediction, valid[row])
            fresh = _without(prediction, found[row])
            if fresh is not None:
                found[row].append(fresh)
    return [merge(objects) for objects in found]


def merge(objects: Sequence[Prediction]) -> Prediction:
    """One prediction of several objects of one photo; a single one stays as it is."""
    if len(objects) == 1:
        return objects[0]
    strongest = objects[0]
    mask = np.logical_or.reduce([p.mask for p in objects])
    points = np.concatenate([p.points for p in objects])
    labels = np.concatenate([p.labels for p in objects])
    order = np.argsort(-labels, kind="stable")  # positives first
    # All objects of a photo share its least similar cell, the negative point.
    kept = [k for k in order if labels[k] == 1] + [k for k in order if labels[k] == 0][:1]
    boxes = [p.box for p in objects if p.box is not None]
    box = None
    if boxes:
        corners = np.stack(boxes)
        box = np.concatenate([corners[:, :2].min(axis=0), corners[:, 2:].max(axis=0)])
    return replace(
        strongest,
        mask=mask,
        candidate=mask,
        points=points[kept],
        labels=labels[kept],
        box=box,
        agreement=min(p.agreement for p in objects),
        instances=tuple(objects),
    )


def _without(prediction: Prediction, found: Sequence[Prediction]) -> Prediction | None:
    """What is new in a prediction; None if it is not a further object."""
    if not prediction.mask.any():
        return None
    if prediction.presence < MIN_PRESENCE_SHARE * found[0].presence:
        return None
    known = np.logical_or.reduce([p.mask for p in found])
    fresh = prediction.mask & ~known
    if fresh.sum() <= (1 - MAX_SHARE_FOUND) * prediction.mask.sum():
        return None
    # A mask that spreads over an object found before holds both, or neither.
    if any((prediction.mask & p.mask).sum() > MAX_SHARE_FOUND * p.mask.sum() for p in found):
        return None
    return replace(prediction, mask=fresh, candidate=fresh)


def _cells(coverage: Tensor, prediction: Prediction, valid: Tensor) -> Tensor:
    """(h, w) bool: cells of a found object, and their neighbours, whose features it reaches."""
    cells = (coverage > 0) & valid
    # The cell of the location prior goes in any case: every attempt must begin somewhere else.
    rows, columns = prediction.similarity.shape
    height, width = prediction.mask.shape
    x, y = prediction.points[0]
    cells[min(int(y * rows / height), rows - 1), min(int(x * columns / width), columns - 1)] = True
    return F.max_pool2d(cells[None].float(), 3, stride=1, padding=1)[0] > 0
