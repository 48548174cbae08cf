"""Labels as annotation tools really write them: read right, or one line, whatever is asked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_persam.curation.labels.masks import union_mask
from fiftyone_persam.curation.labels.resolving import resolve_references
from fiftyone_persam.curation.labels.shapes import label_mask, label_prompt
from fiftyone_persam.errors import BadReferenceError, PersamError
from fiftyone_persam.sam.pasting import paste_instance

from ..discs import SIZE, Make, disc

H, W = SIZE
MASK = disc(30, 20)
NAN, INF = float("nan"), float("inf")
BOXES = [
    [NAN, 0.1, 0.2, 0.2],
    [0.1, 0.1, NAN, NAN],
    [0.1, INF, 0.2, 0.2],
    [-INF, -INF, INF, INF],
    [100.0, 80.0, 900.0, 700.0],  # pixels
    [0, 0, 1e12, 1e12],
    [0, 0, 1e308, 1e308],
    [0.1, 0.1],
    None,
]
ARRAYS = [np.zeros(9, np.uint8), np.zeros((0, 0), np.uint8), np.zeros((2, H, W, 3), np.uint8)]


def sample_of(tmp_path: Path, make: Make, **fields: Any) -> Any:
    path = tmp_path / "photo.png"
    if not path.exists():
        Image.new("RGB", (W, H), (9, 90, 200)).save(path)
    return make([fo.Sample(str(path), **fields)]).first()


def put(sample: Any, label: Any) -> str:
    """Give a sample a label, in a field of its kind."""
    field = type(label).__name__.lower()
    sample[field] = label
    return field


def refused(ask: Callable[[], Any], error: type[PersamError] = PersamError) -> str:
    """The one line that it says."""
    with pytest.raises(error) as caught:
        ask()
    message = str(caught.value)
    assert "\n" not in message and ": " in message
    return message


def test_boxes_that_are_none(dataset: Make, tmp_path: Path) -> None:
    sample = sample_of(tmp_path, dataset)
    for box in BOXES:
        for more in ({}, {"mask": MASK[:5, :5]}):
            label = fo.Detection(label="cup", bounding_box=box, **more)
            for one in (label, fo.Detections(detections=[label])):
                assert "it" in refused(lambda one=one: union_mask(one, SIZE, "it"))
                assert "it" in refused(lambda one=one: label_mask(sample, one, "it"))
                field = put(sample, one)
                refused(lambda field=field: label_prompt(sample, field), BadReferenceError)


def test_pixel_coordinates_say_what_to_do() -> None:
    label = fo.Detection(bounding_box=[100.0, 80.0, 900.0, 700.0])
    assert "divide" in refused(lambda: union_mask(label, SIZE, "it"))


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: str(a.shape))
def test_arrays_that_are_no_masks(dataset: Make, tmp_path: Path, array: Any) -> None:
    sample = sample_of(tmp_path, dataset)
    for label in (
        fo.Segmentation(mask=array),
        fo.Detection(bounding_box=[0, 0, 0.5, 0.5], mask=array),
    ):
        assert str(array.shape) in refused(lambda one=label: union_mask(one, SIZE, "it"))
        assert str(array.shape) in refused(lambda one=label: label_mask(sample, one, "it"))
        field = put(sample, label)
        refused(lambda field=field: label_prompt(sample, field), BadReferenceError)


@pytest.mark.parametrize(
    "label",
    [
        fo.Polyline(points=[[(0.1, 0.1), (NAN, 0.5), (0.5, 0.9)]]),
        fo.Polyline(points=[[(0.1, 0.1), (INF, 0.5), (0.5, 0.9)]]),
        fo.Polyline(points=[[(0.1, 0.1), (1e30, 0.5), (0.5, 0.9)]]),
        fo.Polyline(points=[[(100, 100), (300, 100), (200, 300)]]),
        fo.Keypoint(points=[(NAN, NAN)]),
        fo.Keypoint(points=[(INF, 0.5)]),
        fo.Keypoint(points=[(-INF, 0.5)]),
        fo.Keypoint(points=[(1e30, 0.5)]),
        fo.Keypoint(points=[(300, 200)]),
        fo.Keypoint(points=[(0.5, 0.5)], sam_labels=["yes"]),
        fo.Keypoint(points=[(0.5, 0.5)], sam_labels=[NAN]),
    ],
    ids=lambda label: f"{type(label).__name__}-{str(label.points)[:40]}",
)
def test_outlines_and_points_that_are_none(dataset: Make, tmp_path: Path, label: Any) -> None:
    sample = sample_of(tmp_path, dataset)
    refused(lambda: label_prompt(sample, put(sample, label)), BadReferenceError)


FILES: dict[str, Callable[[Path], Any]] = {
    "missing": lambda path: None,
    "folder": Path.mkdir,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("no mask"),
    "postscript": lambda path: path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n"),
    "cut short": lambda path: (
        Image.fromarray(np.random.default_rng(0).integers(0, 255, SIZE, np.uint8)).save(path),
        path.write_bytes(path.read_bytes()[:900]),
    ),
    "loop": lambda path: path.symlink_to(path),
    "pipe": os.mkfifo,
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_are_no_masks(dataset: Make, tmp_path: Path, name: str) -> None:
    path = tmp_path / "mask.png"
    FILES[name](path)
    for label in (
        fo.Segmentation(mask_path=str(path)),
        fo.Detection(bounding_box=[0, 0, 0.5, 0.5], mask_path=str(path)),
    ):
        assert "mask.png" in refused(lambda one=label: union_mask(one, SIZE, "it"))
    sample = sample_of(tmp_path, dataset, truth=fo.Segmentation(mask_path=str(path)))
    assert "mask.png" in refused(lambda: label_prompt(sample, "truth"), BadReferenceError)
    assert "mask.png" in refused(lambda: label_mask(sample, sample.truth, "it"))


def test_a_mask_of_too_many_pixels_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mask.png"
    Image.fromarray(MASK).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    label = fo.Segmentation(mask_path=str(path))
    assert "2,000 pixels" in refused(lambda: union_mask(label, SIZE, "it"))


def test_the_same_decision_everywhere(dataset: Make, tmp_path: Path) -> None:
    """Of a reference, of the truth of an evaluation, and of what is promoted."""
    red = Image.fromarray(MASK.astype(np.uint8), "P")
    red.putpalette([255, 255, 255, 200, 0, 0])
    soft = np.asarray(Image.fromarray(MASK.astype(np.uint8) * 255).resize((W // 2, H // 2)))
    files = {
        "palette": red,
        "JPEG": Image.fromarray(MASK.astype(np.uint8) * 255),
        "alpha": Image.fromarray(
            np.dstack([np.zeros((*SIZE, 3), np.uint8), MASK.astype(np.uint8) * 255])
        ),
        "soft": Image.fromarray(soft).resize((W, H), Image.Resampling.BILINEAR),
    }
    for name, image in files.items():
        path = tmp_path / f"{name}.{'jpg' if name == 'JPEG' else 'png'}"
        image.save(path)
        label = fo.Segmentation(mask_path=str(path))
        sample = sample_of(tmp_path, dataset, truth=label)
        found, _ = label_prompt(sample, "truth")
        assert (found.mask & MASK).sum() / (found.mask | MASK).sum() > 0.9, name
        np.testing.assert_array_equal(found.mask, union_mask(label, SIZE))
        np.testing.assert_array_equal(found.mask, label_mask(sample, label, "it"))


def test_what_a_run_s_record_says(dataset: Make, tmp_path: Path) -> None:
    """At which value a soft mask was cut, and the name of the class that was chosen."""
    soft = np.asarray(Image.fromarray(MASK).convert("L").resize((W * 2, H * 2)), np.float32) / 255
    sample = sample_of(tmp_path, dataset, truth=fo.Segmentation(mask=soft[::2, ::2] * 0.9 + 0.05))
    (one,) = resolve_references(sample._dataset, sample, "truth")
    assert one.to_dict()["mask_threshold"] == 0.5
    np.testing.assert_array_equal(one.prompt.mask, soft[::2, ::2] * 0.9 + 0.05 > 0.5)
    two = MASK.astype(np.uint8) + 2 * disc(8, 8).astype(np.uint8)
    other = sample_of(tmp_path, dataset, truth=fo.Segmentation(mask=two))
    made = other._dataset
    made.mask_targets = {"truth": {1: "cup", 2: "spoon"}}
    made.save()
    with pytest.raises(BadReferenceError, match=r"1 \(cup\), 2 \(spoon\).*: choose one"):
        resolve_references(made, other, "truth")
    for value in (2, "spoon", "SPOON"):
        (one,) = resolve_references(made, other, "truth", mask_value=value)
        assert one.name == "spoon" and one.to_dict()["mask_threshold"] is None
        np.testing.assert_array_equal(one.prompt.mask, two == 2)


def test_colours_in_either_case(dataset: Make, tmp_path: Path) -> None:
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[MASK] = (255, 109, 4)
    sample = sample_of(tmp_path, dataset, truth=fo.Segmentation(mask=colours))
    made = sample._dataset
    for key in ("#FF6D04", "#ff6d04"):
        made.mask_targets = {"truth": {key: "cup"}}
        made.save()
        for value in ("#FF6D04", "#ff6d04", "cup"):
            (one,) = resolve_references(made, sample, "truth", mask_value=value)
            assert one.name == "cup"
            np.testing.assert_array_equal(one.prompt.mask, MASK)


@pytest.mark.parametrize("off", [(1, 0), (-1, 1), (2, -2)])
def test_a_mask_a_pixel_or_two_off(
    dataset: Make, tmp_path: Path, off: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.ones((H + off[0], W + off[1]), np.uint8)
    sample = sample_of(tmp_path, dataset, truth=fo.Segmentation(mask=mask))
    found, _ = label_prompt(sample, "truth")
    assert found.mask.shape == SIZE and found.mask.all()
    assert "resized" in caplog.text
    far = fo.Segmentation(mask=np.ones((H + 3, W), np.uint8))
    assert "make both one size" in refused(lambda: union_mask(far, SIZE, "it"))


@pytest.mark.parametrize(
    ("crop", "box"),
    [
        ((5, 5), (3, 4, 8, 9)),
        ((5, 5), (-3, -4, 12, 20)),
        ((20, 30), (40, 30, 90, 70)),
        ((7, 3), (10.4, 5.5, 33.3, 40.2)),
        ((1, 1), (-100, -100, 150, 150)),
        ((9, 9), (70, 60, 80, 70)),
    ],
)
def test_a_crop_is_laid_as_pillow_scales_it(
    crop: tuple[int, int], box: tuple[float, float, float, float]
) -> None:
    """Against Pillow's own scaling, without its picture of the size of the box."""
    pixels = np.random.default_rng(0).random(crop) < 0.5
    left, top = round(box[0]), round(box[1])
    width, height = max(1, round(box[2]) - left), max(1, round(box[3]) - top)
    scaled = pixels
    if abs(crop[0] - height) > 1 or abs(crop[1] - width) > 1:
        resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.NEAREST)
        scaled = np.asarray(resized, bool)
    canvas = np.zeros((600, 600), bool)
    canvas[200 + top : 200 + top + scaled.shape[0], 200 + left : 200 + left + scaled.shape[1]] = (
        scaled
    )
    mask = np.zeros(SIZE, bool)
    paste_instance(mask, pixels, box)
    np.testing.assert_array_equal(mask, canvas[200 : 200 + H, 200 : 200 + W])
