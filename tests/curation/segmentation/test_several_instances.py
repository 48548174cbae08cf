"""An object that a photo shows several times: one Segmentation with values, Detections with ids."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from benchmarks.album import read_album
from benchmarks.several_scenes import Several, compose
from fiftyone_persam import curation

RUN = "cats"
MOST = 4


@pytest.fixture(scope="module")
def twice(album: Path) -> Several:
    (cats,) = read_album(album, ["cat"])
    (cups,) = read_album(album, ["cup"])
    return compose(cups[0], cats[1:2], 2, np.random.default_rng(0))


@pytest.fixture(scope="module")
def made(
    album: Path, twice: Several, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[fo.Dataset]:
    """A labelled cat, a photo with it twice, one with it once, and one without."""
    path = tmp_path_factory.mktemp("twice") / "twice.png"
    Image.fromarray(twice.image).save(path)
    names = ("cat/00", "cat/02", "cup/01")
    photos = [fo.Sample(album / "Images" / f"{name}.jpg") for name in names]
    mask = album / "Annotations" / "cat" / "00.png"
    photos[0]["truth"] = fo.Segmentation(mask=(np.asarray(Image.open(mask).convert("L")) > 0) * 1)
    dataset = fo.Dataset()
    dataset.add_samples([photos[0], fo.Sample(path), *photos[1:]])
    dataset.mask_targets["truth"] = {1: "cat"}
    dataset.save()
    segment(dataset, RUN, label_type="both")
    yield dataset
    dataset.delete()


def segment(dataset: fo.Dataset, name: str, **options: Any) -> None:
    given = {"method": "persam", "max_instances": MOST, **options}
    fp.segment(dataset, dataset.first(), "truth", out_field=name, **given)


def pixels(sample: fo.Sample, field: str) -> np.ndarray:
    return pixels_of(sample[field])


def pixels_of(label: Any) -> np.ndarray:
    mask = label.mask if label.mask is not None else np.asarray(Image.open(label.mask_path))
    return np.asarray(mask)


def test_each_has_its_value_id_and_score(made: fo.Dataset, twice: Several) -> None:
    sample = made.skip(1).first()
    values, found = pixels(sample, RUN), sample[f"{RUN}_instances"].detections
    assert sorted(np.unique(values)) == [0, 1, 2]
    assert [one.index for one in found] == [1, 2]
    for truth in twice.masks:
        assert max(fp.iou(values == k, truth) for k in (1, 2)) > 0.6
    for one in found:
        height, width = values.shape
        x, y, w, h = np.rint(one.bounding_box * np.array([width, height] * 2)).astype(int)
        whole = np.zeros(values.shape, bool)
        whole[y : y + h, x : x + w] = pixels_of(one) > 0
        assert np.array_equal(whole, values == one.index), "a detection's id is its value"
        assert 0 < one.confidence <= 1.1 and 0.5 <= one.presence < 1
    assert found[0].confidence != found[1].confidence
    assert made.mask_targets[RUN] == {k: f"object {k}" for k in range(1, MOST + 1)}


def test_one_and_none(made: fo.Dataset) -> None:
    once, without = made.skip(2).first(), made.skip(3).first()
    assert sorted(np.unique(pixels(once, RUN))) == [0, 1]
    assert [one.index for one in once[f"{RUN}_instances"].detections] == [1]
    assert not pixels(without, RUN).any() and pixels(without, f"{RUN}_withheld").any()
    assert not without[f"{RUN}_instances"].detections


def test_where_one_is_asked_for_it_has_the_usual_value(made: fo.Dataset) -> None:
    segment(made, "one", max_instances=1)
    try:
        assert sorted(np.unique(pixels(made.skip(2).first(), "one"))) == [0, 255]
        assert made.mask_targets["one"] == {255: "object"}
    finally:
        fp.delete_run(made, "one")


def test_promoted_they_are_one_object(made: fo.Dataset, dataset: Callable[..., fo.Dataset]) -> None:
    copy = dataset(made.clone())
    curation.set_review(copy, RUN, "accepted")
    curation.promote(copy, RUN, "kept", label="cat")
    sample = copy.skip(1).first()
    assert copy.mask_targets["kept"] == {255: "cat"}
    assert sorted(np.unique(pixels(sample, "kept"))) == [0, 255]
    assert np.array_equal(pixels(sample, "kept") > 0, pixels(sample, RUN) > 0)


def test_another_threshold_brings_their_values_back(
    made: fo.Dataset, dataset: Callable[..., fo.Dataset]
) -> None:
    copy = dataset(made.clone())
    for threshold, shown, withheld in ((1.0, [], [1, 2]), (0.5, [1, 2], None)):
        curation.set_presence_threshold(copy, RUN, threshold)
        sample = copy.skip(1).first()
        assert [v for v in np.unique(pixels(sample, RUN)) if v] == shown
        assert len(sample[f"{RUN}_instances"].detections) == len(shown)
        if withheld:
            kept = pixels(sample, f"{RUN}_withheld")
            assert [v for v in np.unique(kept) if v] == withheld
