"""Picking the object in the form: photos to click, proposals, points, parts and wholes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionError
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation.forms import picking
from operators.marking import relative_point, write_mark

from .context import Form, PanelTab, operator, uris

SEGMENT = "segment_from_reference"


@pytest.fixture
def unlabelled(dataset, album: Path) -> fo.Dataset:
    files = sorted((album / "Images" / "cat").iterdir())
    return dataset([fo.Sample(str(path)) for path in files])


def pictures(form: Form, prefix: str = "picture_") -> dict[str, Any]:
    """Every picture of the form by its alternative text, those of rows included."""
    found = {}
    todo = dict(form.inputs.type.properties)
    while todo:
        name, prop = todo.popitem()
        if name.startswith(prefix):
            found[prop.view._kwargs["alt"]] = prop.view._kwargs
        todo.update(getattr(prop.type, "properties", {}))
    return found


def test_no_photo_is_selected(unlabelled) -> None:
    form = Form(unlabelled, SEGMENT)
    assert any("Click the photo that shows your object" in error for error in form.errors)
    names = [Path(path).name for path in unlabelled.values("filepath")]
    offered = pictures(form)
    assert set(offered) == {f"Choose {name}" for name in names}
    clicked = offered[f"Choose {names[1]}"]
    assert clicked["operator"] == f"@fiftyone-persam/persam/{SEGMENT}" and clicked["prompt"]
    assert clicked["params"]["reference"] == unlabelled.values("id")[1]


def test_a_proposal_that_is_clicked_becomes_the_label(unlabelled) -> None:
    form = Form(unlabelled, SEGMENT, selected=[unlabelled.first().id])
    assert any("Click your object" in error for error in form.errors)
    clicked = pictures(form)["Pick 1"]["params"]
    assert clicked["pick"] == "1" and not any("data:" in str(v) for v in clicked.values())
    form = Form(unlabelled, SEGMENT, params={**clicked, "out_field": "mine"})
    assert form.errors == []
    parts = pictures(form)
    assert "Your object in the photo" in parts and "As proposed" in parts and "Whole" in parts
    assert not unlabelled.has_field("mine_reference")  # a form writes nothing
    result, _ = form.execute()
    assert result["run"] == "mine" and result["counts"]["segmented"] == len(unlabelled)
    unlabelled.reload()
    (marked,) = unlabelled.first()["mine_reference"].detections
    (recorded,) = fp.load_run(unlabelled, "mine").config.references
    assert recorded["label_id"] == marked.id and recorded["label_field"] == "mine_reference"
    chosen = fp.propose(unlabelled.first(), max_proposals=picking.OFFERED)[0]
    assert np.array_equal(marked.mask, chosen.crop)
    assert all(unlabelled.values("mine"))


def test_one_photo_is_chosen_without_asking(unlabelled) -> None:
    form = Form(unlabelled.limit(1), SEGMENT)
    assert form.params["reference"] == unlabelled.first().id
    assert "Pick 1" in pictures(form)


def test_an_object_is_pointed_at_in_the_panel(unlabelled) -> None:
    panel = PanelTab(unlabelled, selected=[unlabelled.last().id])
    panel.click("Point at it")
    assert panel.state["pick_photo"] == unlabelled.last().id
    (heatmap,) = panel.state["pick_figure"]["plot"]
    assert heatmap["type"] == "heatmap" and min(heatmap["x"]) > 0 and max(heatmap["y"]) < 1
    assert panel.state["pick_offered"]
    more = panel.state["pick_offered"]
    panel.click("More")
    assert panel.state["pick_offered"] != more
    panel.send("pick_click", x=0.5, y=0.5)
    assert 1 <= len(panel.state["pick_scales"]) <= 3
    outside = panel.send("pick_click", x=1.5, y=0.5)
    assert any("is outside the photo of" in str(one) for one in outside)
    asked = panel.send("pick_scale", scale=0)
    (prompt,) = [r for r in asked if r["operator_uri"] == "prompt_user_for_operation"]
    given = prompt["params"]["params"]
    assert given["reference"] == unlabelled.last().id and given["way"] == "point"
    form = Form(unlabelled, SEGMENT, params={**given, "out_field": "mine"})
    assert form.errors == [] and "Your object in the photo" in pictures(form)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"pick": "5000"}, "proposal 5000 is not offered: choose one of 1 to"),
        ({"way": "point", "point": {"x": 250, "y": -3}}, None),
        ({"way": "box", "mark": {"left": 60, "right": 40}}, "The box is empty"),
    ],
)
def test_what_cannot_be_picked(unlabelled, params: dict[str, Any], message: str | None) -> None:
    form = Form(unlabelled, SEGMENT, params={"reference": unlabelled.first().id, **params})
    if message is None:  # a slider ends at the photo's edge
        assert relative_point(form.ctx) == (1.0, 0.0)
    else:
        assert any(message in error for error in form.errors), form.errors
    assert not any(name.endswith("_reference") for name in unlabelled.get_field_schema())


@pytest.mark.parametrize("way", ["propose", "point", "box"])
def test_a_photo_with_nothing_in_it(dataset, tmp_path: Path, way: str) -> None:
    path = tmp_path / "plain.png"
    Image.new("RGB", (96, 64), (120, 120, 120)).save(path)
    photos = dataset([fo.Sample(str(path))])
    form = Form(photos, SEGMENT, params={"way": way, "pick": "1", "out_field": "mine"})
    message = "there is nothing in plain.png, which has one colour: choose another photo"
    assert any(message in error for error in form.errors), form.errors
    with pytest.raises(fp.PersamError, match=message):
        write_mark(form.ctx, photos.first())
    panel = PanelTab(photos)
    panel.click("Point at it")
    asked = panel.send("pick_click", x=0.5, y=0.5)
    assert any(message in str(one) for one in asked)
    everything = Form(photos, "segment_everything", params={"out_field": "things"})
    result, _ = everything.execute()
    assert result["summary"].endswith("nothing was found in 1 photo")
    photos.reload()
    assert not {"mine", "mine_reference", "things"} & set(photos.get_field_schema())


def test_everything_is_segmented_in_the_app_and_from_python(unlabelled) -> None:
    form = Form(unlabelled.limit(1), "segment_everything", params={"max_proposals": 3})
    assert form.errors == []
    result, requests = form.execute()
    assert "reload_dataset" in uris(requests) and result["failed"] == 0
    unlabelled.reload()
    assert 1 <= len(unlabelled.first()["everything"].detections) <= 3
    call = operator("segment_everything")
    done = call(unlabelled.skip(1).limit(1), max_proposals=2, out_field="things").result
    assert done["fields"] == ["things"]
    with pytest.raises(ExecutionError, match="max_proposals"):
        call(unlabelled, max_proposals=5_000)
