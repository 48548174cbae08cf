"""Forms for several objects, for what an object is not, and for a suggestion."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
import torch

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.sam import FEATURE_SOURCES, TimmFeatures
from operators.several import named_objects, negative_objects
from tests.curation.scenes import scenes

from .context import Form, operator, uris

SEGMENT = "segment_from_reference"
BACKBONE = "untrained/test_resnet"
PLAIN = {"method": "persam", "evaluate": False}


@pytest.fixture
def small_backbone() -> Iterator[str]:
    def untrained(model: str) -> TimmFeatures:
        torch.manual_seed(0)
        return TimmFeatures(model, pretrained=False)

    FEATURE_SOURCES.register(untrained, name="untrained")
    yield BACKBONE
    FEATURE_SOURCES.unregister("untrained")


@pytest.fixture
def scene(dataset, album: Path, tmp_path: Path) -> fo.Dataset:
    """The cat, and the cup."""
    return dataset(scenes(album, tmp_path)[:2])


def test_objects_are_offered_by_their_labels(scene):
    ids = scene.values("id")
    alone = Form(scene, SEGMENT, selected=ids[:1])
    assert "scope" not in alone
    form = Form(scene, SEGMENT, selected=ids)
    assert "several" in form["scope"].type.values
    form = Form(scene, SEGMENT, {"scope": "several", "out_field": "mine", **PLAIN}, selected=ids)
    assert [form[f"object_{k}"].view.label for k in (0, 1)] == [
        "cat (1 reference)",
        "cup (1 reference)",
    ]
    assert form.errors == []
    result, _ = form.execute()
    assert result["counts"]["segmented"] == 2
    assert fp.load_run(scene, "mine").record.parameters.objects == ["cat", "cup"]
    none = {"scope": "several", "object_0": False, "object_1": False}
    (error,) = Form(scene, SEGMENT, none, selected=ids).errors
    assert "No object is chosen" in error


def test_an_evaluation_says_which_objects_have_no_ground_truth(scene):
    cat, cup = scene.values("id")
    params = {"gt_field": "labels", "eval_key": "e"}
    for name, objects in (("some", ("cat", "mug")), ("none", ("tom", "mug"))):
        fp.segment(
            scene, dict(zip(objects, (cat, cup), strict=True)), "labels", "persam", out_field=name
        )
        form = Form(scene, "evaluate", {**params, "pred_field": name})
        if name == "none":
            (error,) = form.errors
            assert "because there are 'cat', 'cup'" in error
        else:
            assert "called as object 'mug' of run 'some'" in form.texts()
    scene.add_samples([one.copy() for one in scene])
    fp.segment(scene[2:], {"cat": cat, "mug": cup}, "labels", "persam", out_field="copies")
    _, requests = Form(scene[2:], "evaluate", {**params, "pred_field": "copies"}).execute()
    (told,) = [r["params"]["message"] for r in requests if r["operator_uri"].endswith("notify")]
    assert "without ground truth of their name: mug" in told


def test_run_again_asks_which_object_is_shown(scene):
    ids = scene.values("id")
    fp.segment(
        scene, dict(zip(("cat", "cup"), ids, strict=True)), "labels", "persam", out_field="m"
    )
    params = {"run": "m", "label_field": "labels", "reference": ids[0]}
    (error,) = Form(scene, "segment_again", params, selected=ids[:1]).errors
    assert "Choose which of the run's objects" in error
    form = Form(scene, "segment_again", {**params, "object": "cat"}, selected=ids[:1])
    assert form["object"].type.values == ["cat", "cup"] and form.errors == []
    result, _ = form.execute()
    assert result["counts"]["segmented"] == 2
    called = operator("segment_again")(
        *(scene, "m", {"cup": ids[1]}), label_field="labels", negatives={"cup": ids[0]}
    )
    known = fp.load_run(scene, "m").record.negatives
    assert [(one.group, one.sample_id) for one in known] == [("cup", ids[0])]
    assert called.result["run"] == "m"
    assert len(fp.load_run(scene, "m").record.references) == 2


def test_a_run_of_groups_gets_no_further_reference(scene):
    fp.segment(scene, scene, "labels", "persam", out_field="each", group_by="shows")
    (error,) = Form(scene, "segment_again", {"run": "each"}, selected=scene.values("id")).errors
    assert "Run 'each' has one reference per object. Segment the photos of one object" in error


def test_a_call_in_python_names_objects(scene):
    cat, cup = scene.values("id")
    called = operator(SEGMENT)(
        scene,
        {"cat": scene[cat], "cup": [(cup, scene[cup].labels.detections[0].id)]},
        label_field="labels",
        out_field="called",
        method="persam",
    )
    assert called.result["counts"]["segmented"] == 2
    record = fp.load_run(scene, "called").record
    assert [(one.group, one.sample_id) for one in record.references] == [("cat", cat), ("cup", cup)]


def test_what_it_is_not_and_what_was_rejected(scene):
    cat, cup = scene.values("id")
    fp.segment(scene, cat, "labels", "persam", out_field="first", presence_threshold=0)
    set_review(scene, "first", "rejected", [cup])
    params = {"reference": cat, "label_field": "labels", "out_field": "mine", **PLAIN}
    form = Form(scene, SEGMENT, params, selected=[cat, cup])
    assert form["use_rejected"].default is True
    assert "Learn from 1 rejected mask " in form["use_rejected"].view.label
    assert form["negatives_selected"].default is False
    again = Form(scene, "segment_again", {**params, "run": "first"}, selected=[cat])
    assert "Learn from 1 rejected mask " in again["use_rejected"].view.label
    again = Form(scene, "segment_again", {**params, "run": "first"}, selected=[cat, cup])
    assert again["negatives_selected"].default is False
    params |= {"negatives_selected": True, "use_rejected": False}
    Form(scene, SEGMENT, params, selected=[cat, cup]).execute()
    record = fp.load_run(scene, "mine").record
    assert [(one.sample_id, one.label_field) for one in record.negatives] == [(cup, "labels")]
    assert record.parameters.use_rejected is False
    called = operator(SEGMENT)(
        scene,
        cat,
        label_field="labels",
        method="persam",
        out_field="called",
        negatives=cup,
    )
    known = {one.label_field for one in fp.load_run(scene, "called").record.negatives}
    assert called.result["run"] == "called" and known == {"labels", "called_rejected"}


def test_the_references_are_not_what_is_segmented(scene):
    """Photos are selected to say what to look for: the run is of the others, too."""
    form = Form(scene, SEGMENT, PLAIN, selected=scene.values("id"))
    assert form["view_target"].type.values == ["DATASET", "SELECTED_SAMPLES"]
    assert form["view_target"].default == "DATASET"


def test_several_references_of_one_object(scene):
    cat = scene.first().id
    scene.add_sample(scene[cat].copy())
    twice = [cat, scene.last().id]
    params = {"scope": "together", "out_field": "mine", "option_several_references": "agreement"}
    form = Form(scene, SEGMENT, params | PLAIN, selected=twice)
    assert "2 labels in 2 photos show one object" in form.texts() and form.errors == []
    assert {"reference_1", "reference_2"} <= set(form["shown_together"].type.properties)
    result, _ = form.execute()
    assert result["counts"]["segmented"] == 3
    record = fp.load_run(scene, "mine").record
    assert [one.sample_id for one in record.references] == twice
    assert record.parameters.options["several_references"] == "agreement"
    # One photo alone is not several.
    (error,) = Form(scene, SEGMENT, params | PLAIN, selected=[cat]).errors
    assert "fewer than two labels" in error
    # Of labels that are selected themselves, those alone.
    sample = scene[cat]
    sample.labels.detections.append(fo.Detection(label="cat", bounding_box=[0, 0, 0.1, 0.1]))
    sample.save()
    chosen = [
        {"sample_id": one, "label_id": scene[one].labels.detections[0].id, "field": "labels"}
        for one in twice
    ]
    form = Form(scene, SEGMENT, params | PLAIN | {"out_field": "two"}, selected_labels=chosen)
    form.execute()
    known = fp.load_run(scene, "two").record.references
    assert [one.label_id for one in known] == [one["label_id"] for one in chosen]


def test_what_was_rejected_is_offered_to_several_references(scene):
    cat, cup = scene.values("id")
    fp.segment(scene, cat, "labels", "persam", out_field="first", presence_threshold=0)
    set_review(scene, "first", "rejected", [cup])
    params = {"scope": "several", "out_field": "mine", "object_1": False, **PLAIN}
    form = Form(scene, SEGMENT, params, selected=[cat, cup])
    assert "Learn from 1 rejected mask " in form["use_rejected"].view.label
    fp.delete_run(scene, "first")
    form = Form(scene, SEGMENT, params, selected=[cat, cup])
    assert "Learn from 1 rejected mask " in form["use_rejected"].view.label
    form.execute()
    negatives = fp.load_run(scene, "mine").record.negatives
    assert [(one.group, one.sample_id) for one in negatives] == [("cat", cup)]


@pytest.mark.parametrize("kind", ["detections", "classes"])
def test_negatives_by_name_in_the_form(scene, kind):
    """What is not ticked may show what the others, or one of them, are not."""
    cat, cup = scene.values("id")
    if kind == "classes":
        for sample in scene:
            about = fo.ImageMetadata.build_for(sample.filepath)
            height, width = about.height, about.width
            mask = np.zeros((height, width), np.uint8)
            mask[height // 4 : height // 2, width // 4 : width // 2] = 1 + (sample.id == cup)
            mask[:20, :20] = 3
            sample["labels"] = None
            sample["classes"] = fo.Segmentation(mask=mask)
            sample.save()
        scene.mask_targets["classes"] = {1: "cat", 2: "cup", 3: "lamp"}
        scene.save()
    params = {"scope": "several", "out_field": "mine", **PLAIN}
    params |= {"label_field": "labels" if kind == "detections" else "classes"}
    form = Form(scene, SEGMENT, params, selected=[cat, cup])
    names = list(named_objects(form.ctx)[1])
    assert names[0] == "cat" and not any(f"beside_{k}" in form for k in range(3))
    place = names.index("cup")
    params[f"object_{place}"] = False
    form = Form(scene, SEGMENT, params, selected=[cat, cup])
    offered = form[f"beside_{place}"].type.values
    assert offered == ["left out", "not cat"] if kind == "detections" else "none of them" in offered
    assert negative_objects(form.ctx) == {}
    params[f"beside_{place}"] = offered[1]
    form = Form(scene, SEGMENT, params, selected=[cat, cup])
    assert f"beside_{place}" not in Form(
        scene, SEGMENT, {**params, "option_mode": "reference"}, selected=[cat, cup]
    )
    form.execute()
    record = fp.load_run(scene, "mine").record
    wanted = [name for name in names if name != "cup"]
    assert record.parameters.objects == wanted
    assert {(one.group, one.sample_id) for one in record.negatives} == {(n, cup) for n in wanted}
    assert {one.mask_value for one in record.negatives} <= {None, 2, "cup"}


def test_the_class_of_a_mask_that_it_is_not(scene):
    cat, cup = scene.values("id")
    for sample, values in ((scene[cup], (1, 2)), (scene[cat], (255, 255))):
        about = fo.ImageMetadata.build_for(sample.filepath)
        mask = np.zeros((about.height, about.width), np.uint8)
        mask[:100, :100], mask[150:250, 150:250] = values
        sample["classes"] = fo.Segmentation(mask=mask)
        sample.save()
    params = {"reference": cat, "label_field": "classes", "out_field": "mine", **PLAIN}
    params["negatives_selected"] = True
    form = Form(scene, SEGMENT, params, selected=[cat, cup])
    assert form["negatives_mask_value"].type.values == ["1", "2"]
    (error,) = form.errors
    assert "several classes" in error
    params["negatives_mask_value"] = "2"
    Form(scene, SEGMENT, params, selected=[cat, cup]).execute()
    (known,) = fp.load_run(scene, "mine").record.negatives
    assert (known.sample_id, known.mask_value) == (cup, 2)
    called = operator(SEGMENT)(
        *(scene, cat),
        label_field="classes",
        method="persam",
        out_field="called",
        negatives=cup,
        negatives_mask_value=1,
    )
    (known,) = fp.load_run(scene, called.result["run"]).record.negatives
    assert known.mask_value == 1


def test_negatives_by_name_in_a_call(scene):
    cat, cup = scene.values("id")
    called = operator(SEGMENT)(
        scene,
        {"cat": cat, "cup": cup},
        label_field="labels",
        method="persam",
        out_field="called",
        negatives={"cat": scene[cup], "cup": [(cat, scene[cat].labels.detections[0].id)]},
    )
    assert called.result["run"] == "called"
    known = fp.load_run(scene, "called").record.negatives
    assert {(one.group, one.sample_id) for one in known} == {("cat", cup), ("cup", cat)}


def test_a_second_backbone(scene, small_backbone):
    params = {"reference": scene.first().id, "label_field": "labels", "more": True, **PLAIN}
    for wrong, words in (("timm/resnet1", "did you mean"), ("other/x", "is not known")):
        (error,) = Form(scene, SEGMENT, {**params, "features": wrong}).errors
        assert "features: " in error and words in error
    form = Form(scene, SEGMENT, {**params, "features": small_backbone, "out_field": "mine"})
    form.execute()
    assert fp.load_run(scene, "mine").record.parameters.features == small_backbone
    operator(SEGMENT)(
        *(scene, scene.first()),
        label_field="labels",
        method="persam",
        out_field="called",
        features=small_backbone,
    )
    assert fp.load_run(scene, "called").record.parameters.features == small_backbone


def test_a_suggestion_leads_to_the_form(scene):
    best = fp.suggest_reference(scene).ids
    form = Form(scene, "suggest_reference", {"count": 1})
    assert form.errors == [] and "2 photos will be encoded" in form.texts()
    result, requests = form.execute()
    assert result["ids"] == [best[0]] and result["compared"] == 2
    assert {"set_view", "set_selected_samples"} <= set(uris(requests))
    (asked,) = [r for r in requests if r["operator_uri"].endswith("prompt_user_for_operation")]
    assert asked["params"]["operator_uri"].endswith(SEGMENT)
    assert asked["params"]["params"] == {"reference": best[0]}
    called = operator("suggest_reference")(scene, label_field="labels", count=2)
    assert sorted(called.result["ids"]) == sorted(scene.values("id"))
    typical = fp.suggest_reference(scene, "labels", by="medoid")
    called = operator("suggest_reference")(scene, label_field="labels", count=2, by="medoid")
    assert called.result["scores"] == pytest.approx(list(typical.scores))
    assert form["by"].default == "separation"
    assert form["by"].type.values == ["separation", "medoid"]
    (error,) = Form(scene.limit(1), "suggest_reference").errors
    assert "fewer than two photos" in error
