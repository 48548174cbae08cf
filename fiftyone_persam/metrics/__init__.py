"""Mask metrics as pure functions on arrays: IoU, boundary IoU, accuracy, J&F, and PerSeg scores.

Nothing here imports torch or FiftyOne.
"""

from __future__ import annotations

from .boundary import DILATION_RATIO, boundary, boundary_distance, boundary_iou
from .jf import (
    JFScores,
    contour_accuracy,
    jf_scores,
    mean_scores,
    region_similarity,
    summarised,
)
from .one_shot import OneShotAccumulator, OneShotScores
from .overlap import accuracy, iou
from .perseg import (
    ObjectScores,
    PerSegAccumulator,
    PerSegScores,
    PhotoCounts,
    count_photo,
)

__all__ = [
    "DILATION_RATIO",
    "JFScores",
    "ObjectScores",
    "OneShotAccumulator",
    "OneShotScores",
    "PerSegAccumulator",
    "PerSegScores",
    "PhotoCounts",
    "accuracy",
    "boundary",
    "boundary_distance",
    "boundary_iou",
    "contour_accuracy",
    "count_photo",
    "iou",
    "jf_scores",
    "mean_scores",
    "region_similarity",
    "summarised",
]
