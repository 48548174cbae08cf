"""What a run withholds is not drawn over photos before somebody asks for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation import set_presence_threshold, set_review

from ...films import scene, write_film
from ..discs import Make, make_photos, tell_presences_apart, tiny_sam


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    made = dataset(make_photos(tmp_path, 2))
    made.add_sample_field("boxes", fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections)
    return made


def segment(photos: Any, name: str, **options: Any) -> None:
    given = {"presence_threshold": 1, "label_type": "detections", **options}
    fp.segment(photos, photos.first(), method="persam", model=tiny_sam(), out_field=name, **given)


def drawn(dataset: fo.Dataset) -> set[str]:
    """The label fields that the App draws in a fresh page."""
    dataset.reload()
    chosen, usual = dataset.app_config.active_fields, fo.DatasetAppConfig.default_active_fields
    return set((chosen or usual(dataset)).paths)


def test_what_is_withheld_is_there_and_not_drawn(photos: fo.Dataset) -> None:
    before = drawn(photos)
    assert before == {"boxes"}  # masks of whole photos never are
    segment(photos, "x")
    assert photos.count("x_withheld") == 2
    assert drawn(photos) == {"boxes", "x"}
    segment(photos, "y", presence_threshold=0)  # there is a list now: a run's own masks join it
    segment(photos, "z", label_type="segmentation")
    assert drawn(photos) == {"boxes", "x", "y", "z"}
    fp.rename_run(photos, "x", "w")
    assert drawn(photos) == {"boxes", "w", "y", "z"}
    for run in ("w", "z", "y"):
        fp.delete_run(photos, run)
    assert drawn(photos) == before and photos.app_config.active_fields is None


def test_a_later_threshold_withholds_unseen(photos: fo.Dataset) -> None:
    segment(photos, "x", presence_threshold=0)
    assert photos.app_config.active_fields is None and drawn(photos) == {"boxes", "x"}
    set_presence_threshold(photos, "x", 1)
    assert photos.count("x_withheld") == 2 and drawn(photos) == {"boxes", "x"}


@pytest.mark.parametrize("exclude", [True, False])
def test_the_user_s_own_choice_stays(photos: fo.Dataset, exclude: bool) -> None:
    photos.app_config.active_fields = fo.ActiveFields(exclude=exclude, paths=["boxes", "filepath"])
    photos.save()
    segment(photos, "x")
    photos.reload()
    added = ["x_withheld"] if exclude else ["x"]
    assert photos.app_config.active_fields.paths == ["boxes", "filepath", *added]


def test_of_several_objects(photos: fo.Dataset) -> None:
    first, second = photos.values("id")
    fp.segment(
        *(photos, {"one": first, "two": second}),
        method="persam",
        model=tiny_sam(),
        out_field="x",
        presence_threshold=1,
    )
    assert photos.count("x_objects_withheld") == 2 and drawn(photos) == {"boxes", "x_objects"}


def test_of_frames(dataset: Make, tmp_path: Path) -> None:
    film = write_film(tmp_path / "film.mp4", [scene([("red", 50 + 5 * n, 60)]) for n in range(2)])
    videos = dataset(fo.Dataset())
    sample = fo.Sample(filepath=str(film))
    box = fo.Detection(label="red", bounding_box=[0.16, 0.3, 0.3, 0.4])
    sample.frames[1]["truth"] = fo.Detections(detections=[box])
    videos.add_sample(sample)
    fp.segment(
        *(videos, (sample.id, 1), "truth", "persam", tiny_sam()),
        out_field="x",
        presence_threshold=1,
    )
    assert videos.count("frames.x_withheld") == 1  # of the second frame: the first one is given
    assert drawn(videos) == {"frames.truth", "frames.x"}


def test_what_was_rejected(photos: fo.Dataset) -> None:
    segment(photos, "x", presence_threshold=0)
    tell_presences_apart(photos, "x")
    set_review(photos, "x", "rejected", [photos.last().id])
    fp.delete_run(photos, "x")
    assert photos.has_field("x_rejected") and drawn(photos) == {"boxes"}
