"""A box or a point that becomes a label to learn from."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation import mark_point, mark_reference
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.errors import PersamError

from ..discs import SIZE, make_photos, tiny_sam

HEIGHT, WIDTH = SIZE


@pytest.fixture
def photos(dataset, tmp_path) -> fo.Dataset:
    made = dataset(make_photos(tmp_path, 2))
    made.delete_sample_field("ground_truth")
    return made


def test_a_run_learns_from_it(photos):
    label = mark_reference(photos.first(), (4, 6, 40, 40), label="disc")
    photos.reload()
    (found,) = photos.first()["reference"].detections
    assert (found.id, found.label) == (label, "disc")
    expected = [4 / WIDTH, 6 / HEIGHT, 36 / WIDTH, 34 / HEIGHT]
    assert found.bounding_box == pytest.approx(expected)
    run = fp.segment(
        photos,
        (photos.first().id, label),
        label_field="reference",
        method="persam",
        model=tiny_sam(),
        out_field="x",
    )
    assert run.counts["segmented"] + run.counts["failed"] == 2


def test_the_same_box_is_one_label(photos):
    first = mark_reference(photos.first(), (4, 6, 40, 40))
    assert mark_reference(photos.first(), np.array([4.0, 6, 40, 40])) == first
    assert mark_reference(photos.first(), (4, 6, 40, 41)) != first
    assert len(photos.first()["reference"].detections) == 2


@pytest.mark.parametrize(
    ("box", "options", "message"),
    [
        ((4, 6, 4, 50), {}, "is empty or not inside"),
        ((4, 6, 10_000, 50), {}, "is empty or not inside"),
        ((-1, 6, 40, 50), {}, "is empty or not inside"),
        ((float("nan"), 6, 40, 50), {}, "is empty or not inside"),
        ((4, 6, 40), {}, "is not a box"),
        ("here", {}, "is not a box"),
        (None, {}, "is not a box"),
        ((4, 6, 40, 40), {"field": "filepath"}, "does not hold Detections"),
        ((4, 6, 40, 40), {"field": "a b"}, "a b"),
        ((4, 6, 40, 40), {"label": 7}, "label"),
    ],
)
def test_bad_boxes(photos, box, options, message):
    before = photos.first().to_dict()
    with pytest.raises(PersamError, match=message):
        mark_reference(photos.first(), box, **options)
    photos.reload()
    assert not photos.has_field("reference")
    assert photos.first().to_dict() == before


def test_a_run_s_field_is_not_marked_in(photos):
    label = mark_reference(photos.first(), (4, 6, 40, 40))
    fp.segment(
        photos,
        (photos.first().id, label),
        label_field="reference",
        method="persam",
        model=tiny_sam(),
        out_field="x",
        label_type="detections",
    )
    with pytest.raises(PersamError, match="belongs to run 'x'"):
        mark_reference(photos.first(), (4, 6, 40, 40), field="x")


def test_what_is_at_a_point(dataset, album):
    files = sorted((album / "Images" / "cat").iterdir())[:1]
    cats = dataset([fo.Sample(str(path)) for path in files])
    truth = read_mask(album / "Annotations" / "cat" / f"{files[0].stem}.png")
    y, x = np.argwhere(truth).mean(0)
    label = mark_point(cats.first(), (x, y), label="cat", scale="whole")
    assert mark_point(cats.first(), (x, y), label="cat", scale="whole") == label
    cats.reload()
    (found,) = cats.first()["reference"].detections
    assert (found.id, found.label) == (label, "cat")
    height, width = truth.shape
    mask = found.to_segmentation(frame_size=(width, height), target=255).mask > 0
    assert mask[int(y), int(x)] and fp.iou(mask, truth) > 0.5


@pytest.mark.parametrize(
    ("point", "options", "message"),
    [
        ((-1, 5), {}, "outside the photo"),
        ((5, 10_000), {}, "outside the photo"),
        ((float("nan"), 6), {}, "outside the photo"),
        ("here", {}, "is not a point"),
        (None, {}, "is not a point"),
        ((5, 5), {"scale": "all"}, "scale 'all'"),
        ((5, 5), {"field": "filepath"}, "does not hold Detections"),
        ((5, 5), {"label": 7}, "label"),
        ((5, 5), {"plain": True}, "there is nothing to segment at this point of plain.png"),
    ],
)
def test_bad_points(photos, tmp_path, point, options, message):
    sample = photos.first()
    options = dict(options)
    if options.pop("plain", False):
        Image.new("RGB", (64, 48), (99, 99, 99)).save(tmp_path / "plain.png")
        sample.filepath = str(tmp_path / "plain.png")
        sample.save()
    before = sample.to_dict()
    with pytest.raises(PersamError, match=message):
        mark_point(sample, point, **options)
    photos.reload()
    assert not photos.has_field("reference")
    assert photos.first().to_dict() == before
