from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest
from skimage.morphology import disk

import fiftyone_persam as fp
from fiftyone_persam.metrics import contour_accuracy, iou, jf_scores, region_similarity
from fiftyone_persam.metrics.jf import contour, dilate_disk
from tests.metrics.mask_tables import edge_pairs, random_pairs

PAIRS = random_pairs(seed=21, count=40) + edge_pairs()


def contour_by_loop(mask: np.ndarray) -> np.ndarray:
    """The definition, pixel by pixel."""
    height, width = mask.shape
    edge = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            for dy, dx in ((0, 1), (1, 0), (1, 1)):
                if y + dy < height and x + dx < width and mask[y, x] != mask[y + dy, x + dx]:
                    edge[y, x] = True
    return edge


def f_by_opencv(pred: np.ndarray, gt: np.ndarray, ratio: float) -> float:
    """The definition with cv2's dilation by scikit-image's disk."""
    radius = math.ceil(ratio * math.hypot(*pred.shape))
    edges = [contour_by_loop(m).astype(np.uint8) for m in (pred, gt)]
    if not edges[0].any() or not edges[1].any():
        return float(not edges[0].any() and not edges[1].any())
    near = [cv2.dilate(edge, disk(radius)) for edge in edges]
    precision = (edges[0] & near[1]).sum() / edges[0].sum()
    recall = (edges[1] & near[0]).sum() / edges[1].sum()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize(("pred", "gt"), random_pairs(seed=22, count=15) + edge_pairs())
def test_contour_accuracy_equals_opencv(pred: np.ndarray, gt: np.ndarray) -> None:
    np.testing.assert_array_equal(contour(pred), contour_by_loop(pred))
    for ratio in (0.008, 0.05):
        expected = f_by_opencv(pred, gt, ratio)
        assert contour_accuracy(pred, gt, ratio) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("radius", [0, 1, 2, 5, 8, 30])
@pytest.mark.parametrize("mask", [pair[0] for pair in PAIRS[:10] + edge_pairs()])
def test_dilation_equals_opencv(mask: np.ndarray, radius: int) -> None:
    expected = cv2.dilate(mask.astype(np.uint8), disk(radius)) > 0
    np.testing.assert_array_equal(dilate_disk(mask, radius), expected)


@pytest.mark.parametrize(("pred", "gt"), PAIRS)
def test_f_is_symmetric_and_bounded(pred: np.ndarray, gt: np.ndarray) -> None:
    assert contour_accuracy(pred, gt) == pytest.approx(contour_accuracy(gt, pred), abs=1e-12)
    assert 0 <= contour_accuracy(pred, gt) <= 1
    assert contour_accuracy(gt, gt) == 1
    assert region_similarity(pred, gt) == iou(pred, gt)


def test_a_contour_within_tolerance_is_right() -> None:
    gt = np.zeros((480, 854), bool)
    gt[100:300, 200:500] = True
    near, far = np.roll(gt, 8, 1), np.roll(gt, 40, 1)
    assert contour_accuracy(near, gt) == 1  # ceil(0.008 * 979.6) = 8 pixels
    assert contour_accuracy(far, gt) < 0.8


def test_the_first_and_the_last_frame_do_not_count() -> None:
    gt = [pair[0] for pair in random_pairs(seed=23, count=5)]
    pred = [np.zeros_like(gt[0]), *gt[1:-1], np.zeros_like(gt[-1])]
    scores = jf_scores(pred, gt)
    assert (scores.j, scores.f, scores.jf, scores.frames) == (1, 1, 1, 3)
    pred[2] = np.zeros_like(gt[2])
    assert jf_scores(pred, gt).j == pytest.approx(2 / 3)


FRAME = np.ones((4, 4), bool)


@pytest.mark.parametrize(
    ("pred", "gt", "ratio", "message"),
    [
        ([FRAME] * 3, [FRAME] * 4, 0.008, "3 predicted frames but 4"),
        ([FRAME] * 2, [FRAME] * 2, 0.008, "at least 3"),
        ([FRAME] * 3, [FRAME[:2]] * 3, 0.008, "4 x 4 but .* 2 x 4"),
        ([FRAME] * 3, [FRAME] * 3, 0, "tolerance_ratio"),
        ([FRAME] * 3, [FRAME] * 3, math.nan, "tolerance_ratio"),
    ],
)
def test_bad_videos(pred: Any, gt: Any, ratio: float, message: str) -> None:
    with pytest.raises(fp.PersamError, match=message):
        jf_scores(pred, gt, ratio)
