"""Grouped datasets: what counts photos, and what shows them, covers all slices."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.review.table import review_view

from ..curation.reviewed_run import RUN, add_run, ids_of, photos_of, reviewed_run
from .context import Form, PanelTab, context

REFERENCE = "sure"  # evaluations leave it out


@pytest.fixture
def pairs(dataset, tmp_path) -> fo.Dataset:
    return reviewed_run(dataset, tmp_path, grouped=True)


def shown(pairs: fo.Dataset, requests: list[dict[str, Any]]) -> list[str]:
    """The photos of the view that the grid is asked to show."""
    (asked,) = [r["params"]["view"] for r in requests if r["operator_uri"] == "set_view"]
    return photos_of(fo.DatasetView._build(pairs, asked))


def test_compared_photos_are_shown(pairs, tmp_path):
    add_run(pairs, tmp_path, "second", shift=-5)
    result, requests = Form(pairs, "compare_runs").execute()
    assert sorted(shown(pairs, requests)) == sorted(
        ["sure", "good", "low_score", "low_presence", "absent"]
    )
    assert len(result["ids"]) == 5


def test_failed_photos_are_shown(pairs):
    assert pairs.group_slice == "left"
    pairs.group_slice = "right"
    _, requests = Form(pairs, "show_failures").execute()
    assert shown(pairs, requests) == ["failed"]


def test_a_bar_shows_the_photos_it_counts(pairs):
    tab = PanelTab(pairs)
    for what, event in (("score", "show_score"), ("presence", "show_presence")):
        bars = tab.state["plots"][f"{what}_plot"][0]["y"]
        for index, photos in enumerate(bars):
            assert len(shown(pairs, tab.send(event, idx=index))) == photos
        assert sum(bars) == 5


def test_evaluations_cover_all_slices(pairs):
    result, _ = Form(pairs, "evaluate").execute()
    pairs.reload()
    scores = pairs.load_evaluation_results("mine_eval").scores
    assert scores.photos == 6 and result["metrics"]["mIoU"] == pytest.approx(scores.miou)
    tab = PanelTab(pairs)
    tab.click("Evaluation")
    bars = tab.state["eval_plots"]["iou_plot"][0]["y"]
    assert sum(bars) == 6
    for index, photos in enumerate(bars):
        assert len(shown(pairs, tab.send("show_iou", idx=index))) == photos
    everything = shown(pairs, tab.send("show_object", row=1))
    assert len(everything) == 6 and REFERENCE not in everything
    assert len(pairs.load_evaluation_view("mine_eval")) == 6


def test_evaluation_of_selected_photos_of_any_slice(pairs):
    selected = ids_of(pairs, "good", "low_score")
    form = Form(pairs, "evaluate", selected=selected)
    target = {**form.params, "view_target": "SELECTED_SAMPLES"}
    form.ctx = context(pairs, "evaluate", target, selected=selected)
    form.execute()
    assert pairs.load_evaluation_results("mine_eval").scores.photos == 2


def test_evaluation_of_photos_grouped_for_looking(dataset, tmp_path):
    album = reviewed_run(dataset, tmp_path)
    album.set_values("object", ["cup", "cup", "cup", "cat", "cat", "cat", "cat"])
    assert fp.evaluate(album.group_by("object"), RUN).scores.photos == 6
    Form(album.group_by("object"), "evaluate").execute()
    assert np.isfinite(album.load_evaluation_results("mine_eval").scores.miou)


def test_a_photo_of_another_slice_is_reviewed(pairs):
    (good,) = ids_of(pairs, "good")
    PanelTab(pairs, current_sample=good).click("Accept")
    assert photos_of(review_view(pairs, RUN, "accepted")) == ["good"]
