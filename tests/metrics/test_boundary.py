from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.metrics import boundary, boundary_distance, boundary_iou
from tests.metrics.mask_tables import edge_pairs, random_pairs

PAIRS = random_pairs(seed=11, count=60) + edge_pairs()


def boundary_by_opencv(mask: np.ndarray, ratio: float) -> np.ndarray:
    """The authors' definition: pad by one pixel, erode d times by 3 x 3, subtract."""
    height, width = mask.shape
    distance = max(1, round(ratio * math.sqrt(height**2 + width**2)))
    padded = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=distance)
    return mask & (eroded[1:-1, 1:-1] == 0)


def boundary_by_numpy(mask: np.ndarray, distance: int) -> np.ndarray:
    """The plain definition: a pixel with background within Chebyshev distance d."""
    padded = np.pad(mask, distance)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * distance + 1,) * 2)
    return mask & ~windows.all(axis=(2, 3))


@pytest.mark.parametrize("ratio", [0.02, 0.004, 0.1])
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_boundary_and_its_iou_equal_opencv(a: np.ndarray, b: np.ndarray, ratio: float) -> None:
    expected_a, expected_b = boundary_by_opencv(a, ratio), boundary_by_opencv(b, ratio)
    np.testing.assert_array_equal(boundary(a, ratio), expected_a)
    np.testing.assert_array_equal(boundary(b, ratio), expected_b)
    union = int((expected_a | expected_b).sum())
    expected = int((expected_a & expected_b).sum()) / union if union else 1.0
    assert boundary_iou(a, b, ratio) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), random_pairs(seed=12, count=8))
def test_boundary_equals_plain_numpy(a: np.ndarray, b: np.ndarray) -> None:
    expected = boundary_by_numpy(a, boundary_distance(a.shape))
    np.testing.assert_array_equal(boundary(a), expected)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_properties(a: np.ndarray, b: np.ndarray) -> None:
    band = boundary(a)
    assert not (band & ~a).any()  # inside the mask
    assert band.any() == a.any()  # never empty for a non-empty mask
    assert boundary_iou(a, b) == boundary_iou(b, a)
    assert boundary_iou(a, a) == 1
    assert boundary_iou(a[:, ::-1], b[:, ::-1]) == boundary_iou(a, b)
    assert boundary_iou(a.T, b.T) == boundary_iou(a, b)


def test_a_photo_border_counts_as_contour() -> None:
    full = np.ones((100, 200), bool)
    band = boundary(full)
    distance = boundary_distance((100, 200))
    assert distance == 4
    assert not band[distance:-distance, distance:-distance].any()
    assert int(band.sum()) == 100 * 200 - (100 - 8) * (200 - 8)


@pytest.mark.parametrize(
    ("shape", "ratio", "expected"),
    [
        ((768, 1024), 0.02, 26),  # 25.6
        ((480, 640), 0.02, 16),
        ((30, 40), 0.02, 1),
        ((1, 1), 0.02, 1),  # never 0
        ((60, 80), 0.025, 2),  # 2.5: Python rounds half to even
        ((60, 80), 0.035, 4),  # 3.5
    ],
)
def test_distance(shape: tuple[int, int], ratio: float, expected: int) -> None:
    assert boundary_distance(shape, ratio) == expected


@pytest.mark.parametrize("ratio", [0, -0.02, math.nan, math.inf, "0.02", None, True])
def test_bad_ratio(ratio: Any) -> None:
    mask = np.ones((4, 4), bool)
    with pytest.raises(fp.PersamError, match="dilation_ratio must be a number above 0"):
        boundary_iou(mask, mask, ratio)
