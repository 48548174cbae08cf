from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.metrics import (
    PerSegAccumulator,
    PerSegScores,
    boundary_iou,
    count_photo,
    iou,
)
from tests.metrics.mask_tables import random_pairs
from tests.metrics.test_boundary import boundary_by_opencv

Photo = tuple[str, np.ndarray, np.ndarray]


def album(seed: int) -> list[Photo]:
    """Random photos of four objects, unevenly many of each."""
    rng = np.random.default_rng(seed)
    names = rng.choice(["cat", "cup", "flower", "motorcycle"], size=25, p=[0.5, 0.2, 0.2, 0.1])
    return [(str(n), *pair) for n, pair in zip(names, random_pairs(seed, 25), strict=True)]


def accumulate(photos: list[Photo], ratio: float = 0.02) -> PerSegAccumulator:
    accumulator = PerSegAccumulator(ratio)
    for name, pred, gt in photos:
        accumulator.update(name, pred, gt)
    return accumulator


def pooled(parts: list[tuple[int, int]]) -> float:
    return sum(p for p, _ in parts) / sum(w for _, w in parts)


@pytest.mark.parametrize("seed", range(5))
def test_scores_equal_a_plain_recomputation(seed: int) -> None:
    photos = album(seed)
    scores = accumulate(photos).compute()
    names = sorted({name for name, _, _ in photos})
    mious, mbious, maccs = [], [], []
    for name, row in zip(names, scores.objects, strict=True):
        own = [(p, g) for n, p, g in photos if n == name]
        bands = [(boundary_by_opencv(p, 0.02), boundary_by_opencv(g, 0.02)) for p, g in own]
        assert row.name == name and row.photos == len(own)
        assert row.iou == pytest.approx(pooled([((p & g).sum(), (p | g).sum()) for p, g in own]))
        assert row.boundary_iou == pytest.approx(
            pooled([((p & g).sum(), (p | g).sum()) for p, g in bands])
        )
        assert row.accuracy == pytest.approx(pooled([((p & g).sum(), g.sum()) for p, g in own]))
        assert row.photo_iou == pytest.approx(np.mean([iou(p, g) for p, g in own]))
        mious.append(row.iou), mbious.append(row.boundary_iou), maccs.append(row.accuracy)
    assert scores.miou == pytest.approx(np.mean(mious))
    assert scores.mean_boundary_iou == pytest.approx(np.mean(mbious))
    assert scores.mean_accuracy == pytest.approx(np.mean(maccs))
    assert scores.photo_miou == pytest.approx(np.mean([iou(p, g) for _, p, g in photos]))
    assert scores.photo_mean_boundary_iou == pytest.approx(
        np.mean([boundary_iou(p, g) for _, p, g in photos])
    )
    assert scores.photos == len(photos)


def test_pooling_differs_from_the_mean_over_photos() -> None:
    """A big right photo and a small wrong one: pooled by pixels, or one half each."""
    gt_big, gt_small = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    gt_big[:9], gt_small[0, 0] = True, True
    scores = accumulate(
        [("cup", gt_big, gt_big), ("cup", np.zeros_like(gt_small), gt_small)]
    ).compute()
    assert scores.miou == pytest.approx(90 / 91)
    assert scores.photo_miou == pytest.approx(0.5)
    assert scores.mean_accuracy == pytest.approx(90 / 91)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("parts", [2, 3, 7])
def test_merge_in_any_order_equals_one_accumulator(seed: int, parts: int) -> None:
    photos = album(seed)
    whole = accumulate(photos).compute()
    shuffled = [photos[i] for i in np.random.default_rng(seed).permutation(len(photos))]
    merged = PerSegAccumulator()
    for part in range(parts):
        assert merged.merge(accumulate(shuffled[part::parts])) is merged
    assert merged.compute() == whole
    assert len(merged) == len(photos)


def test_merge_with_itself_counts_twice() -> None:
    accumulator = accumulate(album(0))
    before = accumulator.compute()
    after = accumulator.merge(accumulator).compute()
    assert after.photos == 2 * before.photos
    assert after.miou == pytest.approx(before.miou)


def test_update_returns_the_photos_own_scores() -> None:
    _, pred, gt = album(0)[0]
    counts = PerSegAccumulator().update("cat", pred, gt)
    assert counts.iou == iou(pred, gt)
    assert counts.boundary_iou == boundary_iou(pred, gt)
    assert counts.accuracy == fp.accuracy(pred, gt)
    assert counts == count_photo(pred, gt)


def test_counts_made_elsewhere_give_the_same_scores() -> None:
    photos = album(1)
    accumulator = PerSegAccumulator()
    for name, pred, gt in photos:
        accumulator.update_counts(name, count_photo(pred, gt))
    assert accumulator.compute() == accumulate(photos).compute()


def test_an_object_that_is_absent_everywhere_is_right_when_nothing_is_predicted() -> None:
    empty = np.zeros((8, 8), bool)
    assert accumulate([("cat", empty, empty)]).compute().miou == 1
    assert accumulate([("cat", ~empty, empty)]).compute().mean_accuracy == 0


def test_scores_survive_json() -> None:
    scores = accumulate(album(2)).compute()
    assert PerSegScores.from_dict(json.loads(json.dumps(scores.to_dict()))) == scores


@pytest.mark.parametrize(
    ("group", "pred", "gt", "message"),
    [
        ("cat", np.ones((4, 4)), np.ones((4, 5)), "4 x 4 but gt is 4 x 5"),
        ("", np.ones((4, 4)), np.ones((4, 4)), "object's name"),
        (None, np.ones((4, 4)), np.ones((4, 4)), "object's name"),
        ("cat", np.full((4, 4), np.nan), np.ones((4, 4)), "pred contains NaN"),
    ],
)
def test_bad_update_adds_nothing(group: Any, pred: Any, gt: Any, message: str) -> None:
    accumulator = PerSegAccumulator()
    with pytest.raises(fp.PersamError, match=message):
        accumulator.update(group, pred, gt)
    assert len(accumulator) == 0
    with pytest.raises(fp.PersamError, match="no scores"):
        accumulator.compute()


def test_merge_refuses_another_ratio() -> None:
    photos = album(3)
    first, second = accumulate(photos), accumulate(photos, ratio=0.01)
    before = first.compute()
    with pytest.raises(fp.PersamError, match=r"dilation_ratio 0\.01 .* 0\.02"):
        first.merge(second)
    assert first.compute() == before


def test_bad_ratio_is_refused_at_once() -> None:
    with pytest.raises(fp.PersamError, match="dilation_ratio"):
        PerSegAccumulator(0)
