from __future__ import annotations

import fiftyone as fo
import numpy as np
import pytest

from fiftyone_persam.curation.review import store
from fiftyone_persam.curation.review.decisions import (
    forget_review,
    rename_review,
    set_review,
    set_reviews,
    undo_review,
    undo_steps,
)
from fiftyone_persam.curation.review.table import review_counts, review_queue, review_view
from fiftyone_persam.curation.review.threshold import presence_changes, set_presence_threshold
from fiftyone_persam.curation.runs.presence import presence_threshold
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, THRESHOLD, ids_of, photos_of, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return reviewed_run(dataset, tmp_path)


def test_every_photo_of_the_run_is_in_one_state(album):
    counts = review_counts(album, RUN)
    assert (counts.todo, counts.absent, counts.failed) == (4, 1, 1)
    assert counts.total == 6  # the seventh photo was never touched


@pytest.mark.parametrize(
    ("state", "photos"),
    [
        ("todo", {"sure", "good", "low_score", "low_presence"}),
        ("absent", {"absent"}),
        ("failed", {"failed"}),
        ("accepted", set()),
    ],
)
def test_view_of_a_state(album, state, photos):
    assert set(photos_of(review_view(album, RUN, state))) == photos


def test_queue_begins_with_the_most_doubtful_by_any_signal(album):
    queue = photos_of(review_queue(album, RUN))
    assert queue[0] == "low_score" and queue[-1] == "sure"
    assert queue.index("low_presence") < queue.index("good")


def test_passes_that_disagree_are_doubtful(album):
    album.add_sample_field("mine_agreement", fo.FloatField)
    values = dict.fromkeys(ids_of(album, "low_score", "low_presence", "good", "absent"), 0.9)
    album.set_values("mine_agreement", {**values, ids_of(album, "sure")[0]: 0.2}, key_field="id")
    assert set(photos_of(review_queue(album, RUN))[:2]) == {"low_score", "sure"}


def test_a_photo_without_its_main_field_is_not_done(album):
    """A process that died in between leaves scores, but no mask."""
    album.select(ids_of(album, "good")).clear_sample_field(RUN)
    assert review_counts(album, RUN).todo == 3


def test_queue_loses_what_is_decided(album):
    set_review(album, RUN, "accepted", ids_of(album, "low_score"))
    assert photos_of(review_queue(album, RUN))[0] == "low_presence"


def test_decisions_are_in_the_database_at_once(album):
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    set_review(album, RUN, "rejected", ids_of(album, "low_score"))
    stored = dict(zip(*album.values(["photo", "mine_review"]), strict=True))
    assert stored["sure"] == stored["good"] == "accepted"
    assert stored["low_score"] == "rejected"
    assert stored["low_presence"] is None
    counts = review_counts(album, RUN)
    assert (counts.todo, counts.accepted, counts.rejected) == (1, 2, 1)


def test_review_of_a_view_leaves_the_rest(album):
    view = album.select(ids_of(album, "sure", "untouched"))
    assert set_review(view, RUN, "accepted") == 1
    assert photos_of(album.match(fo.ViewField("mine_review") == "accepted")) == ["sure"]


def test_undo_takes_steps_back_one_by_one(album):
    sure, low = ids_of(album, "sure", "low_score")
    set_review(album, RUN, "accepted", [sure, low])
    set_review(album, RUN, "rejected", [low])
    assert undo_review(album, RUN) == 1
    assert photos_of(review_view(album, RUN, "accepted")) == ["sure", "low_score"]
    assert undo_review(album, RUN) == 2
    assert review_counts(album, RUN).accepted == 0
    assert undo_review(album, RUN) == 0


def test_thumbs_up_and_down_are_one_step(album):
    sure, low = ids_of(album, "sure", "low_score")
    assert set_reviews(album, RUN, {"accepted": [sure], "rejected": [low]}) == 2
    assert undo_steps(album, RUN) == 1
    assert undo_review(album, RUN) == 2


def test_the_same_decision_again_is_no_step(album):
    ids = ids_of(album, "sure")
    set_review(album, RUN, "accepted", ids)
    assert set_review(album, RUN, "accepted", ids) == 0
    assert undo_steps(album, RUN) == 1


def test_undo_skips_photos_that_were_deleted(album):
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    album.delete_samples(ids_of(album, "sure"))
    assert undo_review(album, RUN) == 1


def test_undo_survives_a_new_process(album):
    """Nothing of a review lives in memory: another handle on the dataset can undo it."""
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    fo.core.dataset.Dataset._instances.pop(album.name, None)
    again = fo.load_dataset(album.name)
    assert undo_review(again, RUN) == 1


def test_undo_steps_are_bounded(album, monkeypatch):
    monkeypatch.setattr(store, "UNDO_STEPS", 3)
    ids = ids_of(album, "sure")
    for _ in range(4):
        set_review(album, RUN, "accepted", ids)
        set_review(album, RUN, None, ids)
    assert undo_steps(album, RUN) == 3


def test_threshold_comes_from_the_run(album):
    assert presence_threshold(album, RUN) == THRESHOLD


