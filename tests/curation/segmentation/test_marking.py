"""A box that becomes a label to learn from."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation import mark_reference
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
