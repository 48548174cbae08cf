from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import pytest
from bson import json_util
from fiftyone.operators.executor import ExecutionContext, Executor

import fiftyone_persam as fp
from fiftyone_persam.curation.evaluation.perseg_method import PerSegEvaluationConfig

from ..discs import SIZE, Make, disc, make_photos, state_of, tiny_sam

OFFSETS = [0, 3, 6, 1, 2, 9]


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """Six photos of two objects, whose predictions are off by known distances."""
    made = dataset(make_photos(tmp_path, 3, ("red", "blue")))
    for offset, sample in zip(OFFSETS, made, strict=True):
        mask = np.roll(sample.ground_truth.mask, offset, axis=0)
        sample["pred"] = fo.Segmentation(mask=mask)
        sample["instances"] = fo.Detections(detections=[fo.Detection.from_mask(mask, label="o")])
        sample.save()
    return made


def recomputed(samples: fo.Dataset) -> dict[str, tuple[float, float]]:
    """Pooled IoU and boundary IoU per object, written down once more with OpenCV."""

    def band(mask: np.ndarray) -> np.ndarray:
        width = max(1, round(0.02 * np.hypot(*mask.shape)))
        padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
        eroded = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=width)
        return mask - eroded[1:-1, 1:-1]

    pools: dict[str, list[list[int]]] = {}
    for sample in samples:
        truth = (sample.ground_truth.mask > 0).astype(np.uint8)
        pred = (sample.pred.mask > 0).astype(np.uint8)
        pairs = ((pred, truth), (band(pred), band(truth)))
        counts = [int(v) for a, b in pairs for v in ((a & b).sum(), (a | b).sum())]
        pools.setdefault(sample.colour, []).append(counts)
    sums = {name: np.sum(rows, axis=0) for name, rows in pools.items()}
    return {name: (s[0] / s[1], s[2] / s[3]) for name, s in sums.items()}


@pytest.mark.parametrize("field", ["pred", "instances"])
def test_numbers(photos: fo.Dataset, field: str) -> None:
    results = fp.evaluate(photos, field, eval_key="key", group_by="colour", include_references=True)
    expected = recomputed(photos)
    rows = {row.name: row for row in results.scores.objects}
    assert set(rows) == set(expected)
    for name, (iou, boundary_iou) in expected.items():
        assert rows[name].iou == pytest.approx(iou)
        assert rows[name].boundary_iou == pytest.approx(boundary_iou)
    metrics = results.metrics()
    assert metrics["mIoU"] == pytest.approx(np.mean([iou for iou, _ in expected.values()]))
    assert metrics["bIoU"] == pytest.approx(np.mean([biou for _, biou in expected.values()]))
    ious, bious, accuracies = photos.values(["key_iou", "key_boundary_iou", "key_accuracy"])
    for sample, iou, biou, accuracy in zip(photos, ious, bious, accuracies, strict=True):
        truth, pred = sample.ground_truth.mask > 0, sample.pred.mask > 0
        assert iou == pytest.approx(fp.iou(pred, truth))
        assert biou == pytest.approx(fp.boundary_iou(pred, truth))
        assert accuracy == pytest.approx(fp.accuracy(pred, truth))
    assert metrics["photo_mIoU"] == pytest.approx(np.mean(ious))
    assert metrics["photo_bIoU"] == pytest.approx(np.mean(bious))


def test_without_groups_all_photos_show_one_object(photos: fo.Dataset) -> None:
    results = fp.evaluate(photos, "pred", include_references=True)
    pairs = [(sample.pred.mask > 0, sample.ground_truth.mask > 0) for sample in photos]
    both = sum(int((pred & truth).sum()) for pred, truth in pairs)
    either = sum(int((pred | truth).sum()) for pred, truth in pairs)
    (row,) = results.scores.objects
    assert (row.name, row.photos) == ("object", 6)
    assert results.scores.miou == row.iou == pytest.approx(both / either)
    covered = sum(int(truth.sum()) for _, truth in pairs)
    assert row.accuracy == pytest.approx(both / covered)
    assert results.classes.tolist() == ["background", "object"]
    assert photos.list_evaluations() == []  # nothing is stored without a key


def test_fiftyone_has_it_as_an_evaluation(photos: fo.Dataset) -> None:
    results = fp.evaluate(photos, "pred", eval_key="key", group_by="colour")
    assert photos.list_evaluations(type="segmentation", method="perseg") == ["key"]
    assert results.classes.tolist() == ["background", "blue", "red"]
    matrix = results.pixel_confusion_matrix
    assert matrix.sum() == 4 * SIZE[0] * SIZE[1]
    report = results.report()
    assert report["red"]["recall"] == pytest.approx(
        next(row.accuracy for row in results.scores.objects if row.name == "red")
    )
    shown = results.custom_metrics
    assert {entry["key"] for entry in shown.values()} >= {"mIoU", "bIoU"}
    assert not any(entry["lower_is_better"] for entry in shown.values())
    view = photos.load_evaluation_view("key")
    assert len(view) == 4


