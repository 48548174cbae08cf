from __future__ import annotations

import base64
import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from cachetools import LRUCache
from PIL import Image

from fiftyone_persam.curation.forms import references, runs, thumbnails

from ..reviewed_run import add_run, reviewed_run


@pytest.fixture
def sample(dataset, tmp_path) -> fo.Sample:
    """One photo with a label of every kind, and one of every fault."""
    Image.fromarray(np.full((40, 60, 3), 90, np.uint8)).save(tmp_path / "photo.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:20, 10:30] = 1
    mask[25:30, 40:50] = 2
    box = [0.1, 0.2, 0.3, 0.4]
    sample = fo.Sample(
        str(tmp_path / "photo.png"),
        mask=fo.Segmentation(mask=mask),
        blank=fo.Segmentation(mask=np.zeros((40, 60), np.uint8)),
        lost=fo.Segmentation(mask_path=str(tmp_path / "gone.png")),
        one=fo.Detections(detections=[fo.Detection(label="cup", bounding_box=box)]),
        two=fo.Detections(
            detections=[fo.Detection(label="cup", bounding_box=box) for _ in range(2)]
        ),
        flat=fo.Detection(label="cup", bounding_box=[0.1, 0.1, 0.0, 0.2]),
        nothing=fo.Detections(),
        outline=fo.Polyline(points=[[(0.1, 0.1), (0.5, 0.1), (0.3, 0.6)]], filled=True),
        dots=fo.Keypoints(keypoints=[fo.Keypoint(points=[(0.5, 0.5)])]),
        no_dots=fo.Keypoints(keypoints=[fo.Keypoint(points=[])]),
        name="text",
    )
    album = dataset([sample])
    album.mask_targets["mask"] = {1: "cup", 2: "spoon"}
    return album.first()


def test_only_fields_of_labels_are_offered(sample):
    fields = references.label_fields(sample._dataset)
    assert {"mask", "one", "flat", "outline", "dots"} <= set(fields)
    assert "name" not in fields and "metadata" not in fields


@pytest.mark.parametrize(
    ("field", "problem"),
    [
        ("mask", "several classes, 1 (cup), 2 (spoon): choose one"),
        ("one", None),
        ("outline", None),
        ("dots", None),
        ("blank", "is empty"),
        ("lost", "cannot be read"),
        ("two", "choose one"),
        ("flat", "without area"),
        ("nothing", "no label"),
        ("no_dots", "no point"),
        ("unknown", "no field"),
    ],
)
def test_what_is_wrong_with_a_choice(sample, field, problem):
    found = references.problem_with(sample, field)
    if problem is None:
        assert found is None
    else:
        assert problem in found and "\n" not in found


def test_one_of_several_instances(sample):
    names = references.labels_of(sample, "two")
    assert list(names.values()) == ["cup (1 of 2)", "cup (2 of 2)"]
    first = next(iter(names))
    assert references.problem_with(sample, "two", label_id=first) is None
    assert "no label with id" in references.problem_with(sample, "two", label_id="5" * 24)


def test_values_of_a_mask(sample):
    assert references.mask_values(sample, "mask") == {1: "cup", 2: "spoon"}
    assert references.mask_values(sample, "one") == {}
    assert references.problem_with(sample, "mask", mask_value=2) is None
    assert "value 7" in references.problem_with(sample, "mask", mask_value=7)


def test_a_photo_that_is_gone(sample):
    Path(sample.filepath).unlink()
    assert "not on the disk" in references.problem_with(sample, "mask")


@pytest.mark.parametrize(
    ("base", "name"), [("Red Mug", "red_mug"), ("3 cups", "object_3_cups"), ("  ", "object")]
)
def test_free_name(sample, base, name):
    assert runs.free_name(sample._dataset, base) == name


def test_free_name_avoids_fields(sample):
    assert runs.free_name(sample._dataset, "mask") == "mask_2"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("mug", None),
        ("my mug", "letters"),
        ("_mug", "letters"),
        ("", "letters"),
        (7, "letters"),
        ("mask", "another name"),
    ],
)
def test_names_of_runs(sample, name, problem):
    found = runs.problem_with_name(sample._dataset, name)
    assert (found is None) if problem is None else (problem in found)


