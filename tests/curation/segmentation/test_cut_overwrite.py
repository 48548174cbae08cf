"""An overwrite that a full disk cuts off, and what a resume makes of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp

from .. import jobs
from ..discs import Make, make_photos, tiny_sam
from .survivors import persistent

PHOTOS = 6


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return persistent(dataset(make_photos(tmp_path, PHOTOS)))


def masks_of(photos: fo.Dataset, run: str) -> dict[str, Any]:
    """What a run has found, by photo; None where it has nothing."""
    found = {}
    for sample in photos:
        kept = sample[f"{run}_withheld"] if photos.has_field(f"{run}_withheld") else None
        label = kept or sample[run]
        found[sample.filename] = None if label is None else label.get_mask()
    return found


def expect_new(photos: fo.Dataset, resumed: bool) -> None:
    """Masks are those of the new settings; before a resume some photos have none."""
    found, new, old = (masks_of(photos, name) for name in ("x", "new", "old"))
    assert any((new[name] != old[name]).any() for name in new)
    for name, mask in found.items():
        assert mask is not None or not resumed, name
        if mask is not None:
            assert (mask != new[name]).mean() < 0.005, name
    made = all(mask is not None for mask in found.values())
    assert made == resumed


def with_both(photos: fo.Dataset) -> dict[str, Any]:
    """Runs of the old and of the new settings, and the new settings."""
    new = {"reference": photos.last(), "presence_threshold": 0.5, "label_type": "segmentation"}
    plain = {"similarity": False, "prompts": False, "label_type": "segmentation"}
    jobs.run_on(photos, out_field="old", **plain)
    jobs.run_on(photos, out_field="new", **{**plain, **new})
    return {**plain, **new}


def test_a_full_disk(photos: fo.Dataset, small_disk: Path) -> None:
    new = with_both(photos)
    plain = {name: new[name] for name in ("similarity", "prompts", "label_type")}
    jobs.run_on(photos, masks_dir=small_disk, batch_size=1, **plain)
    with pytest.raises(fp.PersamError, match="No space left on device"):
        filler = small_disk / "filler"

        def fill(done: int, total: int) -> None:
            """The disk becomes full when two photos are written."""
            if done == 2 and not filler.exists():
                with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))

        jobs.run_on(
            photos, masks_dir=small_disk, batch_size=1, overwrite=True, progress=fill, **new
        )
    assert fp.load_run(photos, "x").state == "failed"
    expect_new(photos, resumed=False)
    filler.unlink()
    run = fp.resume_run(photos, "x", model=tiny_sam())
    assert run.state == "done" and run.counts["segmented"] == PHOTOS
    expect_new(photos, resumed=True)


@pytest.mark.parametrize("largest", [1, 0])
def test_files_that_cannot_grow(photos: fo.Dataset, tmp_path: Path, largest: int) -> None:
    """The same without the right to mount: no file, or not the largest, can be written."""
    new = with_both(photos)
    plain = {name: new.pop(name) for name in ("similarity", "prompts", "label_type")}
    run = jobs.run_on(photos, **plain)
    sizes = [path.stat().st_size for path in fp.load_run(photos, "new").masks_dir.glob("*.png")]
    report = tmp_path / "error.json"
    limit = max(sizes) - 1 if largest else 1
    job = jobs.start(
        jobs.limited_job, photos.name, str(report), limit, overwrite=True, last=True, **plain
    )
    assert jobs.finish(job) == 0
    kind, message = json.loads(report.read_text())
    assert kind == "WriteError" and "File too large" in message, message
    photos.reload()
    assert fp.load_run(photos, "x").state == "failed"
    expect_new(photos, resumed=False)
    fp.resume_run(photos, "x", model=tiny_sam(), batch_size=3)
    expect_new(photos, resumed=True)
    named = {Path(path) for name in ("x", "x_withheld") for path in _paths(photos, name)}
    assert set(run.masks_dir.glob("*.png")) == named


def _paths(photos: fo.Dataset, field: str) -> list[str]:
    if not photos.has_field(field):
        return []
    return [path for path in photos.values(f"{field}.mask_path") if path]
