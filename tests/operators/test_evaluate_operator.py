"""The form that evaluates: which value of the ground truth is meant."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.datasets import DavisDataset

from ..curation.discs import disc, make_photos, tiny_sam
from ..datasets.davis import write_davis
from ..films import disc as film_disc
from ..films import scene, write_film
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
    for key, value in (("two", 2), ("named", "disc")):
        operator("evaluate")(photos, "mine", eval_key=key, mask_value=value)
        assert photos.load_evaluation_results(key).metrics()["mIoU"] == pytest.approx(expected)
    with pytest.raises(fp.PersamError, match="'moon' is neither a class") as caught:
        operator("evaluate")(photos, "mine", eval_key="none", mask_value="moon")
    assert "\n" not in str(caught.value) and not photos.has_evaluation("none")


def test_a_call_in_python_names_the_class(photos):
    """As `segment` does, of the reference and of what it is not."""
    first, last = photos.first().id, photos.last().id
    given = {"method": "persam", "label_field": "ground_truth"}
    operator("segment_from_reference")(
        *(photos, first),
        **{**given, "out_field": "named", "mask_value": "disc"},
        **{"negatives": last, "negatives_mask_value": "sky"},
    )
    record = fp.load_run(photos, "named").record
    assert [one.mask_value for one in record.references] == [2]
    assert record.negatives[0].mask_value in (1, "sky")
    operator("segment_again")(photos, "named", last, mask_value="disc")
    assert [one.mask_value for one in fp.load_run(photos, "named").record.references] == [2, 2]


def test_masks_of_one_value_need_no_choice(photos):
    form = Form(photos, "evaluate", {"pred_field": "ground_truth", "gt_field": "mine"})
    assert "mask_value" not in form


@pytest.fixture
def sequences(dataset, tmp_path: Path) -> fo.Dataset:
    """A film as photos; what follows its objects is a frame late."""
    root = write_davis(tmp_path / "DAVIS", ("a", "b"), frames=5)
    made = dataset(fo.Dataset.from_dir(dataset_dir=str(root), dataset_type=DavisDataset))
    late = dict(zip(made.values("id"), [None, *made.values("ground_truth")], strict=False))
    for sample in made.iter_samples(autosave=True):
        sample["pred"] = late[sample.id] if sample.frame_number > 1 else sample.ground_truth
    return made


def test_photos_in_sequences_can_be_scored_as_davis_does(sequences):
    form = Form(sequences, "evaluate", {"pred_field": "pred", "gt_field": "ground_truth"})
    assert form.params["method"] == "perseg" and "sequence_field" not in form
    given = {"pred_field": "pred", "gt_field": "ground_truth", "method": "davis"}
    form = Form(sequences, "evaluate", given)
    assert form.params["sequence_field"] == "sequence"
    assert form.params["order_field"] == "frame_number"
    assert "mask_value" not in form and "group_by" not in form
    result, _ = form.execute()
    expected = fp.evaluate(
        sequences, "pred", method="davis", sequence_field="sequence", order_field="frame_number"
    )
    assert result["metrics"]["jf"] == pytest.approx(expected.scores.jf) and expected.scores.jf < 1
    operator("evaluate")(
        sequences, "pred", eval_key="again", method="davis", sequence_field="sequence"
    )
    again = sequences.load_evaluation_results("again").metrics()["jf"]
    assert again == pytest.approx(expected.scores.jf)


def test_frames_of_videos_are_scored_as_davis_does(dataset, tmp_path: Path):
    film = write_film(tmp_path / "film.mp4", [scene([("red", 50 + 5 * n, 60)]) for n in range(5)])
    videos = dataset(fo.Dataset())
    sample = fo.Sample(filepath=str(film))
    for number in range(1, 6):
        for field, x in (("truth", 50 + 5 * number), ("pred", 45 + 5 * number)):
            one = fo.Detection.from_mask(film_disc(x, 60), label="red")
            one.index = 1
            sample.frames[number][field] = fo.Detections(detections=[one])
    videos.add_sample(sample)
    form = Form(videos, "evaluate", {"pred_field": "pred", "gt_field": "truth"})
    assert form["method"].type.values == ["davis"] and "sequence_field" not in form
    with pytest.raises(fp.PersamError, match="frames of videos are scored by method='davis'"):
        fp.evaluate(videos, "frames.pred", gt_field="frames.truth", eval_key="other")
    assert not videos.has_evaluation("other")
    result, _ = form.execute()
    expected = fp.evaluate(videos, "frames.pred", gt_field="frames.truth", method="davis")
    assert result["metrics"]["jf"] == pytest.approx(expected.scores.jf) and expected.scores.jf < 1
    assert result["photos"] == 3
