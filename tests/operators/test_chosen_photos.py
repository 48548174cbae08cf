"""Operators that work on photos take those of the view, and say how many these are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from bson import ObjectId

from fiftyone_persam.curation.evaluation.compare import compare_runs
from fiftyone_persam.curation.forms.photos import photos_behind
from fiftyone_persam.curation.review.table import review_counts

from ..curation.reviewed_run import RUN, add_run, ids_of, reviewed_run
from .context import Form, operator


@pytest.fixture
def runs(dataset, tmp_path) -> fo.Dataset:
    made = reviewed_run(dataset, tmp_path)
    add_run(made, tmp_path, "other", shift=5)
    return made


def edited(view: Any) -> set[str]:
    operator("edit_masks")(view, RUN)
    dataset = view._root_dataset
    dataset.reload()
    return set(dataset.exists(f"{RUN}_edit").values("photo"))


def compared(view: Any) -> set[str]:
    ids = operator("compare_runs")(view, RUN, "other").result["ids"]
    assert ids == compare_runs(photos_behind(view), RUN, "other").ids
    return set(view._root_dataset.select(ids).values("photo"))


CALLS: dict[str, Callable[[Any], set[str]]] = {"edit_masks": edited, "compare_runs": compared}


@pytest.mark.parametrize("name", CALLS)
def test_of_a_view_its_photos(runs, name):
    view = runs.select(ids_of(runs, "good", "absent"))
    params = {"run_a": RUN, "run_b": "other"} if name == "compare_runs" else {"run": RUN}
    assert "2 photos" in Form(view, name, params).texts()
    assert "5 photos" in Form(runs, name, params).texts() or name == "edit_masks"
    assert CALLS[name](view) == {"good", "absent"}


@pytest.mark.parametrize("name", CALLS)
def test_of_patches_the_photos_behind_them(runs, name):
    for sample in runs.select(ids_of(runs, "good", "absent")):
        box = fo.Detection(label="part", bounding_box=[0.1, 0.1, 0.2, 0.2])
        sample["boxes"] = fo.Detections(detections=[box])
        sample.save()
    assert CALLS[name](runs.to_patches("boxes")) == {"good", "absent"}


def test_failures_of_a_view(runs):
    found = operator("show_failures")(runs.select(ids_of(runs, "failed", "good")), RUN)
    assert [row["photo"] for row in found.result["failures"]] == ["failed.png"]
    form = Form(runs.select(ids_of(runs, "good")), "show_failures", {"run": RUN})
    assert "here; 1 photo failed in other views" in form.errors[0]


def test_again_counts_the_view(runs):
    view = runs.select(ids_of(runs, "good", "absent"))
    params = {"run": RUN, "reference": ids_of(runs, "sure")[0], "label_field": "ground_truth"}
    assert "2 photos will be segmented again" in Form(view, "segment_again", params).texts()


@pytest.mark.parametrize("make", [list, set, np.array, lambda ids: [ObjectId(i) for i in ids]])
def test_ids_from_python(runs, make):
    ids = ids_of(runs, "good", "sure")
    assert operator("accept_masks")(runs, RUN, ids=make(ids)).result["changed"] == 2
    assert review_counts(runs, RUN).accepted == 2


@pytest.mark.parametrize("number", [np.float32, np.float64, np.array])
def test_numbers_from_python(runs, number):
    operator("set_presence_threshold")(runs, RUN, number(0.5))
    assert review_counts(runs, RUN).absent == 2
