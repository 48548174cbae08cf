"""Region overlap of two masks."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from .masks import as_mask_pair


def iou(a: ArrayLike, b: ArrayLike) -> float:
    """Intersection over union of two masks.

    Args:
        a: (H, W) mask, see :func:`fiftyone_persam.metrics.masks.as_mask` for what is accepted.
        b: (H, W) mask of the same size.

    Returns:
        0 to 1. Two empty masks agree: 1. One empty mask against a non-empty one: 0.

    Raises:
        PersamError: not a mask, or sizes that differ.
    """
    first, second = as_mask_pair(a, b, ("a", "b"))
    intersection = int(np.count_nonzero(first & second))
    union = int(np.count_nonzero(first)) + int(np.count_nonzero(second)) - intersection
    return ratio(intersection, union)


def accuracy(pred: ArrayLike, gt: ArrayLike) -> float:
    """Share of the ground truth that the prediction covers (PerSeg's "mAcc" for one photo).

    This is the recall of foreground pixels: a prediction of the whole photo scores 1, so read
    it beside the IoU.

    Args:
        pred: (H, W) predicted mask.
        gt: (H, W) ground-truth mask of the same size.

    Returns:
        0 to 1. With an empty ground truth: 1 if the prediction is empty too, else 0.

    Raises:
        PersamError: not a mask, or sizes that differ.
    """
    predicted, truth = as_mask_pair(pred, gt, ("pred", "gt"))
    covered = int(np.count_nonzero(predicted & truth))
    return coverage(covered, int(np.count_nonzero(truth)), int(np.count_nonzero(predicted)))


def ratio(part: int, whole: int) -> float:
    """``part / whole``, or 1 where there is nothing to get wrong (``whole == 0``)."""
    return part / whole if whole else 1.0


def coverage(intersection: int, truth: int, predicted: int) -> float:
    """``intersection / truth``; with no truth at all, 1 for an empty prediction, else 0."""
    if truth:
        return intersection / truth
    return 0.0 if predicted else 1.0
