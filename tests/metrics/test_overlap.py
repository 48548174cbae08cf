from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco

import fiftyone_persam as fp
from fiftyone_persam.metrics import accuracy, iou
from tests.metrics.mask_tables import edge_pairs, random_pairs

PAIRS = random_pairs(seed=1, count=60) + edge_pairs()


# pycocotools has no value for two empty masks.
@pytest.mark.parametrize(
    ("a", "b"), [pair for pair in random_pairs(seed=2, count=60) + edge_pairs() if pair[0].any()]
)
def test_iou_equals_pycocotools(a: np.ndarray, b: np.ndarray) -> None:
    rle = [coco.encode(np.asfortranarray(m.astype(np.uint8))) for m in (a, b)]
    expected = coco.iou([rle[0]], [rle[1]], [0])[0][0]
    assert iou(a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_iou_is_symmetric_and_bounded(a: np.ndarray, b: np.ndarray) -> None:
    assert iou(a, b) == iou(b, a)
    assert 0 <= iou(a, b) <= 1
    assert iou(a, a) == 1


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_accuracy_is_recall_of_foreground(a: np.ndarray, b: np.ndarray) -> None:
    truth = int(b.sum())
    expected = float((a & b).sum() / truth) if truth else float(not a.any())
    assert accuracy(a, b) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("a", "b", "expected_iou", "expected_accuracy"),
    [
        ([[0, 0], [0, 0]], [[0, 0], [0, 0]], 1.0, 1.0),
        ([[0, 0], [0, 0]], [[1, 1], [0, 0]], 0.0, 0.0),
        ([[1, 1], [0, 0]], [[0, 0], [0, 0]], 0.0, 0.0),
        ([[1, 1], [1, 1]], [[1, 0], [0, 0]], 0.25, 1.0),
        ([[1, 0], [0, 0]], [[1, 1], [1, 1]], 0.25, 0.25),
        ([[1]], [[1]], 1.0, 1.0),
    ],
)
def test_values_by_hand(a: list, b: list, expected_iou: float, expected_accuracy: float) -> None:
    assert iou(a, b) == expected_iou
    assert accuracy(a, b) == expected_accuracy


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        (bool, 1),
        (np.uint8, 1),
        (np.uint8, 128),
        (np.uint8, 255),
        (np.int8, -1),
        (np.uint16, 65535),
        (np.int64, 7),
        (np.float32, 1),
        (np.float64, 255),
    ],
)
def test_every_foreground_value_counts_alike(dtype: Any, value: int) -> None:
    a, b = random_pairs(seed=3, count=1)[0]
    stored = a.astype(dtype) * np.array(value, dtype)
    assert iou(stored, b) == iou(a, b)
    assert iou(stored.tolist(), b) == iou(a, b)
    assert iou(b, np.asfortranarray(stored)) == iou(a, b)


def test_inputs_are_left_alone() -> None:
    a, b = random_pairs(seed=4, count=1)[0]
    before = a.copy(), b.copy()
    a.setflags(write=False)
    iou(a, b), accuracy(a, b), fp.boundary_iou(a, b)
    assert (a == before[0]).all() and (b == before[1]).all()


SQUARE = np.ones((4, 4), bool)


@pytest.mark.parametrize("function", [iou, accuracy, fp.boundary_iou])
@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (SQUARE, np.ones((4, 5), bool), "4 x 4 but .* 4 x 5"),
        (SQUARE, np.ones((4, 4, 3), bool), r"must be 2-D .* \(4, 4, 3\)"),
        (SQUARE[None], SQUARE, "must be 2-D"),
        (np.ones((0, 4), bool), np.ones((0, 4), bool), "no pixels"),
        (SQUARE, SQUARE * np.nan, "NaN"),
        (SQUARE * 0.3, SQUARE, "threshold it first"),
        (SQUARE * np.inf, SQUARE, "threshold it first"),
        (SQUARE, np.full((4, 4), "x"), "must be bool, integer or float"),
        (SQUARE, SQUARE * 1j, "must be bool, integer or float"),
        (SQUARE, None, "must be 2-D"),
        (SQUARE, [[1, 2], [1]], "not an array of numbers"),
        ("mask.png", SQUARE, "must be 2-D"),
        (7, SQUARE, "must be 2-D"),
    ],
)
def test_bad_masks_are_named_in_one_line(function: Any, a: Any, b: Any, message: str) -> None:
    with pytest.raises(fp.PersamError, match=message) as caught:
        function(a, b)
    text = str(caught.value)
    assert "\n" not in text
    assert re.match(r"(a|b|pred|gt) ", text)
