"""A disk that is full, or files that cannot grow, while a run writes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import fiftyone as fo
import pytest
from PIL import Image

import fiftyone_persam as fp

from .. import jobs
from ..discs import Make, make_photos, tiny_sam
from .survivors import (
    expect_whole,
    masks_of,
    persistent,
    referenced_files,
)

PHOTOS = 12


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return persistent(dataset(make_photos(tmp_path, PHOTOS)))


def test_a_full_disk(photos: fo.Dataset, small_disk: Path) -> None:
    filler = small_disk / "filler"
    filler.write_bytes(bytes(48 * 1024))
    with pytest.raises(fp.PersamError, match=r"No space left on device.*resume the run") as caught:
        jobs.run_on(photos, masks_dir=small_disk)
    assert "\n" not in str(caught.value)
    run = fp.load_run(photos, "x")
    assert run.state == "failed" and "No space left" in run.summary()
    names = [path.name for path in small_disk.iterdir()]
    assert not [name for name in names if name.endswith(".part")]
    for path in referenced_files(photos):
        with Image.open(path) as image:
            image.load()
    filler.unlink()
    small_disk_again = ["mount", "-o", "remount,size=4m", str(small_disk)]
    subprocess.run(small_disk_again, check=True)
    resumed = fp.resume_run(photos, "x", model=tiny_sam(), batch_size=3)
    assert resumed.state == "done" and resumed.counts["segmented"] == PHOTOS
    fp.delete_run(photos, "x")
    assert list(small_disk.iterdir()) == []


def test_files_that_cannot_grow(photos: fo.Dataset, tmp_path: Path) -> None:
    """The same without the right to mount: the process may write no file above some bytes."""
    whole = jobs.run_on(photos, out_field="whole")
    sizes = sorted(path.stat().st_size for path in whole.masks_dir.glob("*.png"))
    expected = masks_of(photos, "whole")
    report = tmp_path / "error.json"
    job = jobs.start(jobs.limited_job, photos.name, str(report), sizes[-1] - 1)
    assert jobs.finish(job) == 0
    kind, message = json.loads(report.read_text())
    assert kind == "WriteError" and "File too large" in message and "resume the run" in message
    photos.reload()
    run = fp.load_run(photos, "x")
    assert run.state == "failed" and run.counts["failed"] == 0
    assert not list(run.masks_dir.glob(".*.part"))
    fp.resume_run(photos, "x", model=tiny_sam(), batch_size=3)
    expect_whole(photos, expected)
