from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo
import pytest
from fiftyone import ViewField as F
from PIL import Image

from fiftyone_persam.curation.review.decisions import set_review

from ..curation.reviewed_run import RUN, ids_of, reviewed_run
from .context import Form, operator, uris

NAME = "export_dreambooth"


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    album = reviewed_run(dataset, tmp_path / "album")
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    return album


def into(folder: Path) -> dict:
    return {"out_dir": {"absolute_path": str(folder)}}


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").open()]


def test_the_form_exports_what_it_says(album, tmp_path):
    out = tmp_path / "out"
    form = Form(album, NAME, {**into(out), "layout": "kohya", "resolution": 64, "label": "mug"})
    assert "2 photos." in form.texts()
    assert form.params["run_or_label_field"] == RUN
    result, messages = form.execute()
    assert (result["exported"], result["folder"]) == (2, str(out))
    assert "absent.png" in result["left_out"]
    assert "notify" in uris(messages)
    assert {record["text"] for record in records(out)} == {"a photo of sks mug"}
    assert {Image.open(path).size for path in out.rglob("*.png")} == {(64, 64)}
    assert (out / "dataset.toml").exists()
    assert any("not empty" in error for error in Form(album, NAME, into(out)).errors)
    Form(album, NAME, {**into(out), "overwrite": True}).execute()
    assert not (out / "dataset.toml").exists()


@pytest.mark.parametrize("how", ["view", "selection"])
def test_view_and_selection_are_honoured(album, tmp_path, how):
    chosen = ids_of(album, "good")
    if how == "view":
        form = Form(album.match(F("photo") == "good"), NAME, into(tmp_path / "out"))
    else:
        params = {**into(tmp_path / "out"), "view_target": "SELECTED_SAMPLES"}
        form = Form(album, NAME, params, selected=chosen)
    assert "1 photo." in form.texts()
    result, _ = form.execute()
    assert result["exported"] == 1
    assert [record["sample_id"] for record in records(tmp_path / "out")] == chosen


def test_masks_not_looked_at_on_request(album, tmp_path):
    form = Form(album, NAME, {**into(tmp_path / "out"), "only_accepted": False})
    assert "4 photos." in form.texts()
    assert form.execute()[0]["exported"] == 4


def test_labels_of_a_field(album, tmp_path):
    params = {**into(tmp_path / "out"), "run_or_label_field": "ground_truth"}
    form = Form(album, NAME, params)
    assert "only_accepted" not in form and "7 photos have labels." in form.texts()
    assert form.execute()[0]["exported"] == 7


@pytest.mark.parametrize(
    ("params", "named"),
    [
        ({"caption": "a {colour} mug"}, "'colour'"),
        ({"caption": "{"}, "not a template"),
        ({"out_dir": {"absolute_path": __file__}}, "is a file"),
        ({"out_dir": {"absolute_path": str(Path(__file__).parent)}, "overwrite": True}, "holds"),
        ({"layout": "zip"}, "enum"),
        ({"padding": -1}, "padding"),
        ({"resolution": 2}, "resolution"),
    ],
)
def test_the_form_refuses_what_the_library_would(album, tmp_path, params, named):
    errors = Form(album, NAME, {**into(tmp_path / "out"), **params}).errors
    assert any(named in error for error in errors), errors


def test_nothing_to_export(album, dataset, tmp_path):
    set_review(album, RUN, "rejected", ids_of(album, "sure", "good"))
    assert "no mask here that is accepted" in Form(album, NAME, into(tmp_path / "out")).errors[0]
    album.set_values("ground_truth", [None] * 7)
    params = {**into(tmp_path / "out"), "run_or_label_field": "ground_truth"}
    assert "No photo here has a label" in Form(album, NAME, params).errors[0]
    empty = dataset([fo.Sample(str(tmp_path / "photo.jpg"))])
    assert "no masks yet" in Form(empty, NAME).errors[0]


def test_the_sdk_does_what_the_form_does(album, tmp_path):
    view = album.match(F("photo") == "sure")
    done = operator(NAME)(view, RUN, str(tmp_path / "out"), crop="box", padding=0, caption="mine")
    assert done.result["exported"] == 1
    (record,) = records(tmp_path / "out")
    assert record["text"] == "mine"
    assert (record["width"], record["height"]) == (21, 21)  # a disc of radius 10, its own pixels
