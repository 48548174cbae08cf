"""Masked training sets out of a dataset: which photos, which masks, which captions."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.editing import make_editable
from fiftyone_persam.curation.runs.record import read_record, update_record
from fiftyone_persam.datasets import read_concept
from fiftyone_persam.datasets.training_layouts import TRAINING_LAYOUTS
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, SIZE, disc, ids_of, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    """Masks of "sure", "good" and "low_score" are accepted; "low_presence" is to be looked at."""
    album = reviewed_run(dataset, tmp_path / "album")
    album.set_values("object", ["cup", "cup", "cup", "cat", "cat", "cat", "cat"])
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good", "low_score"))
    return album


@pytest.fixture(scope="module")
def shared_album(tmp_path_factory) -> Iterator[fo.Dataset]:
    """The same with texts, for tests that only read it."""

    def make(samples: list[fo.Sample]) -> fo.Dataset:
        made = fo.Dataset()
        made.add_samples(samples)
        return made

    album = reviewed_run(make, tmp_path_factory.mktemp("album"))
    album.set_values("object", ["cup", "cup", "cup", "cat", "cat", "cat", "cat"])
    album.set_values("told", ["first,\n told", "second", "third", "", "", "", ""])
    album.set_values("seen", [fo.Classification(label="wood")] * 7)
    album.set_values("tags", [["new", "shiny"]] + [[]] * 6)
    album.add_sample_field("empty", fo.StringField)
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good", "low_score"))
    yield album
    album.delete()


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").open(encoding="utf-8")]


def texts(folder: Path) -> list[str]:
    return [record["text"] for record in records(folder)]


def names(folder: Path) -> list[str]:
    return [Path(record["file_name"]).stem for record in records(folder)]


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("layout", TRAINING_LAYOUTS)
def test_accepted_masks_of_a_run(album, tmp_path, layout):
    out = tmp_path / "out"
    exported = fp.export_dreambooth(album, RUN, out, layout=layout)
    assert exported == 3 and names(out) == ["sure", "good", "low_score"]
    for entry, name in zip(read_concept(out), names(out), strict=True):
        sample = album[ids_of(album, name)[0]]
        image, mask = entry.load()
        assert np.array_equal(image, np.asarray(Image.open(sample.filepath)))
        assert np.array_equal(mask, np.where(sample[RUN].get_mask() > 0, 255, 0))
    for record in records(out):
        assert record["score"] == album[record["sample_id"]]["mine_score"]
        assert record["presence"] == album[record["sample_id"]]["mine_presence"]


def test_what_is_left_out_is_said(album, tmp_path):
    out = tmp_path / "out"
    exported = fp.export_dreambooth(album, RUN, out, min_score=0.5)
    assert exported == 2 and names(out) == ["sure", "good"]
    absent, failed, low = (album[i].id for i in ids_of(album, "absent", "failed", "low_score"))
    told = {one["sample_id"]: one["reason"] for one in manifest(out)["left_out"]}
    assert told == {
        low: "low_score.png: score 0.30, below 0.5",
        absent: "absent.png: object absent (presence 0.10)",
        failed: "failed.png: not segmented, see mine_error",
    }
    assert sorted(exported.left_out) == sorted(told.values())


def test_masks_that_nobody_has_looked_at_on_request(album, tmp_path):
    set_review(album, RUN, "rejected", ids_of(album, "good"))
    fp.export_dreambooth(album, RUN, tmp_path / "out", only_accepted=False)
    assert names(tmp_path / "out") == ["sure", "low_score", "low_presence"]


def test_an_accepted_mask_that_is_empty_shows_no_object(album, tmp_path):
    sample = album[ids_of(album, "good")[0]]
    Image.new("L", SIZE[::-1]).save(sample[RUN].mask_path)
    exported = fp.export_dreambooth(album, RUN, tmp_path / "out")
    assert exported == 2 and "good.png: object absent" in exported.left_out


def test_the_view_is_honoured(album, tmp_path):
    fp.export_dreambooth(album.match(F("photo") == "good"), RUN, tmp_path / "run")
    assert names(tmp_path / "run") == ["good"]
    fp.export_dreambooth(album.limit(2), "ground_truth", tmp_path / "labels")
    assert names(tmp_path / "labels") == ["sure", "good"]
    few = album.limit(2).select_fields()
    assert not few.has_field("ground_truth") and not few.has_field(RUN)
    for source in ("ground_truth", RUN):
        fp.export_dreambooth(few, source, tmp_path / f"few {source}")
        assert names(tmp_path / f"few {source}") == ["sure", "good"]


def test_manifest_says_how_it_was_made(album, tmp_path):
    fp.export_dreambooth(album, RUN, tmp_path / "out", crop="square", resolution=32, dilate=2)
    told = manifest(tmp_path / "out")
    assert (told["dataset"], told["photos"]) == (album.name, 3)
    run = told["run"]
    assert (run["name"], run["method"], run["model"]) == (RUN, "persam_f", "sam_lite")
    assert run["parameters"]["presence_threshold"] == 0.4
    assert run["references"][0]["sample_id"] == album.first().id
    asked = {"crop": "square", "resolution": 32, "dilate": 2, "background": "keep", "feather": 0}
    assert asked.items() <= told["export"].items()
    assert str(tmp_path) not in (tmp_path / "out" / "manifest.json").read_text()


def test_corrections_by_hand_are_taken(album, tmp_path):
    field = make_editable(album, RUN, ids_of(album, "sure"))
    corrected = disc(45, 12, 6)
    sample = album[ids_of(album, "sure")[0]]
    sample[field] = fo.Detections(detections=[fo.Detection.from_mask(corrected, label="cup")])
    sample.save()
    fp.export_dreambooth(album, RUN, tmp_path / "out")
    _, mask = read_concept(tmp_path / "out")[0].load()
    assert np.array_equal(mask > 0, corrected)


# --- labels -----------------------------------------------------------------------------------


@pytest.fixture
def labelled(album) -> fo.Dataset:
    """The first three photos have a mug of falling confidence; the first has a spoon as well."""
    for sample, confidence in zip(album.limit(3), (0.9, 0.6, 0.3), strict=True):
        mug = fo.Detection.from_mask(disc(20, 20), label="mug", confidence=confidence)
        spoon = fo.Detection.from_mask(disc(45, 20, 5), label="spoon", confidence=0.5)
        first = sample.photo == "sure"
        sample["things"] = fo.Detections(detections=[mug, spoon] if first else [mug])
        sample.save()
    return album


def test_labels_of_a_field(labelled, tmp_path):
    exported = fp.export_dreambooth(labelled, "things", tmp_path / "out")
    assert exported == 3 and len(exported.left_out) == 4
    assert all(reason.endswith("object absent") for reason in exported.left_out)
    assert texts(tmp_path / "out") == ["a photo of sks mug, spoon"] + ["a photo of sks mug"] * 2
    _, mask = read_concept(tmp_path / "out")[0].load()
    assert np.array_equal(mask > 0, disc(20, 20) | disc(45, 20, 5))
    assert manifest(tmp_path / "out")["run"] is None


def test_labels_that_the_view_hides_are_left_out(labelled, tmp_path):
    view = labelled.filter_labels("things", F("label") == "mug")
    fp.export_dreambooth(view, "things", tmp_path / "out")
    assert texts(tmp_path / "out") == ["a photo of sks mug"] * 3
    _, mask = read_concept(tmp_path / "out")[0].load()
    assert np.array_equal(mask > 0, disc(20, 20))


def test_labels_of_low_confidence_are_left_out(labelled, tmp_path):
    exported = fp.export_dreambooth(labelled, "things", tmp_path / "out", min_score=0.55)
    assert names(tmp_path / "out") == ["sure", "good"]
    assert texts(tmp_path / "out") == ["a photo of sks mug"] * 2
    assert "low_score.png: score below 0.55" in exported.left_out
    with pytest.raises(PersamError, match="confidence"):
        fp.export_dreambooth(labelled, "ground_truth", tmp_path / "gt", min_score=0.5)


def test_every_patch_is_a_photo(labelled, tmp_path):
    patches = labelled.to_patches("things")
    fp.export_dreambooth(patches, "things", tmp_path / "out", crop="box", padding=0)
    assert sorted(names(tmp_path / "out")) == ["good", "low_score", "sure", "sure-2"]
    assert sorted(texts(tmp_path / "out"))[-1] == "a photo of sks spoon"
    sizes = sorted(Image.open(p).size for p in (tmp_path / "out" / "images").iterdir())
    assert sizes == [(11, 11), (21, 21), (21, 21), (21, 21)]


def test_patches_of_photos_of_a_run(labelled, tmp_path):
    fp.export_dreambooth(labelled.limit(2).to_patches("things"), RUN, tmp_path / "out")
    assert names(tmp_path / "out") == ["sure", "good"]


def test_grouped_views_are_flattened(labelled, tmp_path):
    fp.export_dreambooth(labelled.group_by("object"), RUN, tmp_path / "run")
    assert len(names(tmp_path / "run")) == 3
    fp.export_dreambooth(labelled.group_by("object"), "things", tmp_path / "out")
    assert len(names(tmp_path / "out")) == 3


@pytest.mark.parametrize("source", ["ground_truth", RUN])
def test_all_slices_of_grouped_datasets(dataset, tmp_path, source):
    album = reviewed_run(dataset, tmp_path / "album", grouped=True)
    options = {"only_accepted": False, "caption": "{photo}"}
    exported = fp.export_dreambooth(album, source, tmp_path / "out", **options)
    assert exported == {"ground_truth": 7, RUN: 4}[source]
    assert {"sure", "good"} <= set(texts(tmp_path / "out"))  # of the left slice and of the right


# --- captions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("caption", "options", "expected"),
    [
        ("a photo of sks {label}", {}, ["a photo of sks object"] * 3),
        ("a photo of sks {label}", {"label": "mug"}, ["a photo of sks mug"] * 3),
        ("my {object}", {}, ["my cup"] * 3),
        ("told", {}, ["first, told", "second", "third"]),
        ("{label}, {tags}", {}, ["object, new, shiny", "object,", "object,"]),
        ("{seen.label} in {photo}", {}, ["wood in sure", "wood in good", "wood in low_score"]),
        ("{seen}", {}, ["wood"] * 3),
        ("mine", {}, ["mine"] * 3),  # a field of masks says nothing: this is a text
        ("  one\n text {{kept}}", {}, ["one text {kept}"] * 3),
    ],
)
def test_captions(shared_album, tmp_path, caption, options, expected):
    fp.export_dreambooth(shared_album, RUN, tmp_path / "out", caption=caption, **options)
    assert texts(tmp_path / "out") == expected


def test_the_object_s_name_is_the_group_s_or_the_reference_s(album, tmp_path):
    record = read_record(album, RUN)
    (one,) = record.references
    update_record(
        album,
        RUN,
        parameters=replace(record.parameters, group_by="object"),
        references=(replace(one, group="cup", name="mug"), replace(one, group="cat")),
    )
    set_review(album, RUN, "accepted", ids_of(album, "low_presence"))
    fp.export_dreambooth(album, RUN, tmp_path / "out")
    said = dict(zip(names(tmp_path / "out"), texts(tmp_path / "out"), strict=True))
    assert said["sure"] == "a photo of sks mug"
    assert said["low_presence"] == "a photo of sks cat"


# --- photos -----------------------------------------------------------------------------------


def test_turned_photos_are_upright_before_they_are_cropped(dataset, tmp_path):
    upright = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    photo = Image.fromarray(np.rot90(upright))  # stored lying on its side: 60 x 40
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.save(tmp_path / "turned.png", exif=exif)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:15, 40:58] = 255
    sample = fo.Sample(str(tmp_path / "turned.png"), mask=fo.Segmentation(mask=mask))
    fp.export_dreambooth(dataset([sample]), "mask", tmp_path / "out", crop="box", padding=0)
    image, weights = read_concept(tmp_path / "out")[0].load()
    assert np.array_equal(image, upright[5:15, 40:58])
    assert (weights == 255).all()
    written = Image.open(next((tmp_path / "out" / "images").iterdir()))
    assert written.getexif().get(0x0112, 1) == 1


def test_faulty_photos_and_masks_are_left_out_by_name(album, tmp_path):
    good, low = (album[i] for i in ids_of(album, "good", "low_score"))
    Path(good.filepath).write_bytes(b"not a photo")
    Path(low[RUN].mask_path).unlink()
    exported = fp.export_dreambooth(album, RUN, tmp_path / "out")
    assert exported == 1 and names(tmp_path / "out") == ["sure"]
    reasons = {one["sample_id"]: one["reason"] for one in manifest(tmp_path / "out")["left_out"]}
    assert "good.png" in reasons[good.id] and low.id in reasons
    assert all("\n" not in reason for reason in exported.left_out)


# --- folders ----------------------------------------------------------------------------------


def test_an_earlier_set_is_replaced_and_nothing_else(album, tmp_path):
    out = tmp_path / "out"
    fp.export_dreambooth(album, RUN, out, layout="kohya")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(PersamError, match="not empty"):
        fp.export_dreambooth(album, RUN, out)
    fp.export_dreambooth(album.limit(1), RUN, out, layout="onetrainer", overwrite=True)
    visible = sorted(str(p.relative_to(out)) for p in out.rglob("[!.]*") if p.is_file())
    assert visible == [
        "concepts.json", "images/sure-masklabel.png", "images/sure.png", "images/sure.txt",
        "manifest.json", "metadata.jsonl", "notes.txt",
    ]  # fmt: skip
    (tmp_path / "novel").mkdir()
    (tmp_path / "novel" / "chapter.txt").write_text("one")
    with pytest.raises(PersamError, match="earlier export"):
        fp.export_dreambooth(album, RUN, tmp_path / "novel", overwrite=True)
    assert [p.name for p in (tmp_path / "novel").iterdir()] == ["chapter.txt"]


@pytest.mark.parametrize("layout", ["kohya", "onetrainer"])
def test_trainers_are_told_the_final_folder(album, tmp_path, layout, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fp.export_dreambooth(album, RUN, "out", layout=layout)
    index = tmp_path / "out" / ("dataset.toml" if layout == "kohya" else "concepts.json")
    assert json.dumps(str(tmp_path / "out" / "images")) in index.read_text()


def test_an_export_that_cannot_be_written_leaves_nothing(album, tmp_path, monkeypatch):
    """A full disk names the folder, not a photo."""
    from fiftyone_persam.datasets import concept_layouts

    written = concept_layouts._write_text

    def full(path: Path, text: str) -> None:
        if path.name == "good.txt":
            raise OSError(28, os.strerror(28))
        written(path, text)

    monkeypatch.setattr(concept_layouts, "_write_text", full)
    with pytest.raises(PersamError, match="out cannot be written") as raised:
        fp.export_dreambooth(album, RUN, tmp_path / "out", layout="kohya")
    assert "good" not in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["album"]


@pytest.mark.parametrize(
    ("source", "options", "named"),
    [
        ("other", {}, "no run and no field 'other'"),
        ("photo", {}, "holds no masks"),
        (7, {}, "no run and no field 7"),
        (RUN, {"layout": "lycoris"}, "diffusers, kohya, onetrainer, rgba"),
        (RUN, {"crop": "round"}, "none, square, box"),
        (RUN, {"background": "pink"}, "keep, white, gray, blur"),
        (RUN, {"resolution": -1}, "resolution -1"),
        (RUN, {"min_score": 2}, "min_score 2"),
        (RUN, {"min_score": "high"}, "min_score 'high'"),
        (RUN, {"min_score": 0.99}, "the first: low_score.png|the first: sure.png"),
        (RUN, {"only_accepted": "no"}, "only_accepted 'no'"),
        (RUN, {"label": " "}, "label"),
        (RUN, {"caption": ""}, "caption ''"),
        (RUN, {"caption": 7}, "caption 7"),
        (RUN, {"caption": "a {colour} cup"}, "'colour'"),
        (RUN, {"caption": "a {label.__class__}"}, "__class__"),
        (RUN, {"caption": "a {label!r}"}, "'label'"),
        (RUN, {"caption": "a {"}, "not a template"),
        (RUN, {"caption": "a {mine}"}, "'mine'"),
        (RUN, {"caption": "a {}"}, "names nothing|names 'nothing'"),
        (RUN, {"caption": "{empty}"}, "3 photos have nothing in 'empty'"),
        (RUN, {"progress": 3}, "progress 3"),
    ],
)
def test_bad_calls_make_no_folder(shared_album, tmp_path, source, options, named):
    with pytest.raises(PersamError, match=named) as raised:
        fp.export_dreambooth(shared_album, source, tmp_path / "out", **options)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_accepted_says_what_to_do(album, tmp_path):
    set_review(album, RUN, "rejected", ids_of(album, "sure", "good", "low_score"))
    with pytest.raises(PersamError, match="accept masks in review first"):
        fp.export_dreambooth(album, RUN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_is_told(album, tmp_path):
    told = []
    fp.export_dreambooth(
        album, RUN, tmp_path / "out", progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_hook_that_raises_ends_the_export_with_its_own_error(album, tmp_path):
    def hook(done, total):
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        fp.export_dreambooth(album, RUN, tmp_path / "out", progress=hook)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["album"]


def test_files_that_a_dataset_names_are_never_replaced(album, tmp_path, dataset):
    out = tmp_path / "out"
    fp.export_dreambooth(album, RUN, out)
    again = dataset(fo.Dataset.from_images_dir(str(out / "images")))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(PersamError, match=r"3 files of the earlier export .* belong to a dataset"):
        fp.export_dreambooth(album.limit(1), RUN, out, overwrite=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    again.delete()
    assert fp.export_dreambooth(album.limit(1), RUN, out, overwrite=True) == 1


def test_the_photos_own_folder_is_refused(album, tmp_path):
    photos = Path(album.first().filepath).parent
    before = {path: path.read_bytes() for path in photos.iterdir()}
    for overwrite in (False, True):
        with pytest.raises(PersamError, match=r"not empty|earlier export"):
            fp.export_dreambooth(album, RUN, photos, overwrite=overwrite)
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
