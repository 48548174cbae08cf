"""`propose` on photos and views, and `segment_everything`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp


@pytest.fixture
def photos(dataset: Any, album: Path) -> fo.Dataset:
    files = sorted((album / "Images" / "cat").iterdir())[:2]
    return dataset([fo.Sample(str(path)) for path in files])


def test_a_view_has_each_photo_s_own(photos: fo.Dataset) -> None:
    found = fp.propose(photos, max_proposals=5)
    assert list(found) == photos.values("id")
    alone = fp.propose(photos.last(), max_proposals=5)
    by_path = fp.propose(photos.last().filepath, max_proposals=5)
    for one, same, third in zip(found[photos.last().id], alone, by_path, strict=True):
        assert np.array_equal(one.mask, same.mask) and one.score == same.score
        assert np.array_equal(one.mask, third.mask)


def test_everything_becomes_detections(photos: fo.Dataset) -> None:
    calls: list[tuple[int, int]] = []
    done = fp.segment_everything(
        photos.limit(1), max_proposals=6, label="cat?", progress=lambda *a: calls.append(a)
    )
    assert calls == [(1, 1)] and done.photos == 1
    sample, other = photos.first(), photos.last()
    assert other["everything"] is None
    things = sample["everything"].detections
    wanted = fp.propose(sample, max_proposals=6)
    assert done.masks == len(things) == len(wanted)
    height, width = wanted[0].size
    for thing, one in zip(things, wanted, strict=True):
        assert thing.label == "cat?" and thing.confidence == pytest.approx(one.score)
        drawn = thing.to_segmentation(frame_size=(width, height), target=255).mask > 0
        assert np.array_equal(drawn, one.mask)

    with pytest.raises(fp.PersamError, match="1 of the photos have something in 'everything'"):
        fp.segment_everything(photos)
    first = things[0].id
    again = fp.segment_everything(photos, max_proposals=6, skip_existing=True)
    assert (again.photos, again.skipped) == (1, 1)
    sample.reload()
    assert sample["everything"].detections[0].id == first
    fp.segment_everything(photos, max_proposals=2, overwrite=True)
    sample.reload()
    assert 1 <= len(sample["everything"].detections) <= 2


def test_one_bad_photo_costs_only_itself(photos: fo.Dataset, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    photos.add_sample(fo.Sample(str(broken)))
    done = fp.segment_everything(photos, max_proposals=2)
    assert done.photos == 2 and list(done.errors) == [photos.last().id]
    assert "broken.jpg" in done.errors[photos.last().id] and "1 photos failed" in str(done)


@pytest.mark.parametrize("value", [0, 120, 255])
def test_a_photo_with_nothing_in_it(dataset: Any, tmp_path: Path, value: int) -> None:
    """Its object is nowhere, so nothing is written: not even the field."""
    path = tmp_path / "plain.png"
    Image.new("RGB", (96, 64), (value, value, value)).save(path)
    photos = dataset([fo.Sample(str(path))])
    assert fp.propose(path) == fp.propose(photos.first()) == []
    assert fp.propose(photos) == {photos.first().id: []}
    assert fp.propose(path, proposer="grid") == []
    done = fp.segment_everything(photos)
    assert done.errors == {photos.first().id: "nothing was found in this photo"}
    assert str(done) == "0 masks in 0 photos, nothing was found in 1 photo"
    assert not photos.has_field("everything")


def test_what_was_found_goes_where_nothing_is_found(photos: fo.Dataset, tmp_path: Path) -> None:
    fp.segment_everything(photos.limit(1), max_proposals=2)
    sample = photos.first()
    path = tmp_path / "plain.png"
    Image.new("RGB", (96, 64), (9, 9, 9)).save(path)
    sample.filepath = str(path)
    sample.save()
    done = fp.segment_everything(photos.limit(1), overwrite=True)
    sample.reload()
    assert list(done.errors) == [sample.id] and sample["everything"] is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"max_proposals": 5_000}, "max_proposals 5000 is not a number of proposals"),
        ({"proposer": "gird"}, "proposer 'gird' is not known"),
        ({"model": "sam_vit_z"}, "sam_vit_z"),
        ({"out_field": "filepath"}, "field .filepath. does not hold Detections"),
        ({"out_field": "kind"}, "field 'kind' does not hold Detections"),
        ({"label": " "}, "is not a name"),
        ({"skip_existing": "no"}, "is not a switch"),
    ],
)
def test_nothing_is_written_where_something_is_wrong(
    photos: fo.Dataset, given: dict[str, Any], message: str
) -> None:
    photos.add_sample_field("kind", fo.StringField)
    before = list(photos.get_field_schema())
    with pytest.raises(fp.PersamError, match=message):
        fp.segment_everything(photos, **given)
    photos.reload()
    assert list(photos.get_field_schema()) == before
