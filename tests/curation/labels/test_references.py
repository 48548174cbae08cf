from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation.labels.resolving import resolve_references
from fiftyone_persam.curation.labels.shapes import fit_mask, label_mask, label_prompt
from fiftyone_persam.errors import BadReferenceError, PersamError, PhotoError

from ..discs import SIZE, Make, disc, make_photos, tiny_sam

H, W = SIZE
MASK = disc(30, 20)
ROWS, COLUMNS = np.flatnonzero(MASK.any(1)), np.flatnonzero(MASK.any(0))
BOX = (int(COLUMNS[0]), int(ROWS[0]), int(COLUMNS[-1]) + 1, int(ROWS[-1]) + 1)
RELATIVE = [BOX[0] / W, BOX[1] / H, (BOX[2] - BOX[0]) / W, (BOX[3] - BOX[1]) / H]
CROP = MASK[BOX[1] : BOX[3], BOX[0] : BOX[2]]
SQUARE = [(0.25, 0.25), (0.75, 0.25), (0.75, 0.75), (0.25, 0.75)]


def sample_with(label: Any, tmp_path: Path, make: Make) -> fo.Sample:
    path = tmp_path / "photo.png"
    Image.new("RGB", (W, H), (9, 90, 200)).save(path)
    return make([fo.Sample(str(path), label=label)]).first()


def semantic(*values: int) -> np.ndarray:
    mask = np.zeros(SIZE, np.uint8)
    for number, value in enumerate(values):
        mask[:, 10 * number : 10 * number + 5] = value
    return mask


def colours() -> np.ndarray:
    mask = np.zeros((*SIZE, 3), np.uint8)
    mask[:10] = (128, 0, 0)
    mask[20:30] = (0, 128, 64)
    return mask


