"""A folder or file may be given absolute, relative to where one is, or from home with ``~``."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.cli.plugin import install_plugin
from fiftyone_persam.datasets import build_album
from fiftyone_persam.engine import DiskCache

from .discs import disc, make_photos, tiny_sam

STATES = ("todo", "absent")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    made = fo.Dataset()
    made.add_samples(make_photos(tmp_path_factory.mktemp("photos"), 2))
    run_on(made, "x")
    yield made
    made.delete()


def run_on(photos: fo.Dataset, name: str, **changes: Any) -> Any:
    settings = {"method": "persam", "model": tiny_sam(), "mask_storage": "file", **changes}
    return fp.segment(photos, photos.first(), out_field=name, presence_threshold=0, **settings)


def masks_dir(photos: fo.Dataset, folder: Any) -> None:
    run_on(photos, "y", masks_dir=folder)
    assert all(os.path.isabs(path) for path in photos.values("y.mask_path"))
    photos.delete_run("y")  # the files stay
    photos.delete_sample_fields([n for n in photos.get_field_schema() if n.startswith("y")])


def imported(photos: fo.Dataset, folder: Any) -> None:
    build_album(folder, objects=("cat",), photos=2)
    made = curation.import_perseg(folder, "imported", progress=False)
    try:
        assert all(os.path.isabs(path) for path in made.values("filepath"))
    finally:
        made.delete()


def read_by_fiftyone(photos: fo.Dataset, folder: Any) -> None:
    build_album(folder, objects=("cat",), photos=2)
    made = fo.Dataset.from_dir(
        dataset_dir=str(folder), dataset_type=fp.PerSegDataset, progress=False
    )
    try:
        assert all(os.path.isfile(path) for path in made.values("filepath"))
    finally:
        made.delete()


def written_by_fiftyone(photos: fo.Dataset, folder: Any) -> None:
    photos.export(
        str(folder), dataset_type=fp.PerSegDataset, label_field="ground_truth", progress=False
    )


def state(photos: fo.Dataset, folder: Any) -> None:
    reference = fp.Reference(np.zeros((48, 64, 3), np.uint8), mask=disc(20, 24))
    os.makedirs(os.path.expanduser(folder))
    fp.PerSAM(tiny_sam()).fit(reference).save(f"{folder}/fitted")
    fp.PerSAM.load(f"{folder}/fitted", tiny_sam())


CALLS: dict[str, Callable[[fo.Dataset, Any], Any]] = {
    "masks_dir": masks_dir,
    "cache": lambda d, f: run_on(d, "x", overwrite=True, cache=f),
    "DiskCache": lambda d, f: run_on(d, "x", overwrite=True, cache=DiskCache(f)),
    "export": lambda d, f: curation.export_masks(d, "x", f, states=STATES, format="masks"),
    "promote": lambda d, f: curation.promote(d, "x", "mine", STATES, masks_dir=f, overwrite=True),
    "dreambooth": lambda d, f: fp.export_dreambooth(d, "ground_truth", f),
    "import": imported,
    "importer": read_by_fiftyone,
    "exporter": written_by_fiftyone,
    "plugin": lambda d, f: install_plugin(f),
    "album": lambda d, f: build_album(f, objects=("cat",), photos=2),
    "state": state,
}


@pytest.mark.parametrize("spelling", ["absolute", "relative", "home", "path"])
@pytest.mark.parametrize("name", CALLS)
def test_a_folder_in_every_spelling(
    photos: fo.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, spelling: str
) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.chdir(work)
    folder = {
        "absolute": str(tmp_path / "there"),
        "relative": "there",
        "home": "~/there",
        "path": Path("~/there"),
    }[spelling]
    CALLS[name](photos, folder)
    where = {"absolute": tmp_path, "relative": work}.get(spelling, home)
    assert any((where / "there").iterdir())
    assert not (work / "~").exists()
