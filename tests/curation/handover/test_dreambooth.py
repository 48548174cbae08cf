"""Masked training sets out of a run: which photos, which masks, which captions."""

from __future__ import annotations

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

from ..reviewed_run import RUN, SIZE, disc, ids_of
from .training_sets import accepted_album, album_with_texts, manifest, names, records, texts


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    """Masks of "sure", "good" and "low_score" are accepted; "low_presence" is to be looked at."""
    return accepted_album(dataset, tmp_path / "album", "sure", "good", "low_score")


@pytest.fixture(scope="module")
def shared_album(tmp_path_factory) -> Iterator[fo.Dataset]:
    """The same with texts, for tests that only read it."""
    album = album_with_texts(tmp_path_factory.mktemp("album"))
    yield album
    album.delete()


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