@pytest.mark.parametrize(
    ("label", "value", "mask"),
    [
        (fo.Segmentation(mask=MASK.astype(np.uint8)), None, MASK),
        (fo.Segmentation(mask=MASK.astype(np.uint8) * 255), None, MASK),
        (fo.Segmentation(mask=semantic(3, 3)), None, semantic(1, 1) > 0),
        (fo.Segmentation(mask=semantic(3, 7)), 7, semantic(0, 1) > 0),
        (fo.Segmentation(mask=colours()), "#800000", colours()[..., 0] == 128),
        (fo.Segmentation(mask=colours()), "#008040", colours()[..., 1] == 128),
        (fo.Segmentation(mask=MASK[::2, ::2].astype(np.uint8)), None, None),
        (fo.Detection(bounding_box=RELATIVE, mask=CROP), None, MASK),
        (fo.Detections(detections=[fo.Detection(bounding_box=RELATIVE, mask=CROP)]), None, MASK),
        (fo.Polyline(points=[SQUARE], closed=True, filled=True), None, None),
        (fo.Polyline(points=[SQUARE], closed=False, filled=False), None, None),
    ],
)
def test_labels_with_an_area_become_masks(
    dataset: Make, tmp_path: Path, label: Any, value: Any, mask: np.ndarray | None
) -> None:
    prompt, _ = label_prompt(sample_with(label, tmp_path, dataset), "label", None, value)
    assert prompt.kind == "mask" and prompt.mask is not None and prompt.mask.shape == SIZE
    if mask is not None:
        np.testing.assert_array_equal(prompt.mask, mask)
    elif isinstance(label, fo.Polyline):
        inside = prompt.mask[H // 4 + 2 : 3 * H // 4 - 2, W // 4 + 2 : 3 * W // 4 - 2]
        assert inside.all() and prompt.mask.sum() < 0.35 * H * W
    else:  # a mask of half the size
        assert (prompt.mask & MASK).sum() > 0.9 * (prompt.mask | MASK).sum()


SOFT = np.repeat(np.linspace(0, 255, W, dtype=np.uint8)[None], H, axis=0)
GREEN = np.stack([MASK * 0, MASK * 255, MASK * 0], axis=2).astype(np.uint8)


@pytest.mark.parametrize(
    ("pixels", "channel"),
    [
        (MASK.astype(np.uint8), MASK * 128),  # an id, which no picture shows: as PerSeg has it
        (MASK, MASK * 128),
        (MASK.astype(np.uint8) * 255, MASK * 255),
        (np.stack([MASK * 128, MASK * 0, MASK * 0], axis=2).astype(np.uint8), MASK * 128),
        (SOFT, SOFT),
        (np.stack([SOFT, SOFT, SOFT], axis=2), SOFT),
        (GREEN, MASK * 0),
    ],
    ids=["id", "bool", "grey", "PerSeg", "soft", "soft colours", "green"],
)
@pytest.mark.parametrize("in_a_file", [False, True])
def test_reference_mode_gets_the_first_channel_as_it_is(
    dataset: Make, tmp_path: Path, pixels: np.ndarray, channel: np.ndarray, in_a_file: bool
) -> None:
    label = fo.Segmentation(mask=pixels)
    if in_a_file:
        Image.fromarray(pixels).save(tmp_path / "mask.png")
        label = fo.Segmentation(mask_path=str(tmp_path / "mask.png"))
    sample = sample_with(label, tmp_path, dataset)
    (found,) = resolve_references(sample._dataset, sample, "label")
    if in_a_file and pixels.dtype == np.bool_:
        channel = channel * 0 + MASK * 255  # PNG's two values are black and white
    np.testing.assert_array_equal(found.load().channel, channel)


def test_a_chosen_class_stands_for_itself_in_reference_mode(dataset: Make, tmp_path: Path) -> None:
    sample = sample_with(fo.Segmentation(mask=colours()), tmp_path, dataset)
    (found,) = resolve_references(sample._dataset, sample, "label", mask_value="#008040")
    np.testing.assert_array_equal(found.load().channel, (colours()[..., 1] == 128) * 128)


def test_what_the_released_code_crashes_on_is_one_line_in_a_run(
    dataset: Make, tmp_path: Path
) -> None:
    sample = sample_with(fo.Segmentation(mask=GREEN), tmp_path, dataset)
    options = {"reference": sample, "label_field": "label", "model": tiny_sam(), "out_field": "x"}
    with pytest.raises(BadReferenceError, match="first channel, whose largest value is 0") as error:
        fp.segment(sample._dataset, mode="reference", **options)
    assert "\n" not in str(error.value)
    assert not sample._dataset.has_field("x") and not fp.list_runs(sample._dataset)
    assert fp.segment(sample._dataset, **options).counts["segmented"] == 1


def test_mask_files_of_segmentations_and_detections(dataset: Make, tmp_path: Path) -> None:
    Image.fromarray(MASK.astype(np.uint8) * 255).save(tmp_path / "whole.png")
    Image.fromarray(CROP.astype(np.uint8) * 255).save(tmp_path / "crop.png")
    for label in (
        fo.Segmentation(mask_path=str(tmp_path / "whole.png")),
        fo.Detection(bounding_box=RELATIVE, mask_path=str(tmp_path / "crop.png")),
    ):
        prompt, _ = label_prompt(sample_with(label, tmp_path, dataset), "label")
        np.testing.assert_array_equal(prompt.mask, MASK)


def test_a_box_stays_a_box_inside_the_photo(dataset: Make, tmp_path: Path) -> None:
    label = fo.Detection(bounding_box=[-0.1, 0.25, 0.6, 0.5])
    prompt, _ = label_prompt(sample_with(label, tmp_path, dataset), "label")
    assert prompt.kind == "box"
    assert prompt.box == pytest.approx((0, 12, 32, 36))


def test_keypoints_with_signs_and_gaps(dataset: Make, tmp_path: Path) -> None:
    points = [(0.5, 0.5), (float("nan"), float("nan")), (0.25, 0.75)]
    plain = fo.Keypoint(points=points)
    prompt, _ = label_prompt(sample_with(plain, tmp_path, dataset), "label")
    np.testing.assert_allclose(prompt.points, [[32, 24], [16, 36]])
    np.testing.assert_array_equal(prompt.labels, [1, 1])
    signed = fo.Keypoints(keypoints=[fo.Keypoint(points=points, sam_labels=[1, 1, 0])])
    prompt, _ = label_prompt(sample_with(signed, tmp_path, dataset), "label")
    np.testing.assert_array_equal(prompt.labels, [1, 0])


@pytest.mark.parametrize(
    ("label", "value", "message"),
    [
        (None, None, "no field 'label'"),
        (fo.Classification(label="x"), None, "Classification, which marks no object"),
        (fo.Segmentation(mask=np.zeros(SIZE, np.uint8)), None, "is empty"),
        (fo.Segmentation(mask=semantic(3)), 4, "no pixel of value 4"),
        (
            fo.Segmentation(mask=semantic(3, 7)),
            None,
            "several classes, 3, 7: choose one",
        ),
        (fo.Segmentation(mask=colours()), None, "several classes, #008040, #800000: choose one"),
        (fo.Segmentation(mask=semantic(3)), "#ff0000", "not a colour mask"),
        (fo.Segmentation(mask=colours()), "red", "nor a colour like"),
        (fo.Segmentation(mask=np.ones((W, H), np.uint8)), None, "48 x 64 pixels but its photo"),
        (fo.Segmentation(mask_path="/nowhere/mask.png"), None, "cannot be read"),
        (fo.Segmentation(), None, "has no mask"),
        (fo.Detections(), None, "no label in"),
        (
            fo.Detections(detections=[fo.Detection(bounding_box=[0, 0, 1, 1])] * 2),
            None,
            "2 labels.*choose one",
        ),
        (fo.Detection(), None, "has no box"),
        (fo.Detection(bounding_box=[0.2, 0.2, 0, 0.5]), None, "box without area"),
        (fo.Detection(bounding_box=[2, 2, 1, 1]), None, "box without area"),
        (fo.Detection(bounding_box=RELATIVE, mask=np.zeros((5, 5), bool)), None, "empty mask"),
        (fo.Polyline(points=[[(0, 0), (1, 1)]]), None, "surrounds no area"),
        (fo.Keypoint(points=[]), None, "no point on the object"),
        (fo.Keypoint(points=[(0.5, 0.5)], sam_labels=[0]), None, "no point on the object"),
        (fo.Keypoint(points=[(0.5, 0.5)], sam_labels=[1, 1]), None, "one sam_labels entry"),
    ],
)
def test_labels_that_are_no_reference(
    dataset: Make, tmp_path: Path, label: Any, value: Any, message: str
) -> None:
    made = sample_with(label, tmp_path, dataset)
    with pytest.raises(BadReferenceError, match=message) as caught:
        label_prompt(made, "label", None, value)
    assert "\n" not in str(caught.value)


def test_a_turned_photo_is_taken_as_it_is_shown(dataset: Make, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    Image.new("RGB", (H, W)).save(path, exif=exif)  # stored upright, shown as W x H
    made = dataset([fo.Sample(str(path), label=fo.Detection(bounding_box=[0.5, 0, 0.5, 1]))])
    prompt, _ = label_prompt(made.first(), "label")
    assert prompt.box == pytest.approx((W / 2, 0, W, H))


def test_every_way_to_name_a_reference(dataset: Make, tmp_path: Path) -> None:
    made = dataset(make_photos(tmp_path, 2, ("red", "blue")))
    two = [fo.Detection(bounding_box=[0, 0, 0.5, 0.5]), fo.Detection(bounding_box=RELATIVE)]
    first = made.first()
    first["boxes"] = fo.Detections(detections=two)
    first.save()
    ids = made.values("id")

    def found(reference: Any, field: str = "ground_truth", **kw: Any) -> list[tuple[str, str]]:
        return [(r.sample_id, r.group) for r in resolve_references(made, reference, field, **kw)]

    assert found(first) == found(ids[0]) == found([first]) == [(ids[0], "")]
    assert found(made.limit(2)) == found([ids[0], ids[1]]) == [(ids[0], ""), (ids[1], "")]
    view = made.match(fo.ViewField("role") == "reference")
    assert found(view, group_by="colour") == [(ids[0], "red"), (ids[2], "blue")]
    assert found(view.first()) == [(ids[0], "")]
    for pair in ((first, two[1].id), (ids[0], two[1].id)):
        (one,) = resolve_references(made, pair, "boxes")
        assert one.prompt.box == pytest.approx(BOX) and one.label_id == two[1].id
    assert resolve_references(made, [one], "other")[0] is one


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("5" * 24, "no sample with id"),
        ("nonsense", "no sample with id"),
        (7, "int is not a reference"),
        (None, "NoneType is not a reference"),
        ([], "is empty"),
        (fo.Sample("photo.png"), "in no dataset"),
    ],
)
def test_what_is_no_reference(dataset: Make, tmp_path: Path, reference: Any, message: str) -> None:
    made = dataset(make_photos(tmp_path, 1))
    with pytest.raises(BadReferenceError, match=message):
        resolve_references(made, reference)


