"""The form that evaluates: which value of the ground truth is meant."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp

from ..curation.discs import disc, make_photos, tiny_sam
from .context import Form, operator


@pytest.fixture
def photos(dataset, tmp_path: Path) -> fo.Dataset:
    """The object has value 2 in the ground truth, something else value 1."""
    made = dataset(make_photos(tmp_path, 3), name=None)
    for number, sample in enumerate(made):
        values = 2 * disc(20 + 8 * number, 24).astype(np.uint8)
        values[:6] = 1
        sample["ground_truth"] = fo.Segmentation(mask=values)
        sample.save()
    made.mask_targets["ground_truth"] = {1: "sky", 2: "disc"}
    made.save()
    settings = {"method": "persam", "model": tiny_sam(), "presence_threshold": 0}
    fp.segment(made, made.first(), out_field="mine", mask_value=2, **settings)
    return made


def test_the_value_that_the_run_has_learnt(photos):
    expected = fp.evaluate(photos, "mine", mask_value=2).metrics()["mIoU"]
    wrong = fp.evaluate(photos, "mine").metrics()["mIoU"]
    assert expected != pytest.approx(wrong)
    form = Form(photos, "evaluate")
    assert form.params["mask_value"] == "2"
    assert [choice.label for choice in form["mask_value"].view.choices] == [
        "all of them",
        "sky",
        "disc",
    ]
    result, _ = form.execute()
    assert result["metrics"]["mIoU"] == pytest.approx(expected)
    operator("evaluate")(photos, "mine", eval_key="all")
    assert photos.load_evaluation_results("all").metrics()["mIoU"] == pytest.approx(wrong)
    operator("evaluate")(photos, "mine", eval_key="two", mask_value=2)
    assert photos.load_evaluation_results("two").metrics()["mIoU"] == pytest.approx(expected)


def test_masks_of_one_value_need_no_choice(photos):
    form = Form(photos, "evaluate", {"pred_field": "ground_truth", "gt_field": "mine"})
    assert "mask_value" not in form
