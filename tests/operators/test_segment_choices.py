"""What the form that segments says of its choices: runs that are there, ground truth, views."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionError

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_counts

from .context import Form, context, operator

SEGMENT = "segment_from_reference"


@pytest.fixture
def groups(dataset, album: Path) -> fo.Dataset:
    """Three photos of a cat and three of a cup, a reference in each three."""
    return dataset(fo.Dataset.from_dir(dataset_dir=str(album), dataset_type=fp.PerSegDataset))


def picked(photos: fo.Dataset, params=None, **request) -> Form:
    """The form with the first photo selected."""
    return Form(photos, SEGMENT, params, selected=[photos.first().id], **request)


# A run that is there ---------------------------------------------------------------------------


def test_a_name_whose_companions_are_taken(photos):
    photos.set_values("mine_review", ["my notes"] * 3)
    photos.add_sample_field("yours_prompts", fo.StringField)
    (error,) = picked(photos, {"out_field": "mine"}).errors
    assert "'mine_review' that no run has written" in error
    assert picked(photos, {"out_field": "yours"}).errors == []
    (error,) = picked(photos, {"out_field": "yours", "more": True, "prompts": True}).errors
    assert "'yours_prompts'" in error
    photos.add_sample_field("my_object_edit", fo.StringField)
    assert picked(photos).params["out_field"] == "my_object_2"


def test_masks_are_replaced_where_the_form_says_so(photos):
    first, second, third = photos.values("id")
    mine = {"out_field": "mine", "evaluate": False}
    fp.segment(photos, first, out_field="mine", method="persam")
    set_review(photos, "mine", "accepted", [second])
    Form(photos, "edit_masks").execute()
    going_on = picked(photos, mine)
    assert going_on.params["skip_existing"] is True
    assert "0 photos will be segmented, 3 have a mask of run 'mine' already." in going_on.texts()
    assert "replaces" not in going_on.texts()

    form = picked(photos.select([first, second]), {**mine, "skip_existing": False})
    assert form.errors == []
    assert "2 photos will be segmented, in about" in form.texts()
    assert (
        "This replaces 2 masks, 1 review decisions and corrections by hand in 2 photos "
        "of run 'mine'." in form.texts()
    )
    masks = dict(zip(*photos.values(["id", "mine.id"]), strict=True))
    form.execute()
    photos.reload()
    now = dict(zip(*photos.values(["id", "mine.id"]), strict=True))
    assert [i for i in masks if masks[i] != now[i]] == [first, second]
    # Nobody has looked at the new masks.
    assert review_counts(photos, "mine").todo == 3
    assert photos.exists("mine_edit").values("id") == [third]


def test_only_photos_without_a_mask_are_announced(photos):
    fp.segment(photos.limit(2), photos.first(), out_field="mine", method="persam")
    form = picked(photos, {"out_field": "mine", "evaluate": False})
    assert "1 photo will be segmented, 2 have a mask of run 'mine' already, in" in form.texts()
    form.execute()
    photos.reload()
    assert photos.count("mine") == 3


@pytest.mark.parametrize("skip", [True, False])
def test_a_run_that_is_there_goes_on_as_it_began(photos, skip):
    first = photos.first()
    fp.segment(photos.limit(2), first, out_field="mine", label_type="detections", similarity=True)
    left_over = {"label_type": "both", "similarity": False, "prompts": True, "evaluate": False}
    form = picked(photos, {"out_field": "mine", "skip_existing": skip, "more": True, **left_over})
    assert form.errors == []
    assert "label_type" not in form and "prompts" not in form
    assert "Instances that can be edited in the App (Detections), similarity" in form.texts()
    form.execute()
    assert fp.load_run(photos, "mine").counts["segmented"] == 3


def test_a_call_in_python_means_what_it_says(photos):
    first = photos.first()
    fp.segment(photos, first, out_field="mine", method="persam")
    masks = photos.values("mine.id")
    for given, message in (
        ({}, "overwrite=True"),
        ({"overwrite": True, "skip_existing": True}, "contradict"),
        ({"skip_existing": True, "label_type": "detections"}, "writes other fields"),
    ):
        with pytest.raises(fp.PersamError, match=message):
            operator(SEGMENT)(photos, first, out_field="mine", **given)
    assert photos.values("mine.id") == masks
    operator(SEGMENT)(photos, first, out_field="mine", overwrite=True)
    photos.reload()
    assert not {*photos.values("mine.id")} & {*masks}


# Evaluation ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["points", "outline"])
def test_no_evaluation_with_labels_that_are_no_masks(photos, kind):
    for sample in photos:
        rows, columns = np.nonzero(sample["ground_truth"].get_mask())
        x, y = columns.mean() / 800, rows.mean() / 600
        corners = [(x - 0.1, y - 0.1), (x + 0.1, y - 0.1), (x, y + 0.1)]
        sample["points"] = fo.Keypoints(keypoints=[fo.Keypoint(points=[(x, y)])])
        outline = fo.Polyline(points=[corners], closed=True, filled=True)
        sample["outline"] = fo.Polylines(polylines=[outline])
        sample.save()
    form = picked(photos, {"label_field": kind, "out_field": "mine"})
    assert form.errors == [] and "evaluate" not in form
    result, _ = form.execute()
    assert result["counts"]["segmented"] == 3
    # Asked for all the same, it is what fails, and not the run.
    called = operator(SEGMENT)(photos, photos.first(), kind, out_field="more", evaluate=True)
    assert called.result["counts"]["segmented"] == 3
    assert "holds no masks" in called.result["warning"]
    assert "3 segmented; not evaluated: gt_field" in called.result["summary"]


def test_an_evaluation_that_fails_is_a_warning(photos):
    photos.add_sample_field("mine_eval_iou", fo.FloatField)
    result, requests = picked(photos, {"out_field": "mine"}).execute()
    assert "'mine_eval_iou' is there already" in result["warning"]
    assert fp.load_run(photos, "mine").state == "done"
    assert requests[-1]["params"]["variant"] == "warning"
    assert "not evaluated" in requests[-1]["params"]["message"]


def test_evaluation_of_the_chosen_mask_value(photos):
    for sample in photos:
        mask = (sample["ground_truth"].get_mask() > 0).astype(np.uint8)
        mask[:40] = 2
        sample["two"] = fo.Segmentation(mask=mask)
        sample.save()
    form = picked(photos, {"label_field": "two", "mask_value": "1", "out_field": "mine"})
    result, _ = form.execute()
    right = fp.evaluate(photos, "mine", gt_field="two", mask_value=1).metrics()["mIoU"]
    wrong = fp.evaluate(photos, "mine", gt_field="two").metrics()["mIoU"]
    assert result["metrics"]["mIoU"] == pytest.approx(right)
    assert right > wrong + 0.1


def add_dogs(photos: fo.Dataset, second_cat: bool = False, name: str | None = "cat") -> str:
    """Cats as detections, with a dog in each photo; the id of the first cat."""
    for sample in photos:
        mask = sample["ground_truth"].get_mask() > 0
        found = [fo.Detection.from_mask(mask, label=name)]
        found.append(fo.Detection(label="dog", bounding_box=[0, 0, 0.6, 0.6]))
        if second_cat:
            found.append(fo.Detection(label=name, bounding_box=[0.5, 0, 0.1, 0.1]))
        sample["animals"] = fo.Detections(detections=found)
        sample.save()
    return photos.first()["animals"].detections[0].id


def test_evaluation_of_the_reference_s_class(photos):
    params = {"label_field": "animals", "label_id": add_dogs(photos), "out_field": "mine"}
    form = picked(photos, params)
    assert "2 of the photos have ground truth, of 'cat' alone" in form["evaluate"].view.description
    result, _ = form.execute()
    right = fp.evaluate(photos, "mine", gt_field="ground_truth").metrics()["mIoU"]
    assert result["metrics"]["mIoU"] == pytest.approx(right, abs=0.01)
    assert photos.load_evaluation_results("mine_eval").metrics()["mIoU"] == pytest.approx(
        result["metrics"]["mIoU"]
    )
    assert len(photos.load_evaluation_view("mine_eval")) == 2
    assert len(photos.first()["animals"].detections) == 2


@pytest.mark.parametrize(
    ("labels", "why"),
    [
        ({"second_cat": True}, "2 photos have several 'cat': all of them would count"),
        ({"name": None}, "2 photos have several objects: all of them"),
    ],
)
def test_no_evaluation_by_default_where_it_misleads(photos, labels, why):
    params = {"label_field": "animals", "label_id": add_dogs(photos, **labels)}
    form = picked(photos, params)
    assert form.params["evaluate"] is False
    assert why in form["evaluate"].view.description


def test_no_evaluation_by_default_where_the_class_is_not_known(photos):
    add_dogs(photos, name=None)
    for sample in photos.skip(1).limit(1):
        sample["animals"].detections[0].label = "cat"
        sample.save()
    label = photos.first()["animals"].detections[0].id
    form = picked(photos, {"label_field": "animals", "label_id": label})
    assert form.params["evaluate"] is False
    assert "The field holds cat, dog: all of that" in form["evaluate"].view.description


# What the grid shows ---------------------------------------------------------------------------


def test_patches_stand_for_their_photos(photos):
    cat = add_dogs(photos)
    patches = photos.to_patches("animals")
    params = {"out_field": "mine", "evaluate": False}
    form = Form(patches, SEGMENT, params, selected=[cat])
    assert form.errors == []
    assert form.params["reference"] == photos.first().id
    assert (form.params["label_field"], form.params["label_id"]) == ("animals", cat)
    assert "3 photos will be segmented" in form.texts()
    form.execute()
    photos.reload()
    assert photos.count("mine") == 3
    again = Form(patches, "segment_again", selected=[cat])
    assert again.errors == [] and again.params["reference"] == photos.first().id
    cats = patches.match(F("animals.label") == "cat").limit(2)
    some = Form(cats, SEGMENT, {**params, "out_field": "two"}, selected=[cat])
    assert "2 photos will be segmented" in some.texts()


def test_dynamic_groups_stand_for_their_photos(photos):
    photos.set_values("owner", ["a", "a", "b"])
    owners = photos.group_by("owner")
    form = picked(owners, {"out_field": "mine", "evaluate": False})
    assert "3 photos will be segmented" in form.texts()
    form.execute()
    photos.reload()
    assert photos.count("mine") == 3
    second = photos.values("id")[1]
    ctx = context(owners, SEGMENT, selected=[second], view_target="SELECTED_SAMPLES")
    inputs = operator(SEGMENT).resolve_type(ctx, "inputs").type.properties
    assert inputs["amount"].view.label.startswith("1 photo will be segmented")


def test_what_is_no_photo(dataset, tmp_path):
    (tmp_path / "film.mp4").write_bytes(b"x")
    box = fo.Detections(detections=[fo.Detection(label="a", bounding_box=[0, 0, 1, 1])])
    films = dataset([fo.Sample(str(tmp_path / "film.mp4"), boxes=box)])
    films.add_sample_field("role", fo.StringField)
    films.set_values("role", ["reference"])
    films.set_values("object", ["a"])
    errors = Form(films, SEGMENT).errors
    assert any("No frame of these videos is labelled" in error for error in errors), errors


# One reference per object ----------------------------------------------------------------------


def spoil(groups: fo.Dataset, fault: str) -> None:
    reference = groups.match(F("role") == "reference").first()
    target = groups.match(F("role") != "reference").first()
    if fault == "no reference":
        reference["role"] = "target"
    elif fault == "no group":
        target["object"] = None
    elif fault == "no label":
        reference["ground_truth"] = None
    elif fault == "no photo":
        reference.filepath = str(Path(reference.filepath).with_name("gone.jpg"))
    reference.save()
    target.save()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no reference", "no reference for 'cat' in 'object': give one per object"),
        ("no group", "1 photos have no value in 'object': set it, beginning with 01.jpg"),
        ("no label", "reference 00.jpg has no label in 'ground_truth': label the object"),
        ("no photo", "gone.jpg"),
    ],
)
def test_groups_that_cannot_be_segmented(groups, fault, message):
    assert Form(groups, SEGMENT).errors == []
    spoil(groups, fault)
    groups.reload()
    errors = Form(groups, SEGMENT).errors
    assert any(message in error for error in errors), errors
    with pytest.raises(ExecutionError, match=message.split(":")[0]):
        operator(SEGMENT)(groups, groups.match(F("role") == "reference"), group_by="object")
    assert fp.list_runs(groups) == []


def test_group_references_from_python(groups):
    references = groups.match(F("role") == "reference")
    given = {"out_field": "mine", "group_by": "object", "method": "persam"}
    result = operator(SEGMENT)(groups, references, evaluate=True, **given).result
    assert result["counts"]["segmented"] == 6
    assert result["metrics"]["mIoU"] > 0.5
    recorded = fp.load_run(groups, "mine").config.references
    assert [r["group"] for r in recorded] == ["cat", "cup"]
    listed = {**given, "out_field": "listed", "delegate": True}
    assert operator(SEGMENT)(groups, references.values("id"), **listed).delegated
    service = DelegatedOperationService()
    (waiting,) = service.list_operations(dataset_name=groups.name, run_state="queued")
    service.execute_operation(waiting)
    service.delete_operation(waiting.id)
    assert fp.load_run(groups, "listed").config.references == recorded


def test_several_references_of_one_object_from_python(photos):
    chosen = [photos.first(), photos.last().id]
    operator(SEGMENT)(photos, chosen, out_field="mine", method="persam")
    recorded = fp.load_run(photos, "mine").config.references
    assert [r["sample_id"] for r in recorded] == [photos.first().id, photos.last().id]
    for wrong in ([], ["nobody"], [7], {"cat": 7}, 7):
        with pytest.raises((ExecutionError, fp.BadReferenceError), match=r"reference|sample"):
            operator(SEGMENT)(photos, wrong, out_field="more")
