"""Masked training sets out of a field of labels, and out of patches and grouped views."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest
from fiftyone import ViewField as F
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.datasets import read_concept
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, disc, reviewed_run
from .training_sets import accepted_album, manifest, names, texts


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    """Masks of "sure", "good" and "low_score" are accepted; "low_presence" is to be looked at."""
    return accepted_album(dataset, tmp_path / "album", "sure", "good", "low_score")


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
