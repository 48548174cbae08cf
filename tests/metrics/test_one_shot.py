"""One-shot scores, against sums written out."""

from __future__ import annotations

import numpy as np
import pytest

from fiftyone_persam.errors import PersamError
from fiftyone_persam.metrics import OneShotAccumulator


def test_intersections_and_unions_are_summed_by_class():
    rng = np.random.default_rng(3)
    rows = [(name, rng.random((2, 9, 13)) > 0.5) for name in "aabcccb"]
    scores = OneShotAccumulator()
    for name, (pred, gt) in rows:
        scores.update(name, pred, gt)
    found = scores.compute()
    for name in "abc":
        mine = [pair for one, pair in rows if one == name]
        both = sum(int((p & g).sum()) for p, g in mine)
        either = sum(int((p | g).sum()) for p, g in mine)
        assert found.classes[name] == pytest.approx(both / either)
    assert found.miou == pytest.approx(np.mean(list(found.classes.values())))
    pred, gt = (np.concatenate([pair[i] for _, pair in rows]) for i in (0, 1))
    sides = [(p & g).sum() / (p | g).sum() for p, g in ((pred, gt), (~pred, ~gt))]
    assert found.fb_iou == pytest.approx(np.mean(sides))
    assert found.episodes == 7


def test_empty_masks():
    scores = OneShotAccumulator()
    nothing = np.zeros((4, 4), bool)
    scores.update("a", nothing, nothing)
    assert scores.compute().classes == {"a": 0.0}  # as published: no intersection, union at least 1


def test_bad_calls():
    scores = OneShotAccumulator()
    with pytest.raises(PersamError, match="no episode"):
        scores.compute()
    with pytest.raises(PersamError, match="gt is 3 x 4"):
        scores.update("a", np.zeros((4, 4), bool), np.zeros((3, 4), bool))
