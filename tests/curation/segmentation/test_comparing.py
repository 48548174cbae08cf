"""Runs whose photos are compared with one another when all are through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam import Prediction
from fiftyone_persam.personalize import METHODS
from fiftyone_persam.personalize.comparison import among_others
from tests.toys import ToyMethod

from ..discs import Make, tiny_sam

HEIGHT = 40
# The middle one is more likely there than not, but far behind the others.
SURE, WEAK, GONE = 999, 600, 100


class ByWidth(ToyMethod):
    """The presence of the object is a thousandth of the photo's width."""

    name = "by_width"

    def _half(self, embedding: Any) -> Prediction:
        found = super()._half(embedding)
        return replace(found, presence=embedding.original_size[1] / 1000)


@pytest.fixture(autouse=True)
def method() -> Iterator[None]:
    METHODS.register(ByWidth)
    yield
    METHODS.unregister(ByWidth.name)


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    samples = []
    for number, width in enumerate((SURE, SURE - 1, WEAK, GONE, SURE - 2)):
        path = tmp_path / f"{number}.png"
        Image.fromarray(np.full((HEIGHT, width, 3), 90, np.uint8)).save(path)
        mask = np.zeros((HEIGHT, width), np.uint8)
        mask[:, : width // 4] = 255
        colour = "red" if number < 3 else "blue"
        truth = fo.Segmentation(mask=mask)
        samples.append(fo.Sample(str(path), ground_truth=truth, colour=colour))
    return dataset(samples)


def run_on(photos: Any, **changes: Any) -> Any:
    settings = {"method": ByWidth.name, "model": tiny_sam(), "out_field": "x", "batch_size": 1}
    given: dict[str, Any] = {"presence_threshold": 0.5, "compare_photos": True, **settings}
    return fp.segment(photos, photos._root_dataset.first(), **{**given, **changes})


def numbers(photos: fo.Dataset, field: str = "x_presence") -> np.ndarray:
    photos.reload()
    return np.array(photos.values(field), float)


def shown(photos: fo.Dataset) -> list[bool]:
    """Whether each photo's mask has a pixel."""
    return [bool(label.get_mask().any()) for label in photos.values("x")]


def test_a_photo_far_behind_the_best_counts_as_absent(photos: fo.Dataset) -> None:
    run = run_on(photos)
    alone = numbers(photos, "x_presence_alone")
    np.testing.assert_allclose(alone, [0.999, 0.998, 0.6, 0.1, 0.997])
    np.testing.assert_allclose(numbers(photos), among_others(alone))
    assert shown(photos) == [True, True, False, False, True]
    assert [one is not None for one in photos.values("x_withheld")] == [False] * 2 + [True] * 2 + [
        False
    ]
    assert photos.values("x_withheld")[2].get_mask().any()  # kept aside, as by any threshold
    assert run.counts["absent"] == 2 and run.state == "done"
    fp.curation.set_presence_threshold(photos, "x", 0)
    assert shown(photos) == [True, True, True, True, True]


def test_without_it_each_photo_counts_by_itself(photos: fo.Dataset) -> None:
    run_on(photos, compare_photos=False)
    assert shown(photos) == [True, True, True, False, True]
    assert not photos.has_field("x_presence_alone")


def test_a_run_that_was_stopped_ends_as_one_that_was_not(photos: fo.Dataset) -> None:
    def stop(done: int, total: int) -> None:
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on(photos, progress=stop)
    assert 0 < photos.count("x") < 5
    run = fp.resume_run(photos, "x", model=tiny_sam())
    assert run.record.parameters.compare_photos
    alone = numbers(photos, "x_presence_alone")
    np.testing.assert_allclose(numbers(photos), among_others(alone))
    assert shown(photos) == [True, True, False, False, True]


def test_photos_that_come_later_change_what_earlier_ones_have(photos: fo.Dataset) -> None:
    weak = photos.match({"_id": photos.skip(2).first()._id})
    run_on(weak)
    assert numbers(photos)[2] == pytest.approx(0.6) and weak.first().x.get_mask().any()
    run_on(photos, skip_existing=True)
    assert numbers(photos)[2] < 0.5 and not weak.first().x.get_mask().any()
    photos.delete_samples(photos.match({"x_presence_alone": {"$gt": 0.9}}).skip(1))
    before = numbers(photos)
    run_on(photos.limit(1), overwrite=True)
    assert len(numbers(photos)) == len(before) == 3


def test_each_object_by_itself(photos: fo.Dataset) -> None:
    references = [photos.first().id, photos.match({"colour": "blue"}).first().id]
    fp.segment(
        photos,
        references,
        method=ByWidth.name,
        model=tiny_sam(),
        out_field="x",
        group_by="colour",
        presence_threshold=0.5,
        compare_photos=True,
    )
    alone, found = numbers(photos, "x_presence_alone"), numbers(photos)
    for rows in (slice(0, 3), slice(3, 5)):
        np.testing.assert_allclose(found[rows], among_others(alone[rows]))


def test_what_somebody_has_decided_about_stays(photos: fo.Dataset) -> None:
    weak = photos.skip(2).first()
    run_on(photos.match({"_id": weak._id}))
    fp.curation.set_review(photos.select(weak.id), "x", "accepted")
    run_on(photos, skip_existing=True)
    assert shown(photos)[2]


def test_what_cannot_be_compared_is_refused(photos: fo.Dataset) -> None:
    with pytest.raises(fp.PersamError, match="compares the photos of one object"):
        fp.segment(
            photos,
            {"a": photos.first().id, "b": photos.last().id},
            method="persam",
            model=tiny_sam(),
            out_field="x",
            compare_photos=True,
        )
    with pytest.raises(fp.PersamError, match="compare_photos"):
        run_on(photos, compare_photos="yes")
    run_on(photos, compare_photos=False)
    with pytest.raises(fp.RunConflictError, match="compare_photos=False"):
        run_on(photos, skip_existing=True)
