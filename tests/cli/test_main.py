"""What the commands do to photos and runs."""

from __future__ import annotations

import re
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation import set_review

from ..curation.discs import Make
from .commands import NAME, Call, reference_of


def test_the_whole_job(run: Call, album: Path, dataset: Make, tmp_path: Path) -> None:
    code, out, _ = run("import", album, "--name", NAME, "--object", "cat", "--object", "cup")
    assert code == 0 and f"{NAME}: 6 photos of 2 objects (cat, cup)" in out
    photos = dataset(fo.load_dataset(NAME))
    assert photos.persistent
    photos.match(fo.ViewField("role") == "reference").tag_samples("show")

    code, out, _ = run(
        *("segment", NAME, "--reference-tag", "show", "--group-by", "object"),
        *("--method", "persam", "--out-field", "mine", "--label-type", "both"),
        *("--similarity", "--prompts", "--mask-storage", "file", "--masks-dir", tmp_path / "m"),
        *("--option", "presence_threshold=0", "--device", "cpu", "--batch-size", "2"),
        *("--cache", tmp_path / "cache", "--mode", "reference", "--dtype", "bfloat16"),
        *("--compile", "off"),
    )
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) == 6
    assert code == 0
    made = fp.load_run(photos, "mine")
    assert made.summary() in out and made.counts["segmented"] == 6
    assert (made.config.parameters["options"]["mode"], made.config.dtype) == (
        "reference",
        "bfloat16",
    )
    assert made.config.method == "persam" and made.config.parameters["group_by"] == "object"
    assert {Path(path).parent for path in photos.values("mine.mask_path")} == {tmp_path / "m"}
    assert len(photos.exists("mine_similarity")) == len(photos.exists("mine_prompts")) == 6

    code, out, _ = run("evaluate", NAME, "mine", "--eval-key", "key", "--group-by", "object")
    assert code == 0
    scores = photos.load_evaluation_results("key").scores
    row = scores.objects[0]
    numbers = [f"{100 * n:.1f}" for n in (row.iou, row.boundary_iou, row.accuracy)]
    assert [row.name, "2", *numbers] in [line.split() for line in out.splitlines()]

    set_review(photos, "mine", "accepted", photos.values("id")[:4])
    code, out, _ = run("export", NAME, "mine", tmp_path / "out", "--group-by", "object")
    assert code == 0 and out.startswith("4 photos and masks are in")
    masks = sorted((tmp_path / "out" / "Annotations").rglob("*.png"))
    assert len(masks) == 4 and all(np.asarray(Image.open(path)).any() for path in masks)

    code, out, _ = run(
        *("export-dreambooth", NAME, "mine", tmp_path / "set", "--layout", "kohya"),
        *("--crop", "square", "--resolution", "64", "--dilate", "2", "--not-only-accepted"),
        *("--caption", "a photo of sks {label}", "--background", "white", "--tag", "show"),
    )
    assert code == 0 and out.startswith("2 photos with masks and captions are in")
    texts = sorted(path.read_text() for path in (tmp_path / "set" / "images").glob("*.txt"))
    assert texts == ["a photo of sks cat\n", "a photo of sks cup\n"]
    sizes = {Image.open(path).size for path in (tmp_path / "set").rglob("*.png")}
    assert sizes == {(64, 64)}


