from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from skimage.morphology import disk

import fiftyone_persam as fp
from fiftyone_persam.datasets.davis.layout import read_index_map
from fiftyone_persam.metrics import (
    contour_accuracy,
    iou,
    jf_scores,
    mean_scores,
    region_similarity,
    summarised,
)
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


def official_decay(values: np.ndarray) -> float:
    """Perazzi et al., section 4.3: the mean of the first quarter less that of the last."""
    ends = [round(1 + k * (len(values) - 1) / 4 + 1e-10) - 1 for k in range(5)]
    return float(np.mean(values[ends[0] : ends[1] + 1]) - np.mean(values[ends[3] : ends[4] + 1]))


@pytest.mark.parametrize("count", [1, 2, 4, 7, 47, 104])
def test_recall_and_decay(count: int) -> None:
    rng = np.random.default_rng(count)
    j, f = rng.random(count), rng.random(count)
    scores = summarised(j.tolist(), f.tolist())
    assert scores.frames == count
    assert (scores.j, scores.f) == pytest.approx((j.mean(), f.mean()))
    assert scores.j_recall == pytest.approx((j > 0.5).sum() / count)
    assert scores.f_recall == pytest.approx((f > 0.5).sum() / count)
    assert scores.j_decay == pytest.approx(official_decay(j))
    assert scores.f_decay == pytest.approx(official_decay(f))


def test_means_are_over_objects_and_not_over_frames() -> None:
    long, short = summarised([0.2] * 9, [0.4] * 9), summarised([0.8], [0.6])
    mean = mean_scores([long, short])
    assert (mean.j, mean.f, mean.jf, mean.frames) == pytest.approx((0.5, 0.5, 0.5, 10))
    assert mean.j_recall == pytest.approx(0.5)
    for call in (lambda: mean_scores([]), lambda: summarised([], []), lambda: summarised([1], [])):
        with pytest.raises(fp.PersamError):
            call()


def real_frames(shared: Path, sequence: str, count: int) -> list[np.ndarray]:
    folder = shared / "data" / "davis_dev" / "Annotations" / "480p" / sequence
    if not folder.is_dir():
        pytest.skip("needs ../shared/data/davis_dev")
    return [read_index_map(path, single=True) for path in sorted(folder.glob("*.png"))[:count]]


@pytest.mark.parametrize(("sequence", "objects"), [("libby", 1), ("dog", 2)])
def test_equals_vos_benchmark_on_real_frames(
    shared_dir: Path, tmp_path: Path, sequence: str, objects: int
) -> None:
    """An independent package scores predictions that lag behind by some frames."""
    vos = pytest.importorskip(
        "vos_benchmark.benchmark", reason="needs pip install --no-deps vos-benchmark"
    )
    truth = real_frames(shared_dir, sequence, 7)
    if objects == 2:  # the upper and the lower half, as two objects
        for one in truth:
            one[one.shape[0] // 2 :] *= 2
    found = [np.roll(truth[max(n - 2, 0)], 3 * n, axis=1) for n in range(len(truth))]
    for name, maps in (("truth", truth), ("found", found)):
        (tmp_path / name / sequence).mkdir(parents=True)
        for number, one in enumerate(maps):
            Image.fromarray(one).save(tmp_path / name / sequence / f"{number:05}.png")
    evaluator = vos.VideoEvaluator(str(tmp_path / "truth"), str(tmp_path / "found"))
    _, j, f = evaluator(sequence)
    for one in range(1, objects + 1):
        scores = jf_scores([m == one for m in found], [m == one for m in truth])
        assert 100 * scores.j == pytest.approx(j[one], abs=1e-9)
        assert 100 * scores.f == pytest.approx(f[one], abs=1e-9)
        assert 20 < 100 * scores.jf < 99
