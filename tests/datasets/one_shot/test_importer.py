"""One-shot benchmarks as FiftyOne datasets."""

from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_persam.datasets import OneShotDataset
from fiftyone_persam.errors import DatasetLayoutError, PersamError

from .layouts import write_coco, write_fss, write_lvis, write_paco, write_pascal


def load(dataset, root, **options):
    return dataset(
        fo.Dataset.from_dir(
            dataset_dir=str(root), dataset_type=OneShotDataset, progress=False, **options
        )
    )


@pytest.mark.parametrize(
    ("write", "name", "photos", "folds"),
    [
        (write_fss, "fss1000", 20, {0}),
        (write_lvis, "lvis92i", 30, set(range(10))),
        (write_coco, "coco20i", 24, {0, 1, 2, 3}),
        (write_paco, "paco_part", 6, {0, 1, 2, 3}),
        (write_pascal, "pascal_part", 6, {0}),
    ],
)
def test_fields_say_class_fold_and_part(write, name, photos, folds, dataset, source, tmp_path):
    loaded = load(dataset, write(tmp_path, source), benchmark=name)
    assert len(loaded) == photos and loaded.info["benchmark"] == name
    assert set(loaded.distinct("folds")) == folds
    assert set(loaded.distinct("classes")) == set(loaded.distinct("ground_truth.detections.label"))
    assert set(loaded.distinct("ground_truth.detections.fold")) == folds
    parts = set(loaded.distinct("parts"))
    assert parts == {"paco_part": {"top", "bottom"}, "pascal_part": {"TOP"}}.get(name, set())


def test_masks_lie_where_they_were(dataset, source, tmp_path):
    loaded = load(dataset, write_paco(tmp_path, source), benchmark="paco_part")
    first = loaded.sort_by("filepath").first()
    _, truth = source.pair(source.objects[0], 0)
    union = np.zeros_like(truth)
    for detection in first.ground_truth.detections:
        size = truth.shape[::-1]
        union |= detection.to_segmentation(frame_size=size).mask > 0
    np.testing.assert_array_equal(union, truth)


def test_folds_can_be_chosen(dataset, source, tmp_path):
    loaded = load(dataset, write_coco(tmp_path, source), benchmark="coco20i", folds=[1, 3])
    assert set(loaded.distinct("classes")) == {f"class_{i}" for i in (1, 3, 5, 7)}


def test_a_fault_adds_nothing_or_is_listed(dataset, source, tmp_path):
    write_fss(tmp_path, source)
    (tmp_path / "data" / source.objects[0] / "3.png").write_bytes(b"no image")
    before = set(fo.list_datasets())
    with pytest.raises(DatasetLayoutError, match=r"3\.png cannot be read"):
        load(dataset, tmp_path, benchmark="fss1000", name="broken-one-shot")
    if "broken-one-shot" in fo.list_datasets():  # FiftyOne makes the dataset before it reads
        assert not len(fo.load_dataset("broken-one-shot"))
        fo.delete_dataset("broken-one-shot")
    assert set(fo.list_datasets()) == before
    loaded = load(dataset, tmp_path, benchmark="fss1000", on_error="skip")
    assert len(loaded) == 19
    assert "3.png" in loaded.info["skipped"][0]["reason"]


def test_bad_options(dataset, source, tmp_path):
    write_fss(tmp_path, source)
    for options, message in (
        ({"benchmark": "imagenet"}, "no benchmark 'imagenet'"),
        ({"folds": [7]}, "no fold 7"),
        ({"on_error": "ignore"}, "on_error 'ignore'"),
    ):
        with pytest.raises(PersamError, match=message):
            load(dataset, tmp_path, **options)
