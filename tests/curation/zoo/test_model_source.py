"""The model source, through FiftyOne's own zoo: registered from an archive, loaded, applied."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.zoo as foz
import numpy as np
import pytest
from fiftyone.operators.executor import ExecutionContext, Executor

import fiftyone_persam as fp
from fiftyone_persam.curation.handover.importing import import_perseg
from fiftyone_persam.curation.zoo import model as source
from fiftyone_persam.curation.zoo.manifest import manifest_text
from fiftyone_persam.curation.zoo.persam_model import PersamModel, provide_checkpoint
from fiftyone_persam.personalize import METHODS
from fiftyone_persam.sam.registry import BUNDLED_PATH, CHECKPOINTS

MODEL = "fiftyone-persam/sam_lite"
MakeDataset = Callable[..., fo.Dataset]


@pytest.fixture
def registered(repository_url: str) -> Iterator[str]:
    foz.register_zoo_model_source(repository_url, overwrite=True)
    yield repository_url
    foz.delete_zoo_model_source(repository_url)


@pytest.fixture
def cats(album: Path, dataset: MakeDataset) -> fo.Dataset:
    return dataset(import_perseg(album, "zoo-cats", objects=["cat"], progress=False))


def reference_of(cats: fo.Dataset) -> fo.Sample:
    return cats.match(fo.ViewField("role") == "reference").first()


def load(url: str, **options: Any) -> PersamModel:
    return foz.load_zoo_model(url, model_name=MODEL, device="cpu", **options)


def test_source_lists_every_model(registered: str) -> None:
    names = [info.name for info in fp.list_models()]
    assert foz.list_zoo_models(source=registered) == sorted(f"fiftyone-persam/{n}" for n in names)
    # Nothing but the two files of the source was copied.
    folder = Path(fo.config.model_zoo_dir) / "fiftyone-persam"
    assert {path.name for path in folder.iterdir()} == {"manifest.json", "__init__.py"}


def test_manifest_is_what_the_registries_say() -> None:
    """If this fails: python -m fiftyone_persam.curation.zoo.manifest."""
    written = Path(source.__file__).with_name("manifest.json").read_text()
    assert written == manifest_text()
    by_name = {entry["base_name"]: entry for entry in json.loads(written)["models"]}
    assert by_name["fiftyone-persam/sam_lite"]["base_filename"] == BUNDLED_PATH.name
    for name, file in CHECKPOINTS.items():
        entry = by_name[f"fiftyone-persam/{name}"]
        assert (entry["base_filename"], entry["size_bytes"]) == (file.file, file.bytes)


def test_the_form_offers_the_methods_there_are(cats: fo.Dataset) -> None:
    class Context:
        selected = ()
        dataset = cats

    form = source.resolve_input(MODEL, Context()).type.properties["method"]
    offered = [info for info in fp.list_methods() if not info.needs_text]
    assert {info.name for info in offered} == set(METHODS) - {"evf_sam"}
    assert form.type.values == [info.name for info in offered] and form.default == "persam_f"
    assert [choice.label for choice in form.view.choices] == [info.title for info in offered]


def test_applied_model_gives_the_masks_of_a_run(registered: str, cats: fo.Dataset) -> None:
    reference = reference_of(cats)
    model = load(registered, reference=reference, method="persam")
    assert isinstance(model, PersamModel)
    cats.apply_model(model, label_field="mine", batch_size=2)
    fp.segment(cats, reference, method="persam", out_field="run", mask_storage="inline")
    cats.reload()
    for sample in cats:
        run, mine = sample["run"].get_mask(), sample["mine"]
        assert set(np.unique(mine.mask)) <= {0, 255}
        assert mine.mask.shape == run.shape
        assert ((mine.mask > 0) == (run > 0)).mean() > 0.999
        assert mine["score"] == pytest.approx(sample["run_score"], abs=1e-3)
        assert mine["presence"] == pytest.approx(sample["run_presence"], abs=1e-3)
    assert foz.find_zoo_model(MODEL)
    assert MODEL in foz.list_downloaded_zoo_models()


def test_detections_carry_name_score_and_box(registered: str, cats: fo.Dataset) -> None:
    for sample in cats:
        mask = sample["ground_truth"].get_mask()
        sample["boxes"] = fo.Detections(detections=[fo.Detection.from_mask(mask, label="Minka")])
        sample.save()
    reference = reference_of(cats)
    label = reference["boxes"].detections[0]
    model = load(
        registered, reference=(reference, label.id), label_field="boxes", label_type="detections"
    )
    cats.apply_model(model, label_field="found")
    cats.apply_model(model, label_field="sure", confidence_thresh=1.5)
    for sample in cats:
        [found] = sample["found"].detections
        assert found.label == "Minka"
        assert 0.2 < found.confidence <= 1.2
        height, width = sample["ground_truth"].get_mask().shape[:2]
        assert found.mask.shape == (
            round(found.bounding_box[3] * height),
            round(found.bounding_box[2] * width),
        )
        assert sample["sure"].detections == []


@pytest.mark.parametrize("workers", [0, 2])
def test_a_bad_photo_costs_only_itself(
    registered: str, cats: fo.Dataset, tmp_path: Path, workers: int
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    bad = fo.Sample(filepath=str(broken))
    cats.add_sample(bad)
    model = load(registered, reference=reference_of(cats))
    cats.apply_model(model, label_field="mine", batch_size=4, num_workers=workers)
    assert cats.exists("mine").values("id") == [s.id for s in cats if s.id != bad.id]
    assert list(model.errors) == [bad.id]
    assert "broken.jpg" in model.errors[bad.id]


def test_masks_go_to_files_where_asked(registered: str, cats: fo.Dataset, tmp_path: Path) -> None:
    model = load(registered, reference=reference_of(cats))
    cats.apply_model(model, label_field="mine", output_dir=str(tmp_path / "masks"))
    for label in cats.values("mine"):
        assert label.mask is None
        assert Path(label.mask_path).parent == tmp_path / "masks"
        assert label.get_mask().max() in (0, 255)


@pytest.mark.parametrize("kind", ["segmentation", "detection"])
def test_a_corrected_reference_is_learned_anew(
    registered: str, cats: fo.Dataset, kind: str
) -> None:
    """FiftyOne hands out the model it has for an equal request: it must not be a stale one."""
    sample = reference_of(cats)
    mask = sample["ground_truth"].get_mask()
    half = mask.copy()
    half[mask.shape[0] // 2 :] = 0
    assert 0 < half.sum() < mask.sum()
    wanted: Any = sample.id
    if kind == "segmentation":
        sample["shape"] = fo.Segmentation(mask=mask.copy())
    else:
        sample["shape"] = fo.Detections(detections=[fo.Detection.from_mask(mask, label="cat")])
        wanted = (sample.id, sample["shape"].detections[0].id)
    sample.save()
    arguments = {"reference": wanted, "dataset": cats.name, "label_field": "shape"}
    model = load(registered, method="persam", **arguments)
    cats.apply_model(model, label_field="before")
    old = model.predictor.state.targets.clone()

    if kind == "segmentation":
        sample["shape"].mask = half
    else:
        corrected = fo.Detection.from_mask(half, label="cat")
        sample["shape"].detections[0].mask = corrected.mask
        sample["shape"].detections[0].bounding_box = corrected.bounding_box
    cats.apply_model(model, label_field="unsaved")
    assert np.allclose(old, model.predictor.state.targets)
    sample.save()
    again = load(registered, method="persam", **arguments)
    assert again is model
    cats.apply_model(again, label_field="after")
    assert not np.allclose(old, again.predictor.state.targets)

    # Without its sample it keeps what it has learned.
    kept = again.predictor.state.targets.clone()
    cats.delete_samples([sample.id])
    cats.apply_model(again, label_field="later")
    assert np.allclose(kept, again.predictor.state.targets)
    assert len(cats.exists("later")) == len(cats)


def test_a_predictor_fitted_on_arrays_is_a_model_too(cats: fo.Dataset) -> None:
    reference = reference_of(cats)
    photo = fp.Reference(reference.filepath, mask=reference["ground_truth"].get_mask())
    model = PersamModel(fp.PerSAM(fp.load_sam("sam_lite", device="cpu")).fit(photo))
    label = model.predict(photo.photo)
    assert label.mask.shape == photo.size
    cats.apply_model(model, label_field="mine")
    assert len(cats.exists("mine")) == len(cats)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "no reference was given"),
        ({"reference": "id of a sample"}, "a sample id needs its dataset"),
        ({"reference": [("5f", "6e")]}, "a sample id needs its dataset"),
        ({"reference": "5f", "dataset": "nowhere"}, "there is no dataset 'nowhere'"),
        ({"reference": "sample", "label_field": "labels"}, "labels"),
        ({"reference": "sample", "method": "persam_x"}, "method 'persam_x' is not known"),
        ({"reference": "sample", "label_type": "boxes"}, "label_type 'boxes' is not known"),
        ({"reference": "sample", "scale_tunning": False}, "'scale_tunning' is no"),
        ({"reference": "sample", "presence_threshold": 2}, "presence_threshold 2"),
        ({"reference": "sample", "mask_value": 7}, "7"),
        ({"reference": "arrays"}, "pass a sample"),
    ],
)
def test_bad_requests_are_one_line(
    registered: str, cats: fo.Dataset, options: dict[str, Any], message: str
) -> None:
    sample = reference_of(cats)
    if options.get("reference") == "sample":
        options = {**options, "reference": sample}
    elif options.get("reference") == "arrays":
        mask = sample["ground_truth"].get_mask()
        options = {"reference": fp.Reference(sample.filepath, mask=mask)}
    with pytest.raises(fp.PersamError) as refused:
        load(registered, **options)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_checkpoint_is_linked_and_linked_again(tmp_path: Path) -> None:
    path = tmp_path / "zoo" / "sam_lite.safetensors"
    for _ in range(2):
        provide_checkpoint("sam_lite", path)
        assert path.samefile(BUNDLED_PATH)
    with pytest.raises(fp.PersamError, match="model 'sam_huge' is not known"):
        provide_checkpoint("sam_huge", tmp_path / "x")


def test_a_damaged_checkpoint_is_not_linked(tmp_path: Path) -> None:
    damaged = CHECKPOINTS["mobile_sam"].path
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_bytes(b"half a file")
    try:
        with pytest.raises(fp.CheckpointError, match=r"mobile_sam\.pt"):
            provide_checkpoint("mobile_sam", tmp_path / "mobile_sam.pt")
    finally:
        damaged.unlink()
    assert not (tmp_path / "mobile_sam.pt").exists()


def test_the_apps_form_leads_to_a_model(registered: str, cats: fo.Dataset) -> None:
    reference = reference_of(cats)
    request = {"dataset_name": cats.name, "selected": [reference.id], "params": {}}
    ctx = ExecutionContext(request, executor=Executor(), operator_uri="@voxel51/zoo/apply")
    zoo_model = foz.get_zoo_model(MODEL)
    form = zoo_model.resolve_input(ctx).type.to_json()["properties"]
    params = {name: field["default"] for name, field in form.items()}
    assert params == {
        "reference": reference.id,
        "label_field": "ground_truth",
        "method": "persam_f",
        "label_type": "segmentation",
    }
    zoo_model.parse_parameters(ctx, params)
    model = foz.load_zoo_model(MODEL, device="cpu", **params)
    assert model.references[0].sample_id == reference.id


def test_the_library_is_found_inside_the_downloaded_plugin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "fiftyone_persam", None)  # as if it were not installed
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(fo.config, "plugins_dir", str(tmp_path))
    with pytest.raises(ImportError, match="install it with pip"):
        source._find_library()
    plugin = tmp_path / "@fiftyone-persam" / "persam"
    (plugin / "fiftyone_persam").mkdir(parents=True)
    source._find_library()
    assert sys.path[-1] == str(plugin)
    shutil.rmtree(tmp_path)
