from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_counts, review_view
from fiftyone_persam.curation.runs.presence import presence_threshold

from ..curation.reviewed_run import RUN, add_run, ids_of, photos_of, reviewed_run
from .context import Form, operator, uris


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return reviewed_run(dataset, tmp_path)


@pytest.mark.parametrize(
    ("name", "decision"), [("accept_masks", "accepted"), ("reject_masks", "rejected")]
)
def test_selected_photos_are_decided(album, name, decision):
    form = Form(album, name, selected=ids_of(album, "sure", "good"))
    result, messages = form.execute()
    assert result["changed"] == 2
    assert set(photos_of(review_view(album, RUN, decision))) == {"sure", "good"}
    assert "reload_dataset" in uris(messages)


def test_the_opened_photo_comes_before_the_selection(album):
    (low,) = ids_of(album, "low_score")
    Form(album, "reject_masks", selected=ids_of(album, "sure"), current_sample=low).execute()
    assert photos_of(review_view(album, RUN, "rejected")) == ["low_score"]


def test_deciding_needs_a_selection(album):
    assert "Select photos" in Form(album, "accept_masks").errors[0]


def test_undo(album):
    assert "nothing to undo" in Form(album, "undo_review").errors[0]
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    result, _ = Form(album, "undo_review").execute()
    assert result["changed"] == 1
    assert review_counts(album, RUN).accepted == 0


def test_the_threshold_s_form_says_what_would_change(album):
    form = Form(album, "set_presence_threshold", {"threshold": 0.5})
    assert "1 photos change" in form.texts()
    form.execute()
    assert presence_threshold(album, RUN) == 0.5


@pytest.mark.parametrize("threshold", [7, -0.5])
def test_threshold_must_be_a_presence(album, threshold):
    assert Form(album, "set_presence_threshold", {"threshold": threshold}).errors


def test_the_grid_shows_what_the_threshold_has_changed(album):
    _, messages = Form(album, "set_presence_threshold", {"threshold": 0.5}).execute()
    assert uris(messages) == ["reload_dataset"]


def test_failed_photos_cannot_be_decided(album):
    failed, sure = ids_of(album, "failed", "sure")
    assert "photos failed" in Form(album, "accept_masks", selected=[failed]).errors[0]
    result, _ = Form(album, "accept_masks", selected=[failed, sure]).execute()
    assert result["changed"] == 1
    assert review_counts(album, RUN).failed == 1


def test_compare_takes_the_one_ground_truth_there_is(album, tmp_path):
    add_run(album, tmp_path, "second")
    form = Form(album, "compare_runs")
    assert form["gt_field"].default == "ground_truth"
    assert "by_gain" in form


def test_compare_shows_the_strongest_disagreement_first(album, tmp_path):
    assert "Two runs are needed" in Form(album, "compare_runs").errors[0]
    add_run(album, tmp_path, "second", shift=-5)
    result, messages = Form(album, "compare_runs").execute()
    assert result["summary"]["photos"] == 5
    assert len(result["ids"]) == 5
    assert {"set_view", "set_active_fields"} <= set(uris(messages))


def test_promote(album):
    assert "no mask that is accepted" in Form(album, "promote_masks").errors[0]
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    form = Form(album, "promote_masks", {"label_field": "labels"})
    result, messages = form.execute()
    assert (result["promoted"], result["kept"]) == (1, 0)
    assert photos_of(album.exists("labels")) == ["sure"]
    assert "notify" in uris(messages)


