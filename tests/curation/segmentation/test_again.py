"""Another try at what is not accepted: what stays, what goes, and what a refusal changes."""

from __future__ import annotations

from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.handover.promotion import promote
from fiftyone_persam.curation.review.decisions import (
    set_review,
    set_reviews,
    undo_review,
    undo_steps,
)
from fiftyone_persam.curation.review.editing import make_editable
from fiftyone_persam.curation.review.table import ACCEPTED, REJECTED, review_counts, review_table
from fiftyone_persam.curation.review.threshold import set_presence_threshold
from fiftyone_persam.curation.runs.lease import Lease
from fiftyone_persam.curation.segmentation.again import segment_again

from ..discs import SIZE, Make, make_photos, state_of

RUN = "x"


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    """Four photos with a run of sam_lite, which works without its checkpoint being fetched."""
    photos = dataset(make_photos(tmp_path, 4))
    settings = {"method": "persam", "presence_threshold": 0, "mask_storage": "file"}
    fp.segment(photos, photos.first(), model="sam_lite", out_field=RUN, **settings)
    return photos


def draw_corner(photos: fo.Dataset, sample_id: str, field: str) -> np.ndarray:
    """Put a square into a photo's corner, as a label; returns its mask."""
    mask = np.zeros(SIZE, bool)
    mask[:12, :12] = True
    sample = photos[sample_id]
    sample[field] = fo.Detections(detections=[fo.Detection.from_mask(mask, label="object")])
    sample.save()
    return mask


def test_what_is_not_accepted_is_done_anew(photos: fo.Dataset) -> None:
    ids = photos.values("id")
    set_review(photos, RUN, ACCEPTED, [ids[0]])
    set_review(photos, RUN, REJECTED, [ids[1]])
    files = photos.values(f"{RUN}.mask_path")
    kept = Path(files[0]).read_bytes()
    run = segment_again(photos, RUN, photos.last())
    assert run.state == "done" and len(run.config.references) == 2
    assert Path(photos.first()[RUN].mask_path).read_bytes() == kept
    assert list(review_table(photos, RUN).states) == ["accepted", "todo", "todo", "todo"]
    # The rejection was of a mask that is gone: taking it back must not put it onto the new one.
    assert undo_steps(photos, RUN) == 1
    assert undo_review(photos, RUN) == 1
    assert review_counts(photos, RUN).todo == 4


def test_thumbs_that_are_left_stay_one_step(photos: fo.Dataset) -> None:
    ids = photos.values("id")
    set_reviews(photos, RUN, {ACCEPTED: ids[:1]}, sitting="now")
    set_reviews(photos, RUN, {REJECTED: ids[1:2]}, sitting="now")
    segment_again(photos, RUN, photos.last())
    set_reviews(photos, RUN, {ACCEPTED: ids[2:3]}, sitting="now")
    assert undo_steps(photos, RUN) == 1
    assert undo_review(photos, RUN) == 2


def test_corrections_of_masks_that_are_replaced_are_dropped(photos: fo.Dataset) -> None:
    ids = photos.values("id")
    field = make_editable(photos, RUN)
    edited = draw_corner(photos, ids[1], field)
    draw_corner(photos, ids[2], field)
    set_review(photos, RUN, ACCEPTED, [ids[1]])
    segment_again(photos, RUN, photos.last())
    set_review(photos, RUN, ACCEPTED)
    promote(photos, RUN, "final")
    assert photos.exists(field).values("id") == [ids[1]]
    promoted = {sample.id: sample["final"].get_mask() > 0 for sample in photos}
    assert np.array_equal(promoted[ids[1]], edited)
    for i in (ids[0], ids[2], ids[3]):
        assert np.array_equal(promoted[i], photos[i][RUN].get_mask() > 0)


@pytest.mark.parametrize("corrected", [False, True])
def test_a_mask_of_the_run_as_reference_is_accepted(photos: fo.Dataset, corrected: bool) -> None:
    second = photos.values("id")[1]
    field = make_editable(photos, RUN) if corrected else RUN
    run = segment_again(photos, RUN, second, label_field=field)
    assert run.config.references[-1]["label_field"] == field
    table = review_table(photos, RUN)
    assert table.of_state(ACCEPTED) == [second]


def test_the_reviewer_s_threshold_stays(photos: fo.Dataset) -> None:
    set_presence_threshold(photos, RUN, 1.0)
    run = segment_again(photos, RUN, photos.last())
    assert run.counts["absent"] == review_counts(photos, RUN).absent == 4
    assert not any(mask.get_mask().any() for mask in photos.values(RUN))


def test_a_refusal_changes_nothing(photos: fo.Dataset) -> None:
    ids = photos.values("id")
    set_review(photos, RUN, REJECTED, ids[:2])
    make_editable(photos, RUN)
    before = state_of(photos)
    with Lease(photos, RUN), pytest.raises(fp.RunConflictError):
        segment_again(photos, RUN, ids[2], label_field=RUN)
    assert state_of(photos) == before
    assert review_counts(photos, RUN).rejected == 2
    assert undo_steps(photos, RUN) == 1


def test_a_stopped_try_keeps_its_reference(photos: fo.Dataset) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    first = photos.first().id
    with pytest.raises(KeyboardInterrupt):
        segment_again(photos, RUN, first, label_field=RUN, progress=stop)
    assert review_table(photos, RUN).of_state(ACCEPTED) == [first]
    run = fp.resume_run(photos, RUN)
    assert run.state == "done" and review_counts(photos, RUN).total == 4


def test_segmenting_photos_again_forgets_what_was_said_of_them(photos: fo.Dataset) -> None:
    set_review(photos, RUN, ACCEPTED)
    some = photos.limit(2)
    settings = {"method": "persam", "presence_threshold": 0, "mask_storage": "file"}
    fp.segment(some, photos.last(), model="sam_lite", out_field=RUN, overwrite=True, **settings)
    assert list(review_table(photos, RUN).states) == ["todo", "todo", "accepted", "accepted"]


def test_references_of_another_dataset(dataset: Make, tmp_path: Path) -> None:
    """They are looked for where they were recorded; the line says what to do where none is."""
    (tmp_path / "other").mkdir()
    other = dataset(make_photos(tmp_path / "other", 1))
    here = dataset(make_photos(tmp_path, 3))
    settings = {"method": "persam", "presence_threshold": 0}
    fp.segment(here, other.first(), model="sam_lite", out_field=RUN, **settings)
    run = segment_again(here, RUN, here.last())
    homes = [one.dataset for one in run.record.references]
    assert homes == [other.name, here.name]

    other.delete()
    before = state_of(here)
    with pytest.raises(fp.BadReferenceError, match="is gone: give keep_references=False"):
        segment_again(here, RUN, here.last())
    assert state_of(here) == before
    run = segment_again(here, RUN, here.last(), keep_references=False)
    assert [one.dataset for one in run.record.references] == [here.name]


def test_a_reference_that_was_deleted(photos: fo.Dataset) -> None:
    photos.delete_samples([photos.first().id])
    with pytest.raises(fp.BadReferenceError, match="is gone: give keep_references=False"):
        segment_again(photos, RUN, photos.last())
    assert segment_again(photos, RUN, photos.last(), keep_references=False).state == "done"
