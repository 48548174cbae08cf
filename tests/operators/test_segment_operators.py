"""The forms that segment, and what they run: real model, real photos."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path

import fiftyone as fo
import pytest
from fiftyone.operators.delegated import DelegatedOperationService
from fiftyone.operators.executor import ExecutionError

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.table import review_counts
from fiftyone_persam.curation.runs import stopping
from fiftyone_persam.errors import PersamError

from .context import Form, operator, uris

SEGMENT = "segment_from_reference"
WAIT = 180  # seconds: generous, since nothing waits in vain


def picked(photos: fo.Dataset, name: str = SEGMENT, params=None, **request) -> Form:
    """The form with the first photo selected."""
    return Form(photos, name, params, selected=[photos.first().id], **request)


# Pick ------------------------------------------------------------------------------------------


def test_the_two_methods_of_the_paper_come_first_and_the_others_on_demand(photos):
    def offered(**params):
        return [choice.value for choice in picked(photos, params=params)["method"].view.choices]

    assert offered() == ["persam_f", "persam"]
    assert offered(method="lora") == ["persam_f", "persam", "lora"]
    assert {"lora", "adapter"} < set(offered(more=True))


def test_references_without_a_label_lead_on(photos):
    photos.delete_sample_field("ground_truth")
    photos.set_values("role", ["reference"] + ["target"] * (len(photos) - 1))
    (error,) = Form(photos, SEGMENT, {"scope": "groups"}).errors
    assert "has no labels" in error and "'The photo I selected' above" in error
    assert "will be segmented" not in Form(photos, SEGMENT, {"scope": "groups"}).texts()


def test_the_form_can_be_executed_at_once(photos):
    form = picked(photos)
    assert form.errors == []
    assert form.params["reference"] == photos.first().id
    assert form.params["label_field"] == "ground_truth"
    assert form.params["model"] == "sam_lite"
    assert form["thumbnail"].default.startswith("data:image/jpeg;base64,")
    assert "3 photos will be segmented; how long it takes is known after" in form.texts()
    assert "2 of the photos have ground truth" in form["evaluate"].view.description


def test_the_opened_photo_is_the_reference(photos):
    last = photos.last().id
    assert Form(photos, "segment_from_opened", current_sample=last).params["reference"] == last


def test_the_selected_label_is_the_reference(photos):
    sample = photos.first()
    boxes = [fo.Detection(label=n, bounding_box=[0.1, 0.1, 0.5, 0.5]) for n in ("cat", "dog")]
    sample["animals"] = fo.Detections(detections=boxes)
    sample.save()
    label = {"label_id": boxes[1].id, "sample_id": sample.id, "field": "animals"}
    form = Form(photos, SEGMENT, selected_labels=[label])
    assert form.errors == []
    assert (form.params["label_field"], form.params["label_id"]) == ("animals", boxes[1].id)
    assert form["label_id"].view.choices[1].label == "dog"


def spoil(photos: fo.Dataset, fault: str) -> None:
    sample = photos.first()
    if fault == "no label":
        photos.clear_sample_field("ground_truth")
    elif fault == "no field":
        photos.delete_sample_field("ground_truth")
    elif fault == "empty mask":
        sample["ground_truth"] = fo.Segmentation(mask=sample["ground_truth"].get_mask() * 0)
        sample.save()
    elif fault == "two instances":
        photos.delete_sample_field("ground_truth")
        boxes = [fo.Detection(label="cat", bounding_box=[0.1, 0.1, 0.5, 0.5]) for _ in range(2)]
        photos.set_values("boxes", {sample.id: fo.Detections(detections=boxes)}, key_field="id")
    elif fault == "photo gone":
        sample.filepath = str(Path(sample.filepath).with_name("gone.jpg"))
        sample.save()


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("no label", "has no label in 'ground_truth'"),
        ("no field", "This dataset has no labels"),
        ("empty mask", "is empty"),
        ("two instances", "has 2 labels in 'boxes': choose one"),
        ("photo gone", "gone.jpg is not on the disk"),
    ],
)
def test_a_reference_that_is_none(photos, fault, message):
    spoil(photos, fault)
    errors = picked(photos).errors
    # A form leads on where there is no label at all: the object can be marked in it.
    assert fault in ("no field", "no label") or any(message in error for error in errors), errors
    with pytest.raises(ExecutionError, match=re.escape(message)):
        operator(SEGMENT)(
            photos, photos.first(), "boxes" if fault == "two instances" else "ground_truth"
        )
    assert fp.list_runs(photos) == []


def test_one_of_two_instances(photos):
    spoil(photos, "two instances")
    chosen = photos.first()["boxes"].detections[1].id
    assert picked(photos, params={"label_id": chosen}).errors == []


def test_nothing_selected(photos):
    assert "Click the photo that shows your object" in Form(photos, SEGMENT).errors[0]


def test_a_model_that_has_to_be_downloaded(photos):
    refused = picked(photos, params={"model": "sam_vit_b"})
    assert any("not on this machine (375 MB)" in error for error in refused.errors)
    assert "Download sam_vit_b (375 MB) and go on" in refused["download"].view.label
    assert picked(photos, params={"model": "sam_vit_b", "download": True}).errors == []


@pytest.mark.parametrize("name", ["1st", "a b", "", "ground_truth", "filepath", 7])
def test_a_run_s_name_must_be_a_free_field(photos, name):
    assert any("out_field" in e for e in picked(photos, params={"out_field": name}).errors)


def test_no_dataset():
    assert "Open a dataset first" in Form(None, SEGMENT).errors[0]


def test_group_references(dataset, album):
    photos = dataset(fo.Dataset.from_dir(dataset_dir=str(album), dataset_type=fp.PerSegDataset))
    form = Form(photos, SEGMENT)
    assert form.errors == []
    assert (form.params["scope"], form.params["group_by"]) == ("groups", "object")
    assert "2 photos with role = 'reference'" in form.texts()
    result, _ = form.execute()
    assert result["counts"]["segmented"] == 6
    assert {r["group"] for r in fp.load_run(photos, result["run"]).config.references} == {
        "cat",
        "cup",
    }
    assert photos.load_evaluation_results(result["eval_key"]).scores.objects[0].photos == 2


def test_where_the_work_is_done(photos, monkeypatch):
    """Asked only where there is something to choose from."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert "backend" not in picked(photos, params={"more": True}).params
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    form = picked(photos, params={"more": True})
    assert (form.errors, form.params["backend"]) == ([], "local")
    assert "ray" in form["backend"].view.values()


