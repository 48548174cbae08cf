"""Whose a folder of masks is."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.runs.folders import MARK

from .. import jobs
from ..discs import Make, make_photos, tiny_sam


@pytest.mark.parametrize("begun", [True, False])
def test_a_mark_that_was_cut_off_is_nobodys(dataset: Make, tmp_path: Path, begun: bool) -> None:
    """A process that dies while it writes the mark leaves a part of it, and a run or none."""
    photos: fo.Dataset = dataset(make_photos(tmp_path, 2))
    folder = jobs.run_on(photos, progress=False).masks_dir
    if begun:
        shutil.rmtree(folder)
    else:
        fp.delete_run(photos, "x")
    folder.mkdir(parents=True)
    (folder / f".{MARK}.{uuid.uuid4().hex}.part").write_bytes(b"{")
    if begun:
        run = fp.resume_run(photos, "x", model=tiny_sam())
    else:
        run = jobs.run_on(photos, progress=False)
    assert run.masks_dir == folder and run.counts["segmented"] == 2
    assert not [path for path in folder.iterdir() if path.suffix == ".part"]
    fp.delete_run(photos, "x")
    assert not folder.exists()


def test_a_folder_with_other_files_is_somebody_s(dataset: Make, tmp_path: Path) -> None:
    photos: fo.Dataset = dataset(make_photos(tmp_path, 2))
    folder = jobs.run_on(photos, progress=False).masks_dir
    fp.delete_run(photos, "x")
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    assert jobs.run_on(photos, progress=False).masks_dir != folder
