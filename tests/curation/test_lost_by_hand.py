"""Mask files and fields that somebody has deleted: what still works, and what comes back."""

from __future__ import annotations

import shutil
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from bson import ObjectId

import fiftyone_persam as fp
from fiftyone_persam import curation

from .discs import Make, make_photos, tiny_sam


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    made = dataset(make_photos(tmp_path, 3))
    fp.segment(
        made,
        made.first(),
        method="persam",
        model=tiny_sam(),
        out_field="x",
        mask_storage="file",
        presence_threshold=np.float32(0),
        batch_size=np.int64(2),
        num_workers=np.array(1),
    )
    return made


@pytest.mark.parametrize("folder", [False, True])
def test_mask_files_that_are_gone_are_made_again(photos: fo.Dataset, folder: bool) -> None:
    files = [Path(path) for path in photos.values("x.mask_path")]
    kept = files[1].read_bytes()
    if folder:
        shutil.rmtree(files[1].parent)
    else:
        files[1].unlink()
    count = 3 if folder else 1
    assert f"mask files of {count} photos" in fp.load_run(photos, "x").summary()
    run = fp.resume_run(photos, "x", model=tiny_sam())
    assert run.timings["photos"] == count and "Gone:" not in run.summary()
    photos.reload()
    assert Path(photos.values("x.mask_path")[1]).read_bytes() == kept


@pytest.mark.parametrize("suffix", ["", "_score", "_presence", "_agreement", "_error"])
def test_a_field_deleted_by_hand(photos: fo.Dataset, suffix: str) -> None:
    curation.set_review(photos, "x", "accepted", {photos.first().id})
    photos.delete_sample_field(f"x{suffix}")
    assert [run.name for run in fp.list_runs(photos)] == ["x"]
    assert f"fields x{suffix}: " in fp.load_run(photos, "x").summary()
    run = fp.resume_run(photos, "x", model=tiny_sam())
    assert run.counts["segmented"] == 3
    assert fp.rename_run(photos, "x", "y").counts["segmented"] == 3
    fp.delete_run(photos, "y")
    assert not [name for name in photos.get_field_schema() if name.startswith(("x", "y"))]


def test_ids_of_every_kind(photos: fo.Dataset) -> None:
    ids = photos.values("id")
    kinds = (
        ids,
        set(ids),
        np.array(ids),
        (i for i in ids),
        [ObjectId(i) for i in ids],
        photos.view(),
    )
    for number, kind in enumerate(kinds):
        decision = ("accepted", "rejected")[number % 2]
        assert curation.set_review(photos, "x", decision, kind) == 3
    for states in (("rejected",), {"rejected"}, np.array(["rejected"]), iter(["rejected"])):
        assert len(curation.review_queue(photos, "x", states)) == 3
