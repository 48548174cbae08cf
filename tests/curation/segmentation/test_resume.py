"""Runs that are gone on with when the world around them has changed."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import pytest
import torch
from fiftyone import ViewField as F

import fiftyone_persam as fp
from fiftyone_persam.sam.lite import build_sam_lite

from ..discs import Make, make_photos, tiny_sam
from ..jobs import run_on


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 4))


def interrupt(photos: fo.Dataset, **changes: object) -> None:
    """Stop a run after its first photos."""

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on(photos, batch_size=1, presence_threshold=0, progress=stop, **changes)
    assert 0 < photos.count("x") < 4


def test_a_dataset_that_was_renamed(photos: fo.Dataset, dataset: Make, tmp_path: Path) -> None:
    old = photos.name
    interrupt(photos)
    photos.name = f"{old}-renamed"
    dataset(name=old).persistent = False  # another one under the old name
    run = fp.resume_run(photos, "x", model=tiny_sam())
    assert run.state == "done" and run.counts["segmented"] == 4


def test_a_reference_whose_dataset_is_gone(photos: fo.Dataset, dataset: Make) -> None:
    other = dataset([photos.first().copy()])
    interrupt(photos, reference=other.first())
    name = other.name
    other.delete()
    with pytest.raises(fp.BadReferenceError, match=f"'{name}' is gone: start the run again"):
        fp.resume_run(photos, "x", model=tiny_sam())


def test_a_clone_has_the_references_of_its_original(photos: fo.Dataset, dataset: Make) -> None:
    interrupt(photos)
    clone = dataset(photos.clone())
    photos.delete()
    assert fp.resume_run(clone, "x", model=tiny_sam()).counts["segmented"] == 4


def test_a_label_that_a_view_has_chosen(photos: fo.Dataset) -> None:
    """The view shows one of two labels, so that none needs to be chosen: the run knows which."""
    boxes = [fo.Detection(label=n, bounding_box=[0.1, 0.1, 0.5, 0.6]) for n in ("cat", "dog")]
    first = photos.first()
    first["animals"] = fo.Detections(detections=boxes)
    first.save()
    dogs = photos.filter_labels("animals", F("label") == "dog")
    interrupt(photos, reference=dogs, label_field="animals")
    (recorded,) = fp.load_run(photos, "x").record.references
    assert recorded.label_id == boxes[1].id
    # Saved anew, as annotation tools do, the label has another id and is the same.
    first["animals"] = fo.Detections(detections=[boxes[1].copy()])
    first.save()
    assert fp.resume_run(photos, "x", model=tiny_sam()).counts["segmented"] == 4


def test_a_patch_stands_for_its_photo(photos: fo.Dataset) -> None:
    boxes = [fo.Detection(label=n, bounding_box=[0.1, 0.1, 0.5, 0.6]) for n in ("cat", "dog")]
    first = photos.first()
    first["animals"] = fo.Detections(detections=boxes)
    first.save()
    patches = photos.to_patches("animals")
    interrupt(photos, reference=patches.skip(1).first(), label_field="animals")
    (recorded,) = fp.load_run(photos, "x").config.references
    assert (recorded["sample_id"], recorded["label_id"]) == (first.id, boxes[1].id)
    assert recorded["dataset"] == photos.name
    patches._dataset.delete()
    assert fp.resume_run(photos, "x", model=tiny_sam()).state == "done"


def test_a_model_of_your_own_with_other_weights(photos: fo.Dataset) -> None:
    interrupt(photos)
    torch.manual_seed(1)
    with pytest.raises(fp.RunConflictError, match="has other weights than the run began with"):
        fp.resume_run(photos, "x", model=build_sam_lite(64).eval())
    assert fp.resume_run(photos, "x", model=tiny_sam()).state == "done"


def test_skip_existing_ends_a_run_that_was_only_stopped(photos: fo.Dataset) -> None:
    def stop(done: int, total: int) -> None:
        if done == total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on(photos, presence_threshold=0, progress=stop)
    assert fp.load_run(photos, "x").state == "interrupted" and photos.count("x") == 4
    assert run_on(photos, presence_threshold=0, skip_existing=True).state == "done"
