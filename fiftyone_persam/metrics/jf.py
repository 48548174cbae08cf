"""Region similarity J and contour accuracy F for video (Perazzi et al., "A Benchmark Dataset and
Evaluation Methodology for Video Object Segmentation", CVPR 2016), as DAVIS 2017 reports them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike

from ..errors import PersamError
from .masks import BoolMask, as_mask, as_mask_pair
from .overlap import iou

RECALL = 0.5
TOLERANCE_RATIO = 0.008
"""How far a contour may be off, as a share of the frame's diagonal: DAVIS's own choice."""


@dataclass(frozen=True)
class JFScores:
    """Scores of one object in one video, or their means over objects; 0 to 1 but for the decays.

    Attributes:
        j: mean region similarity.
        f: mean contour accuracy.
        frames: how many frames were scored.
        j_recall: share of frames whose region similarity is above 0.5.
        f_recall: share of frames whose contour accuracy is above 0.5.
        j_decay: mean region similarity of the first quarter of the frames less that of the last.
        f_decay: the same of contour accuracy.
    """

    j: float
    f: float
    frames: int
    j_recall: float = 0.0
    f_recall: float = 0.0
    j_decay: float = 0.0
    f_decay: float = 0.0

    @property
    def jf(self) -> float:
        """The mean of J and F, which DAVIS ranks by."""
        return (self.j + self.f) / 2


def region_similarity(pred: ArrayLike, gt: ArrayLike) -> float:
    """J: the IoU of two (H, W) masks; two empty masks agree (1)."""
    return iou(pred, gt)


def contour_accuracy(
    pred: ArrayLike, gt: ArrayLike, tolerance_ratio: float = TOLERANCE_RATIO
) -> float:
    """F: harmonic mean of the two contours' precision and recall.

    A contour pixel is right if the other mask's contour passes within
    ``ceil(tolerance_ratio * diagonal)`` pixels of it.

    Args:
        pred: (H, W) predicted mask.
        gt: (H, W) ground-truth mask of the same size.
        tolerance_ratio: as a share of the frame's diagonal; 1 or more is taken as pixels.

    Returns:
        0 to 1. Two masks without contour (both empty, or both the whole frame) agree: 1. One
        without against one with: 0.

    Raises:
        PersamError: not a mask, sizes that differ, or a tolerance that is not above 0.
    """
    predicted, truth = as_mask_pair(pred, gt, ("pred", "gt"))
    number = isinstance(tolerance_ratio, Real) and not isinstance(tolerance_ratio, bool)
    if not number or not math.isfinite(tolerance_ratio) or tolerance_ratio <= 0:
        raise PersamError(
            f"tolerance_ratio must be a number above 0, got {tolerance_ratio!r}: DAVIS uses 0.008"
        )
    radius = math.ceil(
        tolerance_ratio
        if tolerance_ratio >= 1
        else tolerance_ratio * math.sqrt(predicted.shape[0] ** 2 + predicted.shape[1] ** 2)
    )
    contour_pred, contour_gt = contour(predicted), contour(truth)
    total_pred, total_gt = int(contour_pred.sum()), int(contour_gt.sum())
    if total_pred == 0 or total_gt == 0:
        return 1.0 if total_pred == total_gt else 0.0
    precision = np.count_nonzero(contour_pred & dilate_disk(contour_gt, radius)) / total_pred
    recall = np.count_nonzero(contour_gt & dilate_disk(contour_pred, radius)) / total_gt
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def jf_scores(
    predictions: Sequence[ArrayLike],
    ground_truth: Sequence[ArrayLike],
    tolerance_ratio: float = TOLERANCE_RATIO,
) -> JFScores:
    """Score one object over the frames of one video by DAVIS's semi-supervised protocol.

    The first frame (it is given) and the last one are left out.

    Args:
        predictions: one (H, W) mask per frame, the object's own.
        ground_truth: one (H, W) mask per frame.
        tolerance_ratio: see :func:`contour_accuracy`.

    Raises:
        PersamError: numbers of frames that differ, fewer than 3 frames, or a bad mask.
    """
    if len(predictions) != len(ground_truth):
        raise PersamError(
            f"there are {len(predictions)} predicted frames but {len(ground_truth)} ground-truth "
            "frames: pass one mask per frame, empty where the object is not seen"
        )
    if len(predictions) < 3:
        raise PersamError(
            f"J&F leaves out the first and the last frame, so {len(predictions)} frames are too "
            "few: pass at least 3"
        )
    pairs = list(zip(predictions, ground_truth, strict=True))[1:-1]
    j = [region_similarity(pred, gt) for pred, gt in pairs]
    f = [contour_accuracy(pred, gt, tolerance_ratio) for pred, gt in pairs]
    return summarised(j, f)


def summarised(j: Sequence[float], f: Sequence[float]) -> JFScores:
    """Scores of one object from those of its frames, in order, without the first and the last.

    Quarters overlap by a frame, as in DAVIS's tool, which is right for up to 256 frames there.

    Raises:
        PersamError: there is no frame, or numbers differ.
    """
    if not j or len(j) != len(f):
        raise PersamError(f"{len(j)} and {len(f)} frames cannot be summed up: give J and F of each")
    regions, contours = np.asarray(j, np.float64), np.asarray(f, np.float64)
    return JFScores(
        j=math.fsum(j) / len(j),
        f=math.fsum(f) / len(f),
        frames=len(j),
        j_recall=float((regions > RECALL).mean()),
        f_recall=float((contours > RECALL).mean()),
        j_decay=_decay(regions),
        f_decay=_decay(contours),
    )


def mean_scores(scores: Sequence[JFScores]) -> JFScores:
    """Means over objects, whatever sequence they are in; ``frames`` is their sum.

    Raises:
        PersamError: there is no object.
    """
    if not scores:
        raise PersamError("there is no object to take the mean over: score one at least")
    names = ("j", "f", "j_recall", "f_recall", "j_decay", "f_decay")
    means = {name: math.fsum(getattr(one, name) for one in scores) / len(scores) for name in names}
    return JFScores(frames=sum(one.frames for one in scores), **means)


def _decay(values: np.ndarray) -> float:
    ends = np.round(np.linspace(1, len(values), 5) + 1e-10).astype(int) - 1
    quarters = [values[a : b + 1].mean() for a, b in itertools.pairwise(ends)]
    return float(quarters[0] - quarters[3])


def contour(mask: ArrayLike) -> BoolMask:
    """One-pixel contour of a (H, W) mask: pixels that differ from the right, lower or lower
    right neighbour. On the last row and column only the neighbour inside the frame counts, so a
    mask that runs out of the frame has no contour along the border.

    Returns:
        (H, W) bool.
    """
    array = as_mask(mask)
    edge = np.zeros_like(array)
    right = array[:, :-1] ^ array[:, 1:]
    below = array[:-1] ^ array[1:]
    edge[:, :-1] |= right
    edge[:-1] |= below
    edge[:-1, :-1] |= array[:-1, :-1] ^ array[1:, 1:]
    return edge


def dilate_disk(mask: BoolMask, radius: int) -> BoolMask:
    """Grow a (H, W) bool mask by a disk (x^2 + y^2 <= radius^2)."""
    height, width = mask.shape
    grown = np.zeros_like(mask)
    for rise in range(min(radius, height - 1) + 1):
        row = _dilate_rows(mask, min(math.isqrt(radius**2 - rise**2), width - 1))
        grown[rise:] |= row[: height - rise]
        grown[: height - rise] |= row[rise:]
    return grown


def _dilate_rows(mask: BoolMask, reach: int) -> BoolMask:
    """Grow every row of the mask by ``reach`` pixels to both sides."""
    height, width = mask.shape
    padded = np.zeros((height, width + 2 * reach), dtype=np.bool_)
    padded[:, reach : reach + width] = mask
    covered, length = 1, 2 * reach + 1
    while covered < length:
        step = min(covered, length - covered)
        padded = padded[:, :-step] | padded[:, step:]
        covered += step
    return padded
