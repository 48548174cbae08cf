from __future__ import annotations

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.scores import evaluations_of, object_table, worst_first
from fiftyone_persam.errors import PersamError

from .reviewed_run import RUN, add_run, photos_of, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    album = reviewed_run(dataset, tmp_path)
    album.set_values("object", ["cup", "cup", "cup", "cat", "cat", "cat", "cat"])
    return album


def test_the_table_has_the_evaluation_s_numbers(album):
    results = fp.evaluate(album, RUN, eval_key="found", group_by="object")
    rows = object_table(album, "found")
    assert [(row["object"], row["photos"]) for row in rows] == [("cat", 4), ("cup", 2), ("mean", 6)]
    assert rows[-1]["iou"] == pytest.approx(results.metrics()["mIoU"])
    assert rows[-1]["iou"] == pytest.approx((rows[0]["iou"] + rows[1]["iou"]) / 2)
    assert rows[-1]["boundary_iou"] == pytest.approx(results.metrics()["bIoU"])


def test_photos_worst_first(album):
    fp.evaluate(album, RUN, eval_key="found", group_by="object")
    view = worst_first(album, "found")
    assert view.values("found_iou") == sorted(view.values("found_iou"))
    assert set(photos_of(worst_first(album, "found", "cup"))) == {"good", "low_score"}


def test_evaluations_of_one_run_oldest_first(album, tmp_path):
    add_run(album, tmp_path, "second")
    fp.evaluate(album, RUN, eval_key="z_older")
    fp.evaluate(album, RUN, eval_key="a_newer")
    fp.evaluate(album, "second", eval_key="other")
    assert evaluations_of(album, RUN) == ["z_older", "a_newer"]


def test_an_evaluation_that_is_not_there(album):
    with pytest.raises(PersamError, match="no evaluation 'x'"):
        object_table(album, "x")
    album.evaluate_segmentations(
        RUN, "ground_truth", eval_key="plain", mask_targets={0: "no", 255: "yes"}
    )
    with pytest.raises(PersamError, match="not by the PerSeg protocol"):
        worst_first(album, "plain")
