"""NumPy's values, arrays, sets and generators, where a number, a name or several ids are meant."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from bson import ObjectId
from fiftyone import ViewField

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.curation import database
from fiftyone_persam.engine import DiskCache, MemoryCache
from fiftyone_persam.errors import PersamError

from .discs import Make, make_photos, tiny_sam


def run_on(samples: Any, name: str = "x", reference: Any = None, **changes: Any) -> Any:
    settings = {"method": "persam", "model": tiny_sam(), "mask_storage": "file", **changes}
    reference = samples._root_dataset.first() if reference is None else reference
    return fp.segment(samples, reference, out_field=name, **settings)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    made = fo.Dataset()
    made.add_samples(make_photos(tmp_path_factory.mktemp("photos"), 3))
    run_on(made, presence_threshold=0)
    yield made
    made.delete()


NUMBERS: dict[str, Callable[[Any], Any]] = {
    "int64": np.int64,
    "uint8": np.uint8,
    "0-d": np.array,
}
FLOATS: dict[str, Callable[[Any], Any]] = {
    "float32": np.float32,
    "float16": np.float16,
    "0-d": np.array,
    "int": int,
}


@pytest.mark.parametrize("number", NUMBERS.values(), ids=NUMBERS)
def test_whole_numbers(photos: fo.Dataset, number: Callable[[Any], Any], tmp_path: Path) -> None:
    changes = {"batch_size": number(2), "num_workers": number(1), "mask_value": number(255)}
    run = run_on(photos, overwrite=True, presence_threshold=number(0), **changes)
    assert run.record.parameters.mask_value == 255
    assert fp.evaluate(photos, "x", mask_value=number(255)).scores.photos == 2
    assert MemoryCache(number(9)).max_bytes == 9
    cache = DiskCache(tmp_path, max_bytes=number(9))
    assert type(cache.max_bytes) is int and cache.max_bytes == 9


@pytest.mark.parametrize("number", FLOATS.values(), ids=FLOATS)
def test_numbers(photos: fo.Dataset, number: Callable[[Any], Any]) -> None:
    curation.set_presence_threshold(photos, "x", number(1))
    assert curation.review_counts(photos, "x").absent == 3
    curation.set_presence_threshold(photos, "x", number(0))
    assert curation.review_counts(photos, "x").absent == 0
    assert fp.evaluate(photos, "x", dilation_ratio=number(1)).config.dilation_ratio == 1


MANY: dict[str, Callable[[list[str]], Any]] = {
    "list": list,
    "tuple": tuple,
    "set": set,
    "array": np.array,
    "array of ObjectId": lambda ids: np.array([ObjectId(i) for i in ids], dtype=object),
    "generator": iter,
    "ObjectId": lambda ids: [ObjectId(i) for i in ids],
    "keys": lambda ids: dict.fromkeys(ids).keys(),
    "NumPy's texts": lambda ids: [np.str_(i) for i in ids],
}


@pytest.mark.parametrize("make", MANY.values(), ids=MANY)
def test_several_ids(photos: fo.Dataset, make: Callable[[list[str]], Any]) -> None:
    ids = photos.values("id")[:2]
    curation.set_review(photos, "x", None)
    assert curation.set_review(photos, "x", "accepted", make(ids)) == 2
    assert curation.make_editable(photos, "x", make(ids)) == "x_edit"
    run = run_on(photos.limit(1), overwrite=True, reference=make(ids))
    assert [one.sample_id for one in run.record.references] == ids


def test_a_view_where_ids_are_meant(photos: fo.Dataset) -> None:
    curation.set_review(photos, "x", None)
    assert curation.set_review(photos, "x", "rejected", photos.limit(2)) == 2
    with pytest.raises(PersamError, match="is not a list of sample ids: give"):
        curation.set_review(photos, "x", "rejected", photos.first())


@pytest.mark.parametrize("make", [list, set, np.array, iter, tuple])
def test_states(photos: fo.Dataset, make: Callable[[list[str]], Any]) -> None:
    curation.set_review(photos, "x", "accepted")
    assert len(curation.review_queue(photos, "x", make(["accepted"]))) == 3


# Views that name more photos than a document of the database can hold -----------------------------


@pytest.fixture
def vast(photos: fo.Dataset, monkeypatch: pytest.MonkeyPatch) -> fo.DatasetView:
    """A view of two photos that names many; the database would refuse 820,000 of them."""
    monkeypatch.setattr(database, "PART", 50)
    return photos.select([*(str(ObjectId()) for _ in range(200)), *photos.values("id")[:2]])


def test_a_view_that_names_too_many_photos(photos: fo.Dataset, vast: fo.DatasetView) -> None:
    assert database.named_in(database.photos_of(vast)) <= 3
    run = run_on(vast, "vast")
    assert run.counts["segmented"] == 2 and run.ids() == vast.values("id")
    assert curation.set_review(vast, "vast", "accepted") == 2
    assert fp.evaluate(vast, "vast", include_references=True).scores.photos == 2
    assert database.photos_of(photos.exclude(vast._stages[0].sample_ids)).values("id") == [
        photos.last().id
    ]
    fp.delete_run(photos, "vast")


@pytest.mark.parametrize("many", [820_000])
def test_a_view_that_the_database_refuses(photos: fo.Dataset, many: int) -> None:
    start = int(str(photos.first().id), 16)
    names = [ObjectId(f"{start + 1000 + k:024x}") for k in range(many)]
    view = photos.select([*names, *(ObjectId(i) for i in photos.values("id"))])
    assert run_on(view, "vast").counts["segmented"] == 3
    fp.delete_run(photos, "vast")


# References of which a view shows a part ----------------------------------------------------------

FILTERS: dict[str, Callable[[fo.Dataset], Any]] = {
    "boxes": lambda d: d.filter_labels("boxes", ViewField("label") == "cat"),
    "dots": lambda d: d.filter_keypoints("dots", filter=ViewField("points")[0] < 0.5),
}


class StopError(Exception):
    """Interrupts a run."""


@pytest.mark.parametrize("field", FILTERS)
def test_a_reference_of_a_filtered_view(dataset: Make, tmp_path: Path, field: str) -> None:
    photos = dataset(make_photos(tmp_path, 3))
    sample = photos.first()
    boxes = [[0.1, 0.1, 0.3, 0.4], [0.4, 0.4, 0.3, 0.4]]
    found = zip(("cat", "dog"), boxes, strict=True)
    sample["boxes"] = fo.Detections(
        detections=[fo.Detection(label=name, bounding_box=box) for name, box in found]
    )
    sample["dots"] = fo.Keypoint(points=[[0.3, 0.5], [0.8, 0.8]])
    sample.save()

    def stop(done: int, total: int) -> None:
        if done:
            raise StopError

    view = FILTERS[field](photos)
    given = {"reference": view, "label_field": field, "batch_size": 1, "progress": stop}
    with pytest.raises(StopError):
        run_on(photos, **given)
    run = fp.resume_run(photos, "x", model=tiny_sam())
    assert run.counts["segmented"] == 3
    whole = run_on(photos, "whole", reference=view, label_field=field)
    for one, other in zip(
        photos.values("x.mask_path"), photos.values("whole.mask_path"), strict=True
    ):
        assert Path(one).read_bytes() == Path(other).read_bytes()
    assert whole.record.references == run.record.references


def test_a_view_that_cannot_be_looked_through(photos: fo.Dataset) -> None:
    photos.first()["dots"] = fo.Keypoint(points=[[0.3, 0.5]])
    view = photos.filter_keypoints("dots", labels=["nose"])  # without a skeleton
    with pytest.raises(PersamError, match=r"cannot be looked through .*skeleton.*: give another"):
        run_on(photos, "y", reference=view, label_field="dots")
    photos.delete_sample_field("dots")
