"""What another package adds by one registration each is there in every part of this one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.cli import build_parser, main
from fiftyone_persam.curation import export_masks, set_review
from fiftyone_persam.curation.handover.importing import import_folder
from fiftyone_persam.curation.zoo.persam_model import PersamModel
from fiftyone_persam.engine import DevicesBackend
from fiftyone_persam.errors import CheckpointError, PersamError
from tests.curation.discs import SIZE, Make, make_photos
from tests.operators.context import Form, link_plugin
from tests.toys import ToyMethod, registered


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 3))


def masked(photos: fo.Dataset, field: str = "mine") -> list[tuple[float, float]]:
    """The share of each photo's left and right half that is masked."""
    photos.reload()
    masks = [sample[field].get_mask() > 0 for sample in photos]
    half = SIZE[1] // 2
    return [(float(mask[:, :half].mean()), float(mask[:, half:].mean())) for mask in masks]


def test_arrays_in_arrays_out(tmp_path: Path) -> None:
    photo = np.zeros((30, 40, 3), np.uint8)
    method = ToyMethod("toy_sam").fit(fp.Reference(photo, box=(1, 1, 9, 9)))
    (found,) = method.predict([photo])
    assert found.mask[:, :20].all() and not found.mask[:, 20:].any()
    loaded = ToyMethod.load(method.save(tmp_path / "toy"), "toy_sam")
    np.testing.assert_array_equal(loaded.predict([photo])[0].mask, found.mask)
    assert loaded.settings == {"share": 0.5, "side": "auto"}
    with pytest.raises(CheckpointError, match="is of method 'toy', not 'persam'"):
        fp.PerSAM.load(tmp_path / "toy", "toy_sam")
    with pytest.raises(PersamError, match="Toy knows no object yet"):
        ToyMethod("toy_sam").predict([photo])


def test_segment(photos: fo.Dataset) -> None:
    run = fp.segment(
        photos,
        photos.first(),
        method="toy",
        model="toy_sam",
        backend="toy_backend",
        out_field="mine",
        share=0.25,
    )
    assert run.counts["segmented"] == 3 and run.errors == {}
    assert masked(photos) == [(0.5, 0.0)] * 3
    record = run.record
    assert (record.method, record.model, record.backend) == ("toy", "toy_sam", "toy_backend")
    assert record.parameters.options == {"share": 0.25, "side": "auto"}
    assert record.parameters.presence_threshold == 0
    photos.first().set_field("mine", None)
    assert fp.resume_run(photos, "mine").state == "done"
    fp.delete_run(photos, "mine")


def test_a_threshold_of_the_run_serves_a_method_without_one(photos: fo.Dataset) -> None:
    """Toy's presence is one half; the engine compares it."""
    given = {"method": "toy", "model": "toy_sam"}
    run = fp.segment(photos, photos.first(), **given, out_field="mine", presence_threshold=0.6)
    assert run.counts["absent"] == 3 and masked(photos) == [(0.0, 0.0)] * 3
    run = fp.segment(photos, photos.first(), **given, out_field="all", presence_threshold=0.5)
    assert run.counts["absent"] == 0 and masked(photos, "all") == [(1.0, 0.0)] * 3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"share": 2}, "share 2 is out of range: give a number from 0.1 to 1"),
        ({"side": "top"}, "side 'top' is not known: use 'auto', 'left' or 'right'"),
        ({"mode": "reference"}, "'mode' is not an argument .* of toy: its options are share, side"),
        ({"method": "toyy"}, "method 'toyy' is not known: .*did you mean 'toy'"),
        ({"model": "toysam"}, "model 'toysam' is not known: .*did you mean 'toy_sam'"),
        ({"backend": "toy"}, "backend 'toy' is not known: .*toy_backend"),
        ({"reference": "dots"}, "Toy does not take a reference of kind 'points': "),
    ],
)
def test_what_is_refused(photos: fo.Dataset, changes: dict[str, object], says: str) -> None:
    sample = photos.first()
    sample["dots"] = fo.Keypoints(keypoints=[fo.Keypoint(points=[(0.3, 0.5)])])
    sample.save()
    field = {"label_field": changes.pop("reference", "ground_truth")}
    given = {"method": "toy", "model": "toy_sam", "out_field": "mine", **field, **changes}
    with pytest.raises(PersamError, match=says) as caught:
        fp.segment(photos, sample, **given)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    assert photos.list_runs() == [] and not photos.has_field("mine")


@pytest.mark.slow
def test_processes_of_other_devices_know_it(photos: fo.Dataset) -> None:
    run = fp.segment(
        photos,
        photos.first(),
        method="toy",
        model="toy_sam",
        backend=DevicesBackend(["cpu"]),
        out_field="mine",
    )
    assert run.errors == {} and masked(photos) == [(1.0, 0.0)] * 3