def test_what_is_missing_is_named(dataset: Make, tmp_path: Path) -> None:
    made = dataset(make_photos(tmp_path, 1))
    with pytest.raises(BadReferenceError, match="no field 'labels'"):
        resolve_references(made, made.first(), "labels")
    with pytest.raises(BadReferenceError, match="no label with id 'x'"):
        resolve_references(made, (made.first(), "x"))
    with pytest.raises(PersamError, match="no field 'object'"):
        resolve_references(made, made.first(), group_by="object")
    Path(made.first().filepath).unlink()
    with pytest.raises(PhotoError, match=r"red_0\.png"):
        resolve_references(made, made.first())


def test_a_fingerprint_follows_the_label(dataset: Make, tmp_path: Path) -> None:
    made = dataset(make_photos(tmp_path, 1))
    before = resolve_references(made, made.first())[0].prompt.fingerprint()
    assert resolve_references(made, made.first())[0].prompt.fingerprint() == before
    sample = made.first()
    sample.ground_truth.mask = np.roll(sample.ground_truth.mask, 1, axis=0)
    sample.save()
    assert resolve_references(made, made.first())[0].prompt.fingerprint() != before


@pytest.mark.parametrize(
    ("shape", "size", "fits"),
    [
        ((48, 64), (48, 64), True),
        ((24, 32), (48, 64), True),
        ((25, 33), (49, 65), True),
        ((64, 48), (48, 64), False),
        ((48, 48), (48, 64), False),
    ],
)
def test_masks_of_other_sizes(shape: tuple, size: tuple, fits: bool) -> None:
    mask = np.ones(shape, np.bool_)
    if fits:
        assert fit_mask(mask, size, "it").shape == size
    else:
        with pytest.raises(BadReferenceError, match="make both one size"):
            fit_mask(mask, size, "it")


def test_the_mask_of_any_label(dataset: Make, tmp_path: Path) -> None:
    sample = sample_with(None, tmp_path, dataset)
    empty = label_mask(sample, None, "it")
    assert empty.shape == SIZE and not empty.any()
    instance = fo.Detection(bounding_box=RELATIVE, mask=CROP)
    np.testing.assert_array_equal(label_mask(sample, instance, "it"), MASK)
    both = fo.Detections(detections=[instance, fo.Detection(bounding_box=[0, 0, 0.25, 0.25])])
    joined = label_mask(sample, both, "it")
    assert joined[:12, :16].all() and joined.sum() == (MASK.sum() + 12 * 16 - MASK[:12, :16].sum())
    with pytest.raises(PersamError) as caught:
        label_mask(sample, fo.Segmentation(mask_path="/nowhere.png"), "it")
    assert not isinstance(caught.value, BadReferenceError)
