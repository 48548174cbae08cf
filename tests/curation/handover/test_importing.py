from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.handover.importing import import_perseg

from ..discs import Make


def test_a_folder_becomes_a_dataset(album: Path, dataset: Make) -> None:
    made = dataset(import_perseg(album, "imported-cats", objects=["cat"], progress=False))
    assert made.name == "imported-cats" and made.persistent
    assert fo.load_dataset("imported-cats") is made
    assert made.count_values("object") == {"cat": 3}
    assert made.count_values("role") == {"reference": 1, "target": 2}
    assert made.mask_targets["ground_truth"] == {255: "object"}


@pytest.mark.parametrize(
    ("folder", "name", "options", "message"),
    [
        ("nowhere", "new", {}, "is not a folder"),
        (".", "new", {}, "no folder Images/"),
        ("album", "taken", {}, "is a dataset 'taken' already"),
        ("album", "new", {"objects": ["dog"]}, "dog"),
        ("album", "new", {"on_error": "shrug"}, "on_error"),
        ("album", " ", {}, "cannot name a dataset"),
    ],
)
def test_a_failure_leaves_nothing(
    folder: str,
    name: str,
    options: dict,
    message: str,
    album: Path,
    tmp_path: Path,
    dataset: Make,
) -> None:
    taken = dataset(name="taken")
    before = fo.list_datasets()
    path = album if folder == "album" else tmp_path / folder
    with pytest.raises(fp.PersamError, match=message):
        import_perseg(path, name, progress=False, **options)
    assert fo.list_datasets() == before
    assert not taken.deleted and len(taken) == 0
