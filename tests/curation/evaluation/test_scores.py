from __future__ import annotations

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.evaluation.compare import compare_runs
from fiftyone_persam.curation.evaluation.scores import evaluations_of, object_table, worst_first
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, add_run, photos_of, reviewed_run


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


def numbers(album: fo.Dataset) -> list[str]:
    """Fields that evaluations and comparisons have written."""
    words = ("_iou", "_accuracy", "_vs_", "agreement_of")
    return sorted(n for n in album.get_field_schema() if any(w in n for w in words))


def test_a_run_goes_with_its_evaluations_and_comparisons(album, tmp_path):
    for name in ("second", "third"):
        add_run(album, tmp_path, name, shift=-5, label_type="both")
    fp.evaluate(album, RUN, eval_key="mine_eval")
    kept = numbers(album)
    fp.evaluate(album, "second", eval_key="second_eval")
    fp.evaluate(album, "second_instances", eval_key="of_instances")
    fp.evaluate(album, RUN, "second", eval_key="against_second")
    compare_runs(album, RUN, "second", out_field="mine_vs_second")
    compare_runs(album, "second", RUN, out_field="agreement_of_two")
    compare_runs(album, RUN, "third", out_field="mine_vs_third")
    album.set_values("my_vs_field", [1.0] * len(album))
    fp.delete_run(album, "second")
    album.reload()
    assert album.list_evaluations() == ["mine_eval"]
    assert numbers(album) == sorted([*kept, "mine_vs_third", "my_vs_field"])
    add_run(album, tmp_path, "second")  # the same name, and no numbers of another run
    assert evaluations_of(album, "second") == []


def test_a_renamed_run_keeps_its_evaluations_and_comparisons(album, tmp_path):
    add_run(album, tmp_path, "second", shift=-5)
    before = fp.evaluate(album, RUN, eval_key="mine_eval", group_by="object").metrics()
    fp.evaluate(album, "second", RUN, eval_key="against_mine")
    compare_runs(album, RUN, "second", out_field="mine_vs_second")
    album.load_evaluation_results("mine_eval")  # cached, with the old name
    fp.rename_run(album, RUN, "yours")
    assert evaluations_of(album, "yours") == ["mine_eval"]
    loaded = album.load_evaluation_results("mine_eval")
    assert loaded.config.pred_field == "yours" and loaded.metrics() == before
    assert object_table(album, "mine_eval")[-1]["photos"] == 6
    album.reload()
    assert album.get_evaluation_info("mine_eval").config.pred_field == "yours"
    assert album.get_evaluation_info("against_mine").config.gt_field == "yours"
    fp.delete_run(album, "yours")
    assert album.list_evaluations() == [] and numbers(album) == []


def test_a_comparison_belongs_to_the_runs_it_is_of_now(album, tmp_path):
    for name in ("second", "third"):
        add_run(album, tmp_path, name, shift=-5)
    compare_runs(album, RUN, "second", out_field="a_vs_b")
    compare_runs(album, RUN, "third", out_field="a_vs_b")
    fp.delete_run(album, "second")
    assert numbers(album) == ["a_vs_b"]
    fp.delete_run(album, "third")
    assert numbers(album) == []


def test_an_evaluation_that_is_not_there(album):
    with pytest.raises(PersamError, match="no evaluation 'x'"):
        object_table(album, "x")
    album.evaluate_segmentations(
        RUN, "ground_truth", eval_key="plain", mask_targets={0: "no", 255: "yes"}
    )
    with pytest.raises(PersamError, match="not by the PerSeg protocol"):
        worst_first(album, "plain")