# Run -------------------------------------------------------------------------------------------


def test_run_with_evaluation(photos):
    form = picked(photos, params={"out_field": "mine", "similarity": True, "prompts": True})
    result, requests = form.execute()
    photos.reload()
    assert result["counts"]["segmented"] == photos.count("mine") == 3
    assert photos.count("mine_similarity") == photos.count("mine_prompts") == 3
    results = photos.load_evaluation_results("mine_eval")
    assert result["metrics"]["mIoU"] == pytest.approx(results.metrics()["mIoU"])
    names = uris(requests)
    assert names.count("set_progress") >= 2
    assert "Segmenting: 3 of 3" in [r["params"].get("label") for r in requests]
    assert names[-4:] == [
        "clear_selected_samples",
        "reload_dataset",
        "set_active_fields",
        "notify",
    ]
    assert requests[-2]["params"]["fields"] == ["mine"]
    assert review_counts(photos, "mine").total == 3
    again = picked(photos)
    assert "as in run 'mine'" in again.texts()
    assert again.params["out_field"] != "mine"


def test_photos_are_compared_if_the_form_is_told_to(photos):
    given = {"out_field": "mine", "more": True, "evaluate": False, "compare_photos": True}
    form = picked(photos, params=given)
    assert form["compare_photos"].type.__class__.__name__ == "Boolean"
    form.execute()
    photos.reload()
    assert photos.count("mine_presence_alone") == 3
    assert fp.load_run(photos, "mine").record.parameters.compare_photos
    again = picked(photos, params={"out_field": "mine"})
    assert "presence alone" in again.texts()


def test_in_the_app_it_goes_on_behind_the_panel(photos):
    """No dialog that covers the page: the panel has the progress, and how to stop."""
    form = picked(photos, params={"evaluate": False}, spaces={"component": "Panel"})
    list(form.operator.execute(form.ctx))
    requests = form.ctx.executor.to_json()["requests"]
    assert uris(requests) == ["open_panel", "clear_selected_samples"]
    (thread,) = (t for t in threading.enumerate() if t.name == "fiftyone-persam")
    thread.join(WAIT)
    assert not stoppable(photos)
    assert fp.load_run(photos, "my_object").state == "done"


def test_only_the_chosen_view(photos):
    view = photos.limit(2)
    result = operator(SEGMENT)(view, photos.last(), out_field="mine").result
    assert result["counts"]["segmented"] == 2
    assert photos.count("mine") == 2
    again = operator(SEGMENT)(photos, photos.last(), out_field="mine", skip_existing=True).result
    assert again["counts"]["segmented"] == 3


def test_instances_for_the_app_s_tools(photos):
    operator(SEGMENT)(photos, photos.first().id, out_field="mine", label_type="detections")
    assert photos.get_field("mine").document_type is fo.Detections


