"""Which photos an evaluation of a run counts, and what it says where there are none."""

from __future__ import annotations

import logging
from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_persam as fp

from ..discs import Make, make_photos
from ..jobs import run_on


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """Five photos that do not say of themselves which one is a reference."""
    made = dataset(make_photos(tmp_path, 5))
    made.delete_sample_field("role")
    return made


def counted(photos: fo.Dataset, field: str = "x") -> int:
    return int(fp.evaluate(photos, field).scores.objects[0].photos)


def test_instances_of_a_run_leave_its_reference_out(photos: fo.Dataset) -> None:
    run_on(photos, label_type="both", presence_threshold=0)
    assert counted(photos) == counted(photos, "x_instances") == 4


def test_references_of_earlier_tries_stay_out(photos: fo.Dataset) -> None:
    run_on(photos, presence_threshold=0)
    run_on(photos.skip(1), reference=photos.last(), overwrite=True, presence_threshold=0)
    assert counted(photos) == 3  # the first photo's mask still comes from its own label


def test_nothing_to_compare_says_why(photos: fo.Dataset) -> None:
    run_on(photos, presence_threshold=0)
    with pytest.raises(fp.PersamError, match="view is empty"):
        fp.evaluate(photos.limit(0), "x")
    with pytest.raises(fp.PersamError, match=r"is a reference.*include_references=True"):
        fp.evaluate(photos.limit(1), "x")
    photos.clear_sample_field("x_instances")
    with pytest.raises(fp.PersamError, match="no photo has ground truth in 'x_instances'"):
        fp.evaluate(photos, "x", gt_field="x_instances")
    assert fp.evaluate(photos.limit(1), "x", include_references=True).scores.objects[0].photos == 1


def test_photos_that_were_not_segmented_are_spoken_of(
    photos: fo.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    run_on(photos.limit(3), presence_threshold=0)
    with caplog.at_level(logging.WARNING, "fiftyone_persam"):
        fp.evaluate(photos.limit(3), "x")
        assert caplog.messages == []
        fp.evaluate(photos, "x")
    (message,) = caplog.messages
    assert message.startswith("2 of 4 photos were not segmented by run 'x'")


def test_labels_of_several_names_are_spoken_of(
    photos: fo.Dataset, caplog: pytest.LogCaptureFixture
) -> None:
    """The advice is what the warning says: photos without the object stay, and count."""
    for place, sample in enumerate(photos):
        label = "cup" if place == 1 else "cat"
        box = fo.Detection(label=label, bounding_box=[0.25, 0.25, 0.5, 0.5])
        sample["things"] = fo.Detections(detections=[box])
        sample["found"] = fo.Detections(detections=[box.copy()])
        sample.save()
    with caplog.at_level(logging.WARNING, "fiftyone_persam"):
        everything = fp.evaluate(photos, "found", gt_field="things").scores
        (message,) = caplog.messages
        assert message.startswith("'things' holds 'cat', 'cup', and all of that counts")
        caplog.clear()
        cats = photos.filter_labels("things", fo.ViewField("label") == "cat", only_matches=False)
        one = fp.evaluate(cats, "found", gt_field="things").scores
        assert caplog.messages == []
    assert (everything.photos, everything.photo_miou) == (5, 1.0)
    assert (one.photos, one.photo_miou) == (5, pytest.approx(0.8))
