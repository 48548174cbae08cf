"""Mask files and fields that somebody has deleted: what still works, and what comes back."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from bson import ObjectId
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.errors import PersamError

from .discs import SIZE, Make, make_photos, tiny_sam

STATES = ("todo", "accepted", "rejected", "absent")


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


# What still works, whatever is gone ---------------------------------------------------------------

NO_MASKS = "run 'x' has no masks, because field 'x' was deleted: resume_run"
GONE = "mask files of .*are gone.*resume_run"


def make_runs(photos: fo.Dataset) -> fo.Dataset:
    """Runs "x", which has every field there is, and "w"."""
    every = {"label_type": "both", "similarity": True, "prompts": True}
    for name, options in (("x", every), ("w", {})):
        fp.segment(
            photos,
            photos.first(),
            method="persam",
            model=tiny_sam(),
            out_field=name,
            mask_storage="file",
            presence_threshold=0,
            **options,
        )
    return photos


def make_scenes(folder: Path) -> list[Any]:
    """Three photos, the last one without the object: a threshold between them is no near thing."""
    samples = make_photos(folder, 3)
    noise = np.random.default_rng(5).integers(0, 255, (*SIZE, 3)).astype(np.uint8)
    Image.fromarray(noise).save(samples[-1].filepath)
    return samples


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    made = fo.Dataset()
    made.add_samples(make_scenes(tmp_path_factory.mktemp("photos")))
    yield make_runs(made)
    made.delete()


@pytest.fixture
def rich(
    original: fo.Dataset, dataset: Make, tmp_path: Path, request: pytest.FixtureRequest
) -> fo.Dataset:
    """One photo accepted, one absent. A clone is faster; whoever removes files has its own."""
    if "folder" in request.node.callspec.params.values():
        made = make_runs(dataset(make_scenes(tmp_path)))
    else:
        made = dataset(original.clone())
    curation.set_review(made, "x", "accepted", [made.first().id])
    second, third = sorted(made.skip(1).values("x_presence"))
    curation.set_presence_threshold(made, "x", (second + third) / 2)
    return made


def export(photos: fo.Dataset) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        return curation.export_masks(photos, "x", folder, format="coco", states=STATES)


# Name -> call, and what it says where the masks' field, instances, presences or files are gone.
CALLS: dict[str, tuple[Callable[[fo.Dataset], Any], dict[str, str]]] = {
    "review": (lambda d: curation.set_review(d, "x", "rejected"), {}),
    "undo": (
        lambda d: (curation.undo_review(d, "x"), curation.undo_review(d, "x")),
        {"x_presence": "no threshold can be moved: segment", "folder": GONE},
    ),
    "threshold": (
        lambda d: curation.set_presence_threshold(d, "x", 1),
        {"x_presence": "no threshold can be moved: segment", "folder": GONE},
    ),
    "evaluate": (
        lambda d: fp.evaluate(d, "x", "ground_truth"),
        {"x": NO_MASKS, "folder": "none of 2 photos can be compared"},
    ),
    "compare": (
        lambda d: curation.compare_runs(d, "x", "w"),
        {"x": NO_MASKS, "folder": "none of 3 photos can be compared"},
    ),
    "edit": (lambda d: curation.make_editable(d, "x"), {"x": NO_MASKS}),
    "promote": (
        lambda d: curation.promote(d, "x", "mine", states=STATES),
        {"x": NO_MASKS, "folder": GONE},
    ),
    "export": (export, {"x": NO_MASKS, "folder": GONE}),
}

FIELDS = ("score", "presence", "agreement", "error", "similarity", "prompts", "review")
LOST = (
    "x",
    "x_instances",
    "x_withheld",
    "x_instances_withheld",
    *(f"x_{suffix}" for suffix in FIELDS),
    "folder",
)


@pytest.mark.parametrize("lost", LOST)
def test_what_is_left_works(rich: fo.Dataset, lost: str) -> None:
    """Every call works on what is left, or says in one line what is gone and what brings it."""
    if lost == "folder":
        shutil.rmtree(fp.load_run(rich, "x").masks_dir)
    else:
        rich.delete_sample_field(lost)
    absent = 0 if lost == "x" else 1
    assert {run.name for run in fp.list_runs(rich)} == {"x", "w"}
    run = fp.load_run(rich, "x")
    assert run.counts["segmented"] == (0 if lost == "x" else 3)
    assert run.counts["absent"] == absent
    assert curation.review_counts(rich, "x").absent == absent
    if lost != "x_review":  # nobody may ever have looked at a mask
        assert any(line.startswith(("Deleted:", "Gone:")) for line in run.summary().splitlines())
    for call, refusals in CALLS.values():
        if lost not in refusals:
            call(rich)
            continue
        before = rich.values("x_review") if rich.has_field("x_review") else None
        with pytest.raises(PersamError, match=refusals[lost]) as caught:
            call(rich)
        assert "\n" not in str(caught.value)
        assert rich.has_field("x_review") == (before is not None)


@pytest.mark.parametrize("lost", LOST)
def test_what_comes_back(rich: fo.Dataset, lost: str) -> None:
    """A resume makes masks again; a run that has lost anything is renamed and deleted whole."""
    shown = {i: Path(path).read_bytes() for i, path in masks_of(rich, "x").items()}
    kept = {i: Path(path).read_bytes() for i, path in masks_of(rich, "x_withheld").items()}
    assert len(shown) == 3 and len(kept) == 1
    decisions = rich.values("x_review")
    folder = fp.load_run(rich, "x").masks_dir
    if lost == "folder":
        shutil.rmtree(folder)
    else:
        rich.delete_sample_field(lost)
    run = fp.resume_run(rich, "x", model=tiny_sam())
    assert run.counts["segmented"] == 3
    assert {i: Path(path).read_bytes() for i, path in masks_of(rich, "x").items()} == shown
    assert {i: Path(path).read_bytes() for i, path in masks_of(rich, "x_withheld").items()} == kept
    assert [d is not None for d in rich.values("x_instances")] == [True] * 3
    if lost != "x_review":
        assert rich.values("x_review") == decisions
    made_again = ("x", "x_instances", "x_withheld", "x_instances_withheld", "x_review", "folder")
    assert ("Deleted:" in run.summary()) == (lost not in made_again)
    assert fp.rename_run(rich, "x", "y").counts["segmented"] == 3
    fp.delete_run(rich, "y")
    assert not [name for name in rich.get_field_schema() if name.startswith(("x", "y"))]
    if lost == "folder":
        assert not folder.exists()


def masks_of(photos: fo.Dataset, field: str) -> dict[str, str]:
    photos.reload()
    ids, paths = photos.exists(field).values(["id", f"{field}.mask_path"])
    return dict(zip(ids, paths, strict=True))


@pytest.mark.parametrize("lost", ["all"])
def test_every_field_deleted(rich: fo.Dataset, lost: str) -> None:
    rich.delete_sample_fields([name for name in rich.get_field_schema() if name.startswith("x")])
    assert fp.load_run(rich, "x").counts == {
        "segmented": 0, "absent": 0, "failed": 0, "remaining": 3
    }  # fmt: skip
    assert fp.resume_run(rich, "x", model=tiny_sam()).counts["segmented"] == 3


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