@pytest.mark.parametrize("gt_field", ["ground_truth", "boxed"])
def test_a_subset_has_its_own_numbers(photos: fo.Dataset, gt_field: str) -> None:
    for sample in photos:
        mask = sample.ground_truth.mask > 0
        found = fo.Detection.from_mask(mask, label="disc")
        sample["boxed"] = fo.Detections(detections=[found])
        sample.save()
    fp.evaluate(photos, "pred", gt_field=gt_field, eval_key="key", group_by="colour")
    photos.clear_cache()
    results = photos.load_evaluation_results("key")
    whole, (blue, red) = results.metrics()["mIoU"], results.scores.objects
    assert blue.iou != red.iou
    with results.use_subset({"type": "field", "field": "colour", "value": "red"}):
        assert results.metrics()["mIoU"] == results.scores.miou == red.iou
        assert results.metrics()["bIoU"] == red.boundary_iou
    assert results.metrics()["mIoU"] == whole == np.mean([blue.iou, red.iou])
    with results.use_subset(photos.limit(0)):
        assert results.metrics()["mIoU"] == 0


def panel_context(dataset: fo.Dataset, key: str, params: dict[str, Any]) -> ExecutionContext:
    """What the App sends when somebody uses the Model Evaluation panel."""
    state = {"view": {"key": key}}
    return ExecutionContext(
        {
            "dataset_name": dataset.name,
            "panel_id": "panel",
            "panel_state": state,
            "params": {"panel_id": "panel", "panel_state": state, **params},
        },
        executor=Executor(),
        operator_uri="@voxel51/operators/model_evaluation_panel_builtin",
    )


def test_the_model_evaluation_panel_shows_it(photos: fo.Dataset) -> None:
    from plugins.panels.model_evaluation import EvaluationPanel

    results = fp.evaluate(photos, "pred", eval_key="key", group_by="colour")
    photos.clear_cache()
    panel = EvaluationPanel()
    shown = panel.get_evaluation_data(panel_context(photos, "key", {"key": "key"}))
    numbers = {entry["key"]: entry["value"] for entry in shown["custom_metrics"].values()}
    assert numbers["mIoU"] == results.scores.miou
    assert numbers["bIoU"] == results.scores.mean_boundary_iou
    assert list(shown["confusion_matrix"]["classes"]) == ["background", "blue", "red"]
    assert shown["confusion_matrix"]["matrix"].sum() == 4 * SIZE[0] * SIZE[1]

    for kind, options, colours in (
        ("class", {"x": "red"}, ["red", "red"]),
        ("matrix", {"x": "background", "y": "blue"}, ["blue", "blue"]),
        ("field", {"field": "fp"}, ["red", "red", "blue", "blue"]),
    ):
        context = panel_context(photos, "key", {"type": kind, "options": {"key": "key", **options}})
        panel.load_view(context)
        (request,) = context.executor.to_json()["requests"]
        stages = json_util.loads(json.dumps(request["params"]["view"]))
        assert fo.DatasetView._build(photos, stages).values("colour") == colours


