"""Forms for several objects, for what an object is not, and for a suggestion."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from tests.curation.scenes import scenes

from .context import Form, operator, uris

SEGMENT = "segment_from_reference"
PLAIN = {"method": "persam", "evaluate": False}


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
    called = operator("segment_again")(scene, "m", {"cup": ids[1]}, label_field="labels")
    assert called.result["run"] == "m"
    assert len(fp.load_run(scene, "m").record.references) == 2


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
