from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_persam.curation.evaluation.compare import compare_runs
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, add_run, disc, photos_of, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    """Run "mine" is 2 pixels beside the truth, "worse" 6 pixels on the other side."""
    album = reviewed_run(dataset, tmp_path)
    add_run(album, tmp_path, "worse", shift=-6)
    return album


def by_counting(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_agreement_is_the_iou_of_both_masks(album):
    comparison = compare_runs(album, RUN, "worse")
    assert len(comparison.ids) == 5
    index = comparison.ids.index(album.match(fo.ViewField("photo") == "sure").first().id)
    expected = by_counting(disc(22, 20), disc(14, 20))
    assert comparison.agreement[index] == pytest.approx(expected)


def test_strongest_disagreement_comes_first(album):
    sample = album.match(fo.ViewField("photo") == "good").first()
    sample["worse"] = fo.Segmentation(mask=np.where(disc(50, 30, 5), 255, 0).astype(np.uint8))
    sample.save()
    view = compare_runs(album, RUN, "worse").view(album)
    assert photos_of(view)[0] == "good"
    assert photos_of(compare_runs(album, RUN, "worse").view(album, below=0.0)) == ["good"]


def test_ground_truth_says_which_run_is_better(album):
    comparison = compare_runs(album, RUN, "worse", gt_field="ground_truth")
    assert (comparison.gain < 0).all()
    assert comparison.summary()["mine better"] == 5
    assert comparison.summary()["worse better"] == 0
    other_way = compare_runs(album, "worse", RUN, gt_field="ground_truth")
    assert np.allclose(np.sort(other_way.gain), np.sort(-comparison.gain))


def test_order_by_gain_begins_where_the_second_run_wins(album):
    sample = album.match(fo.ViewField("photo") == "absent").first()
    sample["worse"] = sample["ground_truth"].copy()
    sample.save()
    comparison = compare_runs(album, RUN, "worse", gt_field="ground_truth")
    assert photos_of(comparison.by_gain(album))[0] == "absent"


def test_agreement_as_a_field(album):
    comparison = compare_runs(album, RUN, "worse", out_field="mine_vs_worse")
    written = dict(zip(*album.values(["id", "mine_vs_worse"]), strict=True))
    for i, agreement in zip(comparison.ids, comparison.agreement, strict=True):
        assert written[i] == pytest.approx(agreement)
    assert sum(v is None for v in written.values()) == 2


def test_without_ground_truth_nobody_wins(album):
    with pytest.raises(PersamError, match="gt_field"):
        compare_runs(album, RUN, "worse").by_gain(album)


@pytest.mark.parametrize(
    ("a", "b", "options", "names"),
    [
        ("other", RUN, {}, "'other'"),
        (RUN, RUN, {}, "itself"),
        (RUN, "worse", {"gt_field": "nothing"}, "'nothing'"),
    ],
)
def test_bad_calls(album, a, b, options, names):
    with pytest.raises(PersamError, match=names):
        compare_runs(album, a, b, out_field="agreement", **options)
    assert not album.has_field("agreement")
