"""Import, evaluate, look at, rename and delete: forms, execution, and the same from Python."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import pytest
from fiftyone.operators.executor import ExecutionError

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_counts

from ..curation.reviewed_run import RUN, add_run, ids_of, reviewed_run
from .context import Form, context, operator, uris


@pytest.fixture
def runs(dataset, tmp_path) -> fo.Dataset:
    return reviewed_run(dataset, tmp_path)


# Evaluate --------------------------------------------------------------------------------------


def test_evaluate(runs):
    runs.set_values("object", ["cup", "cup", "cup", "cat", "cat", "cat", "cat"])
    form = Form(runs, "evaluate")
    assert (form.params["pred_field"], form.params["gt_field"]) == (RUN, "ground_truth")
    assert (form.params["eval_key"], form.params["group_by"]) == ("mine_eval", "object")
    result, requests = form.execute()
    stored = runs.load_evaluation_results("mine_eval")
    assert result["metrics"]["mIoU"] == pytest.approx(stored.metrics()["mIoU"])
    assert uris(requests)[-3:] == ["reload_dataset", "notify", "open_panel"]
    called = operator("evaluate")(runs, RUN, eval_key="again").result
    assert called["metrics"]["photo_mIoU"] == pytest.approx(
        runs.load_evaluation_results("again").metrics()["photo_mIoU"]
    )


@pytest.mark.parametrize("key", ["a b", "1", 7])
def test_an_evaluation_key_names_fields(runs, key):
    assert any("eval_key" in error for error in Form(runs, "evaluate", {"eval_key": key}).errors)


def test_evaluate_needs_two_fields(dataset, tmp_path):
    runs = reviewed_run(dataset, tmp_path)
    runs.delete_sample_field("ground_truth")
    assert "Two label fields are needed" in Form(runs, "evaluate").errors[0]


def test_evaluate_says_what_it_replaces(runs):
    assert "replaces" not in Form(runs, "evaluate")
    Form(runs, "evaluate").execute()
    assert "replaces the evaluation 'mine_eval'" in Form(runs, "evaluate").texts()
    assert "replaces" not in Form(runs, "evaluate", {"eval_key": "other"})


def test_evaluate_offers_fields_of_masks(runs):
    runs.add_sample_field("dots", fo.EmbeddedDocumentField, embedded_doc_type=fo.Keypoints)
    form = Form(runs, "evaluate")
    assert form["pred_field"].type.values == ["ground_truth", RUN]
    assert form["gt_field"].type.values == ["ground_truth"]
    assert Form(runs, "evaluate", {"gt_field": "dots"}).errors


def test_an_evaluation_takes_no_field_of_others(runs):
    runs.add_sample_field("foo_iou", fo.FloatField)
    assert "is there already" in Form(runs, "evaluate", {"eval_key": "foo"}).errors[0]


# Import ----------------------------------------------------------------------------------------


def folder_input(folder: Path) -> dict:
    return {"dataset_dir": {"absolute_path": str(folder)}}


def test_import(dataset, album):
    form = Form(None, "import_perseg", {**folder_input(album), "name": "imported"})
    result, requests = form.execute()
    imported = dataset(fo.load_dataset("imported"))
    assert result == {"dataset": "imported", "photos": 6}
    assert imported.persistent
    assert uris(requests) == ["open_dataset"]
    taken = Form(None, "import_perseg", {**folder_input(album), "name": "imported"})
    assert any("exists: choose another" in error for error in taken.errors)


def test_import_from_python(dataset, album):
    result = operator("import_perseg")(str(album), "called", max_samples=2).result
    assert len(dataset(fo.load_dataset("called"))) == result["photos"] == 2


def test_import_of_another_folder(tmp_path):
    form = Form(None, "import_perseg", {**folder_input(tmp_path), "name": "new"})
    assert any("has no folder Images and Annotations" in error for error in form.errors)
    with pytest.raises(ExecutionError, match="has no folder"):
        operator("import_perseg")(str(tmp_path), "new")
    assert "new" not in fo.list_datasets()


# Runs ------------------------------------------------------------------------------------------


def test_list_runs(runs, tmp_path):
    add_run(runs, tmp_path, "a_second")
    result, _ = Form(runs, "list_runs").execute()
    assert [row["run"] for row in result["runs"]] == [RUN, "a_second"]
    first = result["runs"][0]
    assert (first["method"], first["model"], first["state"]) == ("persam_f", "sam_lite", "done")
    assert first["review"].startswith("4 todo")
    # The newest run is what forms begin with.
    assert Form(runs, "delete_run").params["run"] == "a_second"


def test_rename(runs):
    set_review(runs, RUN, "accepted", ids_of(runs, "sure"))
    Form(runs, "rename_run", {"new_name": "yours"}).execute()
    assert runs.list_runs() == ["yours"]
    assert runs.count("yours") == 5
    assert review_counts(runs, "yours").accepted == 1
    operator("rename_run")(runs, "yours", RUN)
    assert runs.list_runs() == [RUN]


@pytest.mark.parametrize("name", ["ground_truth", "1", "mine", ""])
def test_rename_to_what_cannot_be(runs, name):
    assert Form(runs, "rename_run", {"new_name": name}).errors


def test_rename_to_a_name_whose_companions_are_taken(runs):
    runs.add_sample_field("yours_score", fo.StringField)
    (error,) = Form(runs, "rename_run", {"new_name": "yours"}).errors
    assert "'yours_score' that no run has written" in error


def test_what_is_corrected_by_hand_goes_with_the_run(runs):
    assert "by hand" not in Form(runs, "delete_run").texts()
    Form(runs, "edit_masks").execute()
    assert "corrected by hand in 'mine_edit'" in Form(runs, "delete_run").texts()


def test_delete(runs, tmp_path):
    form = Form(runs, "delete_run")
    assert "deletes the masks of 6 photos" in form.texts()
    form.execute()
    runs.reload()
    assert runs.list_runs() == []
    assert not [name for name in runs.get_field_schema() if name.startswith(RUN)]
    add_run(runs, tmp_path, "second")
    operator("delete_run")(runs, "second")
    assert runs.list_runs() == []


def test_a_run_without_its_record_is_adopted_or_deleted(runs, dataset):
    copy = dataset(runs.limit(3).clone())
    (row,) = operator("list_runs")(copy).result["runs"]
    assert (row["run"], row["state"]) == (RUN, "without its record")
    assert "has no record" in Form(copy, "delete_run").texts()
    form = Form(copy, "adopt_run")
    assert form.params["run"] == RUN
    _, requests = form.execute()
    assert uris(requests)[0] == "reload_dataset"
    assert fp.load_run(copy, RUN).counts["segmented"] == 3
    assert "of a run without its record" in Form(copy, "adopt_run").errors[0]
    copy.delete_run(RUN)
    operator("delete_run")(copy, RUN)
    assert not copy.has_field(RUN)
    assert fp.load_run(runs, RUN).counts["segmented"] == 5


def test_delete_says_which_numbers_go(runs, tmp_path):
    add_run(runs, tmp_path, "second")
    Form(runs, "evaluate", {"pred_field": "second"}).execute()
    Form(runs, "compare_runs").execute()
    text = Form(runs, "delete_run", {"run": "second"}).texts()
    assert "the evaluations second_eval, the comparisons mine_vs_second" in text
    assert "comparisons mine_vs_second" in Form(runs, "delete_run", {"run": RUN}).texts()
    Form(runs, "delete_run", {"run": "second"}).execute()
    runs.reload()
    assert runs.list_evaluations() == []
    assert not [name for name in runs.get_field_schema() if "second" in name]


def test_what_needs_a_run_says_so(dataset, tmp_path):
    empty = dataset([fo.Sample(str(tmp_path / "photo.jpg"))])
    for name in ("rename_run", "delete_run", "resume_run", "show_failures"):
        assert any("no run yet" in error for error in Form(empty, name).errors), name


def test_an_unknown_run_is_refused_before_anything_happens(runs):
    for name in ("delete_run", "resume_run", "undo_review"):
        with pytest.raises(ExecutionError, match="run"):
            operator(name)(runs, "nobody")
    assert runs.list_runs() == [RUN]


def test_a_run_shown_when_another_process_has_ended_it(runs):
    form = Form(runs, "show_run", {"run": RUN}, active_fields=["ground_truth"])
    _, requests = form.execute()
    assert uris(requests) == ["reload_dataset", "set_active_fields"]
    assert requests[-1]["params"]["fields"] == ["ground_truth", RUN]


# Doctor ----------------------------------------------------------------------------------------


def test_doctor():
    rows = operator("doctor")().result["checks"]
    found = {row["check"]: row for row in rows}
    assert found["fiftyone-persam"]["result"].startswith(f"ok: {fp.__version__}")
    for name in ("torch", "device", "database", "plugin", "disk", "model sam_lite"):
        assert found[name]["result"].startswith("ok"), found[name]
    assert found["model sam_vit_h"]["result"].startswith("not downloaded (256")
    assert "models download sam_vit_h" in found["model sam_vit_h"]["advice"]


def test_tables_have_their_columns(runs):
    for name, rows in (("list_runs", "runs"), ("doctor", "checks"), ("show_failures", "failures")):
        executed = operator(name)
        ctx = context(runs, name, {"run": RUN})
        result = executed.execute(ctx)
        outputs = executed.resolve_type(ctx, "outputs")
        columns = outputs.type.properties[rows].view.keys()
        assert set(columns) <= set(result[rows][0]), name