def test_the_command_line(photos: fo.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    photos.persistent = True
    call = ["segment", photos.name, "--reference", photos.first().id, "--model", "toy_sam"]
    call += ["--method", "toy", "--backend", "toy_backend", "--out-field", "mine"]
    assert main([*call, "--option", "side=right", "--option", "share=0.5"]) == 0
    assert masked(photos) == [(0.0, 1.0)] * 3
    for option, says in (
        ("side=top", "side 'top' is not known: use 'auto', 'left' or 'right'"),
        ("share=wide", "share 'wide' is out of range"),
        ("sides=left", "'sides' is not an option of toy: its options are share, side"),
        ("side", "--option side has no value"),
    ):
        assert main([*call[:-1], "other", "--option", option]) == 2
        assert says in capsys.readouterr().err
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    assert "toy: Toy, masks the half of the photo on which the object was; from a mask or" in listed
    assert "part of the width that is masked (a number from 0.1 to 1, default 0.5)" in listed
    assert "persam_f: PerSAM-F, learns from your mask" in listed
    assert "toy_sam" in (main(["models", "list"]), capsys.readouterr().out)[1]
    with pytest.raises(SystemExit):
        build_parser().parse_args(["segment", "x", "--method", "tay"])


def test_the_form(photos: fo.Dataset) -> None:
    link_plugin()
    chosen = {"reference": photos.first().id, "method": "toy", "model": "toy_sam", "more": True}
    form = Form(photos, "segment_from_reference", chosen | {"label_field": "ground_truth"})
    labels = {choice.value: choice.label for choice in form["method"].view.choices}
    assert list(labels)[:2] == ["persam_f", "persam"] and list(labels)[-1] == "toy"
    assert labels["toy"] == "Toy: masks the half of the photo on which the object was"
    assert "toy_sam" in form["model"].type.values
    assert "toy_backend" in form["backend"].type.values
    share = form["option_share"]
    assert (share.type.min, share.type.max, share.default) == (0.1, 1, 0.5)
    assert share.view.description == "Part of the width that is masked"
    assert form["option_side"].type.values == ["auto", "left", "right"]
    assert "option_mode" not in form  # that is another method's

    form = Form(photos, "segment_from_reference", {**form.params, "option_side": "right"})
    result, _ = form.execute()
    assert masked(photos, result["run"]) == [(0.0, 1.0)] * 3


def test_the_form_refuses_a_label_that_the_method_cannot_start_from(photos: fo.Dataset) -> None:
    link_plugin()
    sample = photos.first()
    sample["dots"] = fo.Keypoints(keypoints=[fo.Keypoint(points=[(0.3, 0.5)])])
    sample.save()
    chosen = {"reference": sample.id, "label_field": "dots", "model": "toy_sam", "scope": "one"}

    def errors(method: str) -> list[str]:
        given = chosen | {"method": method}
        return Form(photos, "segment_from_reference", given, selected=[sample.id]).errors

    (error,) = errors("toy")
    assert "Toy does not take a reference of kind 'points': give one of kind 'mask'" in error
    assert errors("persam") == []


def test_options_of_a_method_appear_only_for_it(photos: fo.Dataset) -> None:
    link_plugin()
    chosen = {"reference": photos.first().id, "label_field": "ground_truth", "more": True}
    form = Form(photos, "segment_from_reference", chosen)
    assert form["option_mode"].type.values == ["corrected", "reference"]
    assert "option_steps" in form and "option_share" not in form
    without = Form(photos, "segment_from_reference", chosen | {"more": False})
    assert "option_mode" not in without
    # What was typed for another method is left behind.
    form = Form(photos, "segment_from_reference", chosen | {"method": "toy", "option_steps": 3})
    assert "option_steps" not in form and form.errors == []


def test_the_zoo_s_model(photos: fo.Dataset) -> None:
    sam = fp.load_sam("toy_sam")
    photo = np.zeros((30, 40, 3), np.uint8)
    model = PersamModel(ToyMethod(sam, side="left").fit(fp.Reference(photo, box=(1, 1, 9, 9))))
    photos.apply_model(model, label_field="mine")
    assert masked(photos) == [(1.0, 0.0)] * 3


def test_a_text_is_refused_by_methods_that_take_none(photos: fo.Dataset) -> None:
    """Where no model is here that could find what it means."""
    with pytest.raises(CheckpointError, match="models download evf_sam") as caught:
        fp.segment(photos, fp.TextReference("the red disc"), method="persam", out_field="mine")
    assert "\n" not in str(caught.value) and not photos.has_field("mine")


def test_an_exporter_and_an_importer(
    photos: fo.Dataset, dataset: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run goes out in a format of another package, and comes in again by its layout."""
    fp.segment(photos, photos.first(), method="toy", model="toy_sam", out_field="mine")
    fo_ids = photos.values("id")
    set_review(photos, "mine", "accepted", fo_ids)
    link_plugin()
    assert "toy_list" in Form(photos, "export_masks", {"run": "mine"})["format"].type.values
    assert export_masks(photos, "mine", tmp_path / "out", format="toy_list") == 3
    names = sorted(Path(path).name for path in photos.values("filepath"))
    assert (tmp_path / "out" / "photos.txt").read_text().split() == names
    with pytest.raises(PersamError, match=r"unknown export format 'toy': .*toy_list"):
        export_masks(photos, "mine", tmp_path / "other", format="toy")

    listed = tmp_path / "listed"
    listed.mkdir()
    paths = photos.values("filepath")
    (listed / "photos.txt").write_text("\n".join(paths))
    assert main(["import", str(listed), "--layout", "toy_list", "--name", "toys-listed"]) == 0
    made = dataset(fo.load_dataset("toys-listed"))
    assert made.values("filepath") == paths
    assert "toys-listed: 3 photos" in capsys.readouterr().out
    with pytest.raises(PersamError, match="'objects' is not an option of an import"):
        import_folder(listed, "toys-again", "toy_list", objects=["cat"])