def test_promote_refuses_a_run_s_own_field(album):
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    errors = Form(album, "promote_masks", {"label_field": RUN}).errors
    assert any("belongs to a run" in e for e in errors)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("kps", "holds Keypoints"),
        ("a b", "cannot name a field"),
        ("mine_score", "belongs to run 'mine'"),
        ("tags", "holds ListField"),
        ("", "cannot name a field"),
        (7, "cannot name a field"),
    ],
)
def test_promote_shows_what_is_wrong_with_the_field(album, name, why):
    album.add_sample_field("kps", fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    errors = Form(album, "promote_masks", {"label_field": name}).errors
    assert any(error.startswith(".label_field: ") and why in error for error in errors)


def test_promote_drops_a_label_whose_mask_was_rejected(album):
    (sure,) = ids_of(album, "sure")
    set_review(album, RUN, "accepted", [sure])
    Form(album, "promote_masks", {"label_field": "labels"}).execute()
    set_review(album, RUN, "rejected", [sure])
    result, _ = Form(album, "promote_masks", {"label_field": "labels"}).execute()
    assert result["withdrawn"] == 1
    assert not len(album.exists("labels"))


def test_export(album, tmp_path):
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    folder = tmp_path / "out"
    form = Form(
        album, "export_masks", {"format": "coco", "export_dir": {"absolute_path": str(folder)}}
    )
    result, _ = form.execute()
    assert result == {"exported": 2, "folder": str(folder)}
    assert len(json.loads((folder / "labels.json").read_text())["annotations"]) == 2
    again = Form(album, "export_masks", {"export_dir": {"absolute_path": str(folder)}})
    assert any("not empty" in e for e in again.errors)


def test_export_says_which_photos_are_left_out(album, tmp_path):
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    Path(album[ids_of(album, "good")[0]].filepath).unlink()
    folder = {"absolute_path": str(tmp_path / "out")}
    result, _ = Form(album, "export_masks", {"export_dir": folder}).execute()
    assert result["exported"] == 1 and "good.png" in result["left_out"]


def test_export_only_replaces_an_export(album, tmp_path):
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    (tmp_path / "photos" / "novel.txt").write_text("chapter one")
    params = {"export_dir": {"absolute_path": str(tmp_path / "photos")}, "overwrite": True}
    assert "holds more than" in Form(album, "export_masks", params).errors[0]
    params["export_dir"] = {"absolute_path": str(tmp_path / "photos" / "novel.txt")}
    assert "is a file" in Form(album, "export_masks", params).errors[0]


@pytest.mark.parametrize("how", ["view", "few fields", "selection", "SDK"])
@pytest.mark.parametrize("name", ["promote_masks", "export_masks"])
def test_handing_over_takes_the_view_or_the_selection(album, tmp_path, name, how):
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good", "low_score"))
    chosen = ids_of(album, "good")
    out = str(tmp_path / "out")
    params = {"label_field": "labels"}
    if name == "export_masks":
        params = {"export_dir": {"absolute_path": out}, "format": "masks"}
    if how == "SDK":
        plain = {key: out if key == "export_dir" else value for key, value in params.items()}
        result = operator(name)(album.select(chosen), RUN, **plain).result
    else:
        if how == "selection":
            params = {**params, "view_target": "SELECTED_SAMPLES"}
            form = Form(album, name, params, selected=chosen)
        else:
            view = album.select(chosen)
            form = Form(view.select_fields("tags") if how == "few fields" else view, name, params)
        assert "1 photo." in form.texts() and form.errors == []
        result, _ = form.execute()
    assert result.get("promoted", result.get("exported")) == 1
    if name == "promote_masks":
        assert album.exists("labels").values("id") == chosen
    else:
        assert [p.name for p in (tmp_path / "out" / "data").iterdir()] == ["good.png"]


def test_nothing_in_the_view_is_said(album, tmp_path):
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    view = album.select(ids_of(album, "good"))
    folder = {"absolute_path": str(tmp_path / "out")}
    for name, params in (("promote_masks", {}), ("export_masks", {"export_dir": folder})):
        assert any("no mask that is accepted here" in e for e in Form(view, name, params).errors)


def test_failures_with_reasons(album):
    result, messages = Form(album, "show_failures").execute()
    assert [row["reason"] for row in result["failures"]] == [
        "broken.jpg: cannot be read as a photo"
    ]
    assert "set_view" in uris(messages)


def test_edit_masks(album):
    result, messages = Form(album, "edit_masks").execute()
    assert result["field"] == "mine_edit"
    assert album.count("mine_edit.detections") == 5
    assert "set_active_fields" in uris(messages)


def test_the_sdk_does_what_the_forms_do(album, tmp_path):
    """Every operator of the review, called from Python."""
    operator("accept_masks")(album, RUN, ids=ids_of(album, "sure", "good"))
    operator("reject_masks")(album.select(ids_of(album, "low_score")), RUN)
    assert str(review_counts(album, RUN)).startswith("1 todo, 2 accepted, 1 rejected")
    operator("undo_review")(album, RUN)
    assert review_counts(album, RUN).rejected == 0
    operator("set_presence_threshold")(album, RUN, 0.5)
    assert presence_threshold(album, RUN) == 0.5
    promoted = operator("promote_masks")(album, RUN, "labels").result
    assert promoted["promoted"] == 2
    exported = operator("export_masks")(album, RUN, str(tmp_path / "out"), format="masks").result
    assert exported["exported"] == 2
    failed = operator("show_failures")(album, RUN).result["failures"]
    assert len(failed) == 1
    add_run(album, tmp_path, "second")
    compared = operator("compare_runs")(album, RUN, "second", gt_field="ground_truth").result
    assert compared["summary"]["photos"] == 5
    assert operator("edit_masks")(album, RUN).result == {"field": "mine_edit"}


def test_no_run_yet(dataset, tmp_path):
    empty = dataset([fo.Sample(str(tmp_path / "photo.jpg"))])
    for name in ("accept_masks", "undo_review", "promote_masks", "export_masks", "edit_masks"):
        assert any("no run" in e for e in Form(empty, name).errors), name