def test_demo(
    run: Call, album: Path, dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PERSEG_DIR", str(album))
    code, out, _ = run("demo", "--out", tmp_path / "out")
    made = dataset(fo.load_dataset("persam-demo"))
    assert code == 0 and made.persistent
    assert [r.name for r in fp.list_runs(made)] == ["persam", "persam_f"]
    for expected in (str(album), "PerSAM-F: 6 photos", "published (ViT-H)", "make app"):
        assert expected in out
    assert str(tmp_path / "out" / "demo.jpg") in out
    assert Image.open(tmp_path / "out" / "demo.jpg").format == "JPEG"


def test_views_tags_and_labels(run: Call, photos: fo.Dataset) -> None:
    sample = photos[reference_of(photos, "cat")]
    mask = sample.ground_truth.get_mask() > 0
    sample["boxes"] = fo.Detections(
        detections=[
            fo.Detection.from_mask(mask, label="cat"),
            fo.Detection(label="other", bounding_box=[0, 0, 0.2, 0.2]),
        ]
    )
    sample.save()
    photos.save_view("cats", photos.match(fo.ViewField("object") == "cat"))
    photos.load_saved_view("cats").limit(2).tag_samples("todo")
    code, out, err = run(
        *("segment", NAME, "--reference", sample.id, "--label-field", "boxes"),
        *("--label-id", sample.boxes.detections[0].id, "--view", "cats", "--tag", "todo"),
        *("--method", "persam"),
    )
    assert code == 0, err
    assert "2 segmented" in out
    made = fp.load_run(photos, "persam")
    assert made.config.references[0]["label_id"] == sample.boxes.detections[0].id
    assert sorted(made.ids()) == sorted(photos.match_tags("todo").values("id"))
    code, out, _ = run("evaluate", NAME, "persam", "--view", "cats", "--include-references")
    assert code == 0 and re.search(r"mean over photos +3 ", out)
    code, out, _ = run(
        *("segment", NAME, "--reference", sample.id, "--view", "cats", "--method", "persam"),
        "--skip-existing",
    )
    assert code == 0 and fp.load_run(photos, "persam").counts["segmented"] == 3


def test_several_objects_and_what_they_are_not(run: Call, photos: fo.Dataset) -> None:
    cat, cup = (photos.match({"object": name}).first().id for name in ("cat", "cup"))
    photos.select([cat, cup]).tag_samples("both")
    words = ("segment", NAME, "--tag", "both", "--method", "persam")
    objects = ("--object", f"cat={cat}", "--object", f"cup={cup}", "--out-field", "two")
    code, out, _ = run(*words, *objects)
    assert code == 0 and "2 photos of 2 objects" in out
    assert fp.load_run(photos, "two").record.parameters.objects == ["cat", "cup"]
    negative = ("--reference", cat, "--negative", cup, "--ignore-rejected", "--out-field", "one")
    code, _, _ = run(*words, *negative)
    record = fp.load_run(photos, "one").record
    assert code == 0 and [one.sample_id for one in record.negatives] == [cup]
    assert record.parameters.use_rejected is False


def test_runs(run: Call, photos: fo.Dataset) -> None:
    assert run("runs", "list", NAME)[1] == f"dataset '{NAME}' has no runs\n"
    fields = set(photos.get_field_schema())
    cat = reference_of(photos, "cat")
    assert run("segment", NAME, "--reference", cat, "--method", "persam")[0] == 0
    code, out, _ = run("runs", "list", NAME)
    assert code == 0 and out.splitlines() == [out.rstrip()]
    assert re.match(r"persam +\d{4}-\d\d-\d\d \d\d:\d\d +done +persam with sam_lite", out)
    assert run("runs", "show", NAME, "persam")[1] == fp.load_run(photos, "persam").summary() + "\n"
    assert run("runs", "rename", NAME, "persam", "first")[0] == 0
    assert [r.name for r in fp.list_runs(photos)] == ["first"]

    photos.limit(2).clear_sample_field("first")  # as if it had been stopped before these
    code, out, _ = run("runs", "resume", NAME, "first", "--device", "cpu")
    assert code == 0 and "6 segmented" in out
    assert len(photos.exists("first")) == 6

    photos.delete_run("first")  # FiftyOne's own call takes the record alone
    assert fp.list_runs(photos) == []
    assert "first" in run("runs", "adopt", NAME, "first")[1]
    assert [r.name for r in fp.list_runs(photos)] == ["first"]

    assert run("runs", "delete", NAME, "first")[0] == 0
    assert fp.list_runs(photos) == [] and set(photos.get_field_schema()) == fields


def test_every_photo_bad(run: Call, photos: fo.Dataset, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    bad = photos.add_sample(fo.Sample(str(tmp_path / "empty.jpg"), tags=["bad"]))
    code, out, _ = run("segment", NAME, "--tag", "bad", "--reference", reference_of(photos, "cup"))
    assert code == 1 and bad in out and "1 failed" in out


def test_stopping_a_run(run: Call, photos: fo.Dataset) -> None:
    assert run("runs", "stop", NAME, "persam")[0] == 2
    assert run("segment", NAME, "--reference", reference_of(photos, "cat"))[0] == 0
    code, _, err = run("runs", "stop", NAME, "persam")
    assert code == 1 and "nothing to stop" in err