def test_delegated(photos):
    queued = operator(SEGMENT)(photos, photos.first(), out_field="mine", delegate=True)
    assert queued.delegated
    service = DelegatedOperationService()
    (waiting,) = service.list_operations(dataset_name=photos.name, run_state="queued")
    service.execute_operation(waiting)
    (done,) = service.list_operations(dataset_name=photos.name)
    service.delete_operation(done.id)
    assert done.run_state == "completed", done.result.error
    assert done.result.result["counts"]["segmented"] == 3
    assert done.label == "Segment into mine"
    photos.reload()
    assert photos.count("mine") == 3


def stoppable(photos: fo.Dataset) -> str:
    """What the form that stops runs says of the one in progress."""
    form = Form(photos, "stop_run")
    return "" if form.errors else form["run"].view.choices[0].label


def test_a_stopped_run_can_be_resumed(photos, monkeypatch):
    for _ in range(2):  # 12 photos: three batches, to be stopped between the first two
        photos.add_samples([fo.Sample(path, role="target") for path in photos.values("filepath")])
    form = picked(photos, params={"out_field": "mine", "evaluate": False})
    streaming = sys.modules[type(form.operator).__module__.rsplit(".", 1)[0] + ".streaming"]
    monkeypatch.setattr(streaming, "PUBLISH_INTERVAL", 0)
    monkeypatch.setattr(stopping, "INTERVAL", 0)
    publish, going, asked = streaming.ProgressStore.publish, threading.Event(), threading.Event()

    def publish_and_wait(board, run, state, label="", fraction=0.0):
        publish(board, run, state, label, fraction)
        if re.search(r"Segmenting: [1-9]", label):
            going.set()
            assert asked.wait(WAIT)

    monkeypatch.setattr(streaming.ProgressStore, "publish", publish_and_wait)
    running = form.operator.execute(form.ctx)
    next(running)  # it runs in a thread of its own
    assert going.wait(WAIT)
    assert re.match(r"mine: Segmenting: \d+ of 12", stoppable(photos))
    result, _ = Form(photos, "stop_run").execute()
    asked.set()
    assert result["run"] == "mine"
    with pytest.raises(PersamError, match=r"was stopped at .* resume it"):
        list(running)
    run = fp.load_run(photos, "mine")
    assert run.state == "interrupted"
    assert 0 < run.counts["remaining"] < 12
    assert "No run is in progress" in Form(photos, "stop_run").errors[0]

    result, _ = Form(photos, "resume_run").execute()
    assert result["counts"]["segmented"] == 12
    assert fp.load_run(photos, "mine").state == "done"


# Again -----------------------------------------------------------------------------------------


def test_again_with_another_reference(photos):
    first, second, third = photos.values("id")
    fp.segment(photos, reference=first, out_field="mine")
    set_review(photos, "mine", "accepted", [first])
    form = Form(photos, "segment_again", selected=[second])
    assert form.errors == []
    assert "2 photos will be segmented again; 1 accepted" in form.texts()
    form.execute()
    run = fp.load_run(photos, "mine")
    assert [r["sample_id"] for r in run.config.references] == [first, second]
    assert set(run.ids()) == {second, third}
    operator("segment_again")(photos, "mine", third, keep=False)
    references = fp.load_run(photos, "mine").config.references
    assert [r["sample_id"] for r in references] == [third]


def test_nothing_to_do_again(photos):
    first = photos.first().id
    assert "no run yet" in Form(photos, "segment_again", selected=[first]).errors[0]
    fp.segment(photos, reference=first, out_field="mine")
    set_review(photos, "mine", "accepted")
    errors = Form(photos, "segment_again", selected=[first]).errors
    assert any("accepted already" in error for error in errors)


@pytest.mark.parametrize("labels", ["no field", "no label"])
def test_an_object_is_marked_in_the_form(photos, labels):
    spoil(photos, labels)
    params = {
        "way": "box",
        "mark": {"left": 10, "top": 20, "right": 60, "bottom": 90},
        "out_field": "mine",
    }
    if labels == "no label":
        offered = picked(photos)
        assert "Show the object in this photo" in offered["mark_here"].view.label
        assert offered.params["mark_here"] is True  # nothing else can be meant
    form = picked(photos, params=params)
    assert form.errors == [] and "box_thumbnail" in form
    assert not photos.has_field("mine_reference")  # a form writes nothing
    result, _ = form.execute()
    assert result["run"] == "mine"
    photos.reload()
    (marked,) = photos.first()["mine_reference"].detections
    assert marked.bounding_box == pytest.approx([0.1, 0.2, 0.5, 0.7], abs=0.01)
    (recorded,) = fp.load_run(photos, "mine").config.references
    assert recorded["label_id"] == marked.id and recorded["label_field"] == "mine_reference"


def test_an_empty_box_is_refused(photos):
    spoil(photos, "no field")
    form = picked(photos, params={"way": "box", "mark": {"left": 60, "right": 40}})
    assert any("The box is empty" in error for error in form.errors)