def test_it_loads_in_another_process(photos: fo.Dataset) -> None:
    results = fp.evaluate(photos, "pred", eval_key="key", group_by="colour")
    code = f"""
        import json, fiftyone as fo
        results = fo.load_dataset({photos.name!r}).load_evaluation_results("key")
        results.print_report()
        print(json.dumps([type(results).__name__, results.metrics()["mIoU"],
                          results.scores.miou, [row.name for row in results.scores.objects]]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    *table, last = done.stdout.strip().splitlines()
    kind, shown, miou, objects = json.loads(last)
    assert kind == "PerSegResults" and objects == ["blue", "red"]
    assert shown == miou == pytest.approx(results.scores.miou)
    assert any(line.startswith("mean over objects") for line in table)


def test_report(photos: fo.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    results = fp.evaluate(photos, "pred", group_by="colour")
    results.print_report()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["object", "photos", "IoU", "bIoU", "accuracy"]
    red = next(row for row in results.scores.objects if row.name == "red")
    numbers = [f"{100 * v:.1f}" for v in (red.iou, red.boundary_iou, red.accuracy)]
    assert ["red", "2", *numbers] in [line.split() for line in lines]
    results.print_report(classes=["blue"])
    assert "red" not in capsys.readouterr().out


def test_deleting_leaves_nothing(photos: fo.Dataset) -> None:
    schema = set(photos.get_field_schema())
    fp.evaluate(photos, "pred", eval_key="key")
    assert {"key_iou", "key_boundary_iou", "key_accuracy"} <= set(photos.get_field_schema())
    fp.evaluate(photos, "pred", eval_key="key")  # replaces it
    photos.rename_evaluation("key", "other")
    assert photos.first().has_field("other_iou") and not photos.has_field("key_iou")
    photos.delete_evaluation("other")
    assert set(photos.get_field_schema()) == schema and photos.list_evaluations() == []


def test_it_works_through_fiftyones_own_call(photos: fo.Dataset) -> None:
    ours = fp.evaluate(photos, "pred", include_references=True)
    theirs = photos.evaluate_segmentations("pred", eval_key="key", method=PerSegEvaluationConfig)
    assert theirs.scores == ours.scores
    assert photos.count_values("key_iou") == {
        v: n for v, n in photos.count_values("key_iou").items() if v is not None
    }


def test_references_are_left_out(photos: fo.Dataset) -> None:
    assert fp.evaluate(photos, "pred").scores.photos == 4
    assert fp.evaluate(photos, "pred", include_references=True).scores.photos == 6
    photos.delete_sample_field("role")
    assert fp.evaluate(photos, "pred").scores.photos == 6
    fp.segment(photos, photos.last(), model=tiny_sam(), method="persam", out_field="x")
    results = fp.evaluate(photos, "x", eval_key="x_eval")
    assert results.scores.photos == 5 and photos.last().x_eval_iou is None


def test_missing_masks(photos: fo.Dataset) -> None:
    ids = photos.values("id")
    photos.set_values("pred", {ids[1]: None}, key_field="id")
    photos.set_values("ground_truth", {ids[4]: None}, key_field="id")
    results = fp.evaluate(photos, "pred", eval_key="key")
    assert results.scores.photos == 3
    assert photos[ids[1]].key_iou == 0.0  # no prediction is an empty one
    assert photos[ids[4]].key_iou is None  # nothing to compare with
    both = photos.select(ids[1])
    both.set_values("ground_truth", [fo.Segmentation(mask=np.zeros(SIZE, np.uint8))])
    assert fp.evaluate(both, "pred").scores.photo_miou == 1.0


def test_masks_of_another_size_are_scaled(photos: fo.Dataset) -> None:
    sample = photos.last()
    sample["pred"] = fo.Segmentation(mask=sample.ground_truth.mask[::2, ::2])
    sample.save()
    results = fp.evaluate(photos.select(sample.id), "pred")
    assert results.scores.photo_miou > 0.9


def test_one_value_of_the_ground_truth(photos: fo.Dataset) -> None:
    sample = photos.last()
    mask = np.where(disc(30, 20), 7, 0).astype(np.uint8)
    mask[:3] = 9
    sample["ground_truth"] = fo.Segmentation(mask=mask)
    sample["pred"] = fo.Segmentation(mask=np.where(mask == 7, 255, 0).astype(np.uint8))
    sample.save()
    view = photos.select(sample.id)
    assert fp.evaluate(view, "pred", mask_value=7).scores.miou == 1.0
    assert fp.evaluate(view, "pred").scores.miou < 1.0
    photos.mask_targets = {"ground_truth": {7: "cup", 9: "edge"}}
    photos.save()
    assert fp.evaluate(view, "pred", mask_value="cup").scores.miou == 1.0
    with pytest.raises(fp.PersamError, match="did you mean 'cup'"):
        fp.evaluate(view, "pred", mask_value="cups")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pred_field": "nothing"}, "no field 'nothing': pred_field"),
        ({"pred_field": "colour"}, "pred_field 'colour' holds no masks"),
        ({"pred_field": None}, "no field None"),
        ({"gt_field": "nothing"}, "no field 'nothing': gt_field"),
        ({"gt_field": "pred"}, "cannot be compared with itself"),
        ({"group_by": "nothing"}, "no field 'nothing': group_by"),
        ({"eval_key": "my key"}, "eval_key 'my key'"),
        ({"eval_key": "taken"}, "'taken_iou' is there already"),
        ({"dilation_ratio": 0}, "dilation_ratio"),
        ({"pred_field": "lost", "on_error": "raise"}, "lost of .*cannot be read"),
        ({"pred_field": "turned", "on_error": "raise"}, "turned of .*make both one size"),
        ({"gt_field": "empty"}, "no photo has ground truth in 'empty'"),
        ({"mask_value": "#ff0000"}, "not a colour mask"),
    ],
)
def test_bad_input_leaves_everything_as_it_was(
    photos: fo.Dataset, changes: dict, message: str
) -> None:
    photos.add_sample_field("taken_iou", fo.FloatField)
    photos.add_sample_field("empty", fo.EmbeddedDocumentField, embedded_doc_type=fo.Segmentation)
    sample = photos.last()
    sample["lost"] = fo.Segmentation(mask_path="/nowhere/mask.png")
    sample["turned"] = fo.Segmentation(mask=sample.pred.mask.T)
    sample.save()
    before = state_of(photos)
    with pytest.raises(fp.PersamError, match=message) as caught:
        fp.evaluate(photos, **{"pred_field": "pred", "eval_key": "key", **changes})
    assert "\n" not in str(caught.value)
    assert state_of(photos) == before


def test_an_evaluation_can_be_kept(photos: fo.Dataset) -> None:
    fp.evaluate(photos, "pred", eval_key="key")
    with pytest.raises(fp.PersamError, match="is an evaluation 'key' already"):
        fp.evaluate(photos, "pred", eval_key="key", overwrite=False)