@pytest.mark.parametrize("companion", ["review", "edit", "score", "withheld"])
def test_names_whose_companions_are_taken(sample, companion):
    album = sample._dataset
    album.add_sample_field(f"mug_{companion}", fo.StringField)
    assert f"'mug_{companion}' that no run" in runs.problem_with_name(album, "mug")
    assert runs.free_name(album, "mug") == "mug_2"


def test_names_whose_companions_are_not_written(sample):
    album = sample._dataset
    album.add_sample_field("mug_similarity", fo.StringField)
    assert runs.problem_with_name(album, "mug") is None
    assert "'mug_similarity'" in runs.problem_with_name(album, "mug", similarity=True)


@pytest.mark.parametrize("base", ["Müsli", "猫", "x" * 300, "save"])
def test_a_free_name_is_one_that_a_run_can_have(sample, base):
    album = sample._dataset
    assert runs.problem_with_name(album, runs.free_name(album, base)) is None


def thumbnail(sample: fo.Sample, field: str, **options: object) -> np.ndarray:
    head, data = thumbnails.reference_thumbnail(sample, field, **options).split(",", 1)
    assert head == "data:image/jpeg;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)


@pytest.mark.parametrize("field", ["mask", "one", "outline", "dots"])
def test_thumbnail_shows_photo_and_object(sample, field):
    picture = thumbnail(sample, field, side=120)
    assert picture.shape == (80, 248, 3)
    orange = (picture[..., 0] - picture[..., 2]) > 40
    assert 20 < orange[:, :120].sum() < 120 * 80 / 2  # the object is tinted, the rest is not
    alone = picture[:, 128:]
    assert (alone.max(axis=2) < 45).mean() > 0.5  # around the object it is dark


def test_thumbnail_of_one_value(sample):
    both, one = thumbnail(sample, "mask"), thumbnail(sample, "mask", mask_value=2)
    assert (both[..., 0] - both[..., 2] > 40).sum() > (one[..., 0] - one[..., 2] > 40).sum() > 0


def time_run(album: fo.Dataset, name: str, **timings: float) -> None:
    results = album.init_run_results(name)
    results.ids, results.timings = album.values("id"), timings
    album.save_run_results(name, results, overwrite=True)


def test_estimate_by_the_newest_run_that_encoded_its_photos(dataset, tmp_path):
    album = reviewed_run(dataset, tmp_path, "first")
    add_run(album, tmp_path, "cached")
    time_run(album, "first", photos=10, photos_per_second=2.0, photos_encoded=9)  # one was broken
    time_run(album, "cached", photos=10, photos_per_second=50.0, photos_encoded=1)
    found = runs.estimate(album, "sam_lite", "persam", 60)
    assert (found.run, found.seconds, found.device) == ("first", 30.0, "cpu")
    assert runs.estimate(album, "vit_h", "persam_f", 60) is None


class _Slow(str):
    """A text that lets another thread go first whenever it is looked up."""

    def __hash__(self) -> int:
        time.sleep(1e-4)
        return super().__hash__()


def test_what_is_remembered_bears_two_forms_at_once(sample, monkeypatch):
    """Two browsers fill in forms: neither takes away what the other is about to read."""
    monkeypatch.setattr(references, "_FOUND", LRUCache(1))
    album = sample._dataset
    fields = [("mask", 1), ("one", None), ("outline", None)]

    def ask(field: str, value: int | None) -> list[str | None]:
        return [
            references.problem_with_references(album, [sample.id], _Slow(field), mask_value=value)
            for _ in range(20)
        ]

    with ThreadPoolExecutor(len(fields)) as pool:
        answers = [pool.submit(ask, *one) for one in fields]
    assert all(answer.result() == [None] * 20 for answer in answers)
