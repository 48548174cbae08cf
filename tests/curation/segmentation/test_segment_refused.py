"""What `segment` refuses, and that it leaves no trace of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.segmentation.segment import segment

from ..discs import Make, make_photos, state_of
from ..jobs import run_on


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 4))


BAD_CALLS: list[tuple[dict[str, Any], str]] = [
    ({"method": "sam"}, "method 'sam' is not known"),
    ({"method": None}, "method None is not known"),
    ({"model": "sam_vit_x"}, "model 'sam_vit_x' is not known"),
    ({"model": "sam_vit_h"}, "sam_vit_h_4b8939.pth"),
    ({"device": "tpu"}, "device 'tpu'"),
    ({"dtype": "int8"}, "dtype 'int8'"),
    ({"out_field": "my field"}, "out_field 'my field'"),
    ({"out_field": "_x"}, "out_field '_x'"),
    ({"out_field": "ünï"}, "out_field"),
    ({"out_field": 3}, "out_field 3"),
    ({"out_field": "ground_truth"}, "a field 'ground_truth' that no run has written"),
    ({"out_field": "taken"}, "a field 'taken_score' that no run has written"),
    ({"label_field": "labels"}, "no field 'labels'"),
    ({"label_field": None}, "no field None"),
    ({"reference": "5" * 24}, "no sample with id"),
    ({"reference": None}, "NoneType is not a reference"),
    ({"reference": []}, "the reference is empty"),
    ({"label_type": "polylines"}, "label_type 'polylines'"),
    ({"mask_storage": "s3"}, "mask_storage 's3'"),
    ({"masks_dir": 5}, "masks_dir 5 is not a folder"),
    ({"masks_dir": "/proc/masks"}, "cannot be written into /proc/masks"),
    ({"mask_value": 7}, "no pixel of value 7"),
    ({"mask_value": 1.5}, "mask_value 1.5 is not a pixel value"),
    ({"group_by": "objects"}, "no field 'objects'"),
    ({"group_by": 3}, "no field 3"),
    ({"presence_threshold": 2}, "presence_threshold 2 is out of range"),
    ({"presence_threshold": float("nan")}, "out of range"),
    ({"presence_threshold": "high"}, "presence_threshold 'high' is not a number"),
    ({"batch_size": 0}, "batch_size 0"),
    ({"batch_size": 2.5}, "batch_size 2.5"),
    ({"num_workers": -1}, "num_workers -1"),
    ({"skip_existing": True, "overwrite": True}, "contradict each other"),
    ({"mode": "best"}, "mode 'best'"),
    ({"stepps": 5}, "'stepps' is not an argument"),
    ({"method": "persam", "scale_tuning": False}, "'scale_tuning' is not an argument"),
    ({"progress": "yes"}, "progress 'yes'"),
    ({"cache": 5}, "cache 5 is not a cache"),
    ({"cache": "/dev/null/cache"}, "cannot be cached in /dev/null/cache"),
]


@pytest.mark.parametrize(("changes", "message"), BAD_CALLS)
def test_bad_input_leaves_everything_as_it_was(
    photos: fo.Dataset, changes: dict[str, Any], message: str
) -> None:
    photos.add_sample_field("taken_score", fo.FloatField)
    before = state_of(photos)
    with pytest.raises(fp.PersamError, match=message) as caught:
        run_on(photos, **changes)
    assert "\n" not in str(caught.value)
    assert state_of(photos) == before


def test_bad_collections(photos: fo.Dataset, dataset: Make, tmp_path: Path) -> None:
    with pytest.raises(fp.PersamError, match="not a FiftyOne dataset"):
        segment([1, 2], photos.first())
    with pytest.raises(fp.PersamError, match="is empty"):
        run_on(photos.limit(0))
    with pytest.raises(fp.PersamError, match="is empty"):
        segment(dataset(), photos.first())
    grouped = dataset()
    group = fo.Group()
    path = photos.first().filepath
    grouped.add_group_field("group", default="left")
    grouped.add_samples([fo.Sample(path, group=group.element(side)) for side in ("left", "right")])
    with pytest.raises(fp.PersamError, match="is grouped"):
        segment(grouped, photos.first())