@pytest.mark.parametrize(
    ("threshold", "absent", "changes"), [(0.05, 0, 1), (0.5, 2, 1), (0.82, 3, 2)]
)
def test_threshold_moves_photos(album, threshold, absent, changes):
    assert presence_changes(album, RUN, threshold) == changes
    assert set_presence_threshold(album, RUN, threshold) == changes
    assert review_counts(album, RUN).absent == absent
    assert undo_review(album, RUN) == changes
    assert review_counts(album, RUN).absent == 1
    assert presence_threshold(album, RUN) == THRESHOLD


def test_masks_of_absent_photos_are_withheld_and_come_back(album):
    (photo,) = ids_of(album, "low_presence")
    mask = album[photo][RUN].get_mask()
    set_presence_threshold(album, RUN, 0.5)
    assert not album[photo][RUN].get_mask().any()
    set_presence_threshold(album, RUN, 0.3)
    assert np.array_equal(album[photo][RUN].get_mask(), mask)
    undo_review(album, RUN)
    assert not album[photo][RUN].get_mask().any()
    undo_review(album, RUN)
    assert np.array_equal(album[photo][RUN].get_mask(), mask)


def test_decided_photos_do_not_care_about_the_threshold(album):
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    set_presence_threshold(album, RUN, 1.0)
    counts = review_counts(album, RUN)
    assert (counts.accepted, counts.todo, counts.absent) == (1, 0, 4)


@pytest.mark.parametrize(
    ("call", "names"),
    [
        (lambda d: review_counts(d, "other"), "'other'"),
        (lambda d: set_review(d, "other", "accepted"), "'other'"),
        (lambda d: set_review(d, RUN, "maybe"), "'maybe'"),
        (lambda d: set_review(d, RUN, "accepted", ids_of(d, "untouched")), "no result"),
        (lambda d: review_view(d, RUN, "done"), "'done'"),
        (lambda d: set_presence_threshold(d, RUN, float("nan")), "nan"),
        (lambda d: undo_review(d, "other"), "'other'"),
    ],
)
def test_bad_calls_say_what_and_change_nothing(album, call, names):
    before = album.to_dict()
    with pytest.raises(PersamError, match=names) as raised:
        call(album)
    assert "\n" not in str(raised.value)
    after = album.to_dict()
    before.pop("last_modified_at", None), after.pop("last_modified_at", None)
    assert after == before


def test_forgetting_a_review_leaves_no_trace(album):
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    set_presence_threshold(album, RUN, 0.6)
    forget_review(album, RUN)
    assert not album.has_field("mine_review")
    assert undo_steps(album, RUN) == 0
    assert presence_threshold(album, RUN) == THRESHOLD


def test_a_review_follows_its_run_to_a_new_name(album):
    set_review(album, RUN, "accepted", ids_of(album, "sure"))
    rename_review(album, RUN, "yours")
    assert album.has_field("yours_review") and not album.has_field("mine_review")
    assert undo_steps(album, "yours") == 1


def test_all_slices_of_a_grouped_dataset(dataset, tmp_path):
    album = reviewed_run(dataset, tmp_path, grouped=True)
    assert len(album) == 4 and review_counts(album, RUN).total == 6
    assert photos_of(review_queue(album, RUN))[0] == "low_score"
    set_review(album, RUN, "accepted", ids_of(album, "low_score", "low_presence"))
    assert set(photos_of(review_view(album, RUN, "accepted"))) == {
        "low_score",
        "low_presence",
    }
    assert undo_review(album, RUN) == 2
    assert set_presence_threshold(album, RUN, 0.82) == 2  # one of either slice
    assert review_counts(album, RUN).absent == 3
    assert undo_review(album, RUN) == 2


def test_a_failed_photo_cannot_be_accepted(album):
    failed, sure = ids_of(album, "failed", "sure")
    assert set_review(album, RUN, "accepted", [failed, sure]) == 1
    assert set_review(album, RUN, "accepted") == 4
    counts = review_counts(album, RUN)
    assert (counts.accepted, counts.failed) == (5, 1)
    # Not even one that an earlier version has let through.
    album.set_values("mine_review", {failed: "accepted"}, key_field="id")
    assert review_counts(album, RUN) == counts


def test_a_failed_photo_with_a_mask_drawn_by_hand_can_be_accepted(album):
    (failed,) = ids_of(album, "failed")
    sample = album[failed]
    sample[RUN] = fo.Segmentation(mask=np.ones((40, 60), np.uint8))
    sample.save()
    assert set_review(album, RUN, "accepted", [failed]) == 1
    assert photos_of(review_view(album, RUN, "accepted")) == ["failed"]


def test_decisions_of_one_sitting_are_undone_together(album):
    sure, good, low = ids_of(album, "sure", "good", "low_score")
    set_reviews(album, RUN, {"accepted": [sure]}, sitting="a")
    set_reviews(album, RUN, {"rejected": [sure, good]}, sitting="a")
    set_reviews(album, RUN, {"accepted": [low]}, sitting="b")
    assert undo_steps(album, RUN) == 2
    assert (undo_review(album, RUN), undo_review(album, RUN)) == (1, 2)
    assert review_counts(album, RUN).todo == 4
