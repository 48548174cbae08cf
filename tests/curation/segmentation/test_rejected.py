"""What a review has rejected outlives its masks and its run, until somebody takes it back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.curation.forms.references import rejected_count
from fiftyone_persam.curation.labels.masks import shown_mask
from tests.curation.scenes import scenes

RUN = "mine"


@pytest.fixture
def photos(album: Path, dataset: Callable[..., fo.Dataset], tmp_path: Path) -> fo.Dataset:
    """The cat, and the cup: a run of the cat masks the cup, too, and that is rejected."""
    made = dataset(scenes(album, tmp_path)[:2])
    run(made, RUN)
    curation.set_review(made, RUN, "rejected", [made.last().id])
    return made


def run(photos: Any, name: str, reference: Any = None, **options: Any) -> Any:
    options = {"method": "persam", "presence_threshold": 0, **options}
    reference = photos.first().id if reference is None else reference
    return fp.segment(photos, reference, "labels", out_field=name, **options)


def negatives(made: Any) -> list[tuple[str, str]]:
    return [(one.sample_id, one.label_field) for one in made.record.negatives]


def test_a_deleted_run_still_teaches_the_next_one(photos: fo.Dataset) -> None:
    cat, cup = photos.values("id")
    wrong, presence = shown_mask(photos[cup], RUN), photos[cup][f"{RUN}_presence"]
    assert rejected_count(photos, [cat]) == 1 and rejected_count(photos, [cup]) == 0
    fp.rename_run(photos, RUN, "named")
    fp.delete_run(photos, "named")
    assert sorted(set(photos.get_field_schema()) - {"labels", "shows"}) == [
        *("created_at", "filepath", "id", "last_modified_at", "metadata", "named_rejected", "tags")
    ]
    (kept,) = photos[cup]["named_rejected"].detections
    assert np.array_equal(shown_mask(photos[cup], "named_rejected"), wrong)
    assert kept.label == "not cat" and kept.confidence == pytest.approx(presence)
    assert rejected_count(photos, [cat]) == 1 and rejected_count(photos, [cup]) == 0
    second = run(photos, "second")
    assert negatives(second) == [(cup, "named_rejected")]
    assert photos[cup]["second_presence"] < 0.5
    # What that run has learnt from outlives it, too, under the same label.
    fp.delete_run(photos, "second")
    assert negatives(run(photos, "third")) == [(cup, "named_rejected")]
    assert negatives(run(photos, "stranger", reference=cup)) == []
    assert negatives(run(photos, "deaf", use_rejected=False)) == []


def test_a_run_that_may_not_learn_from_it_keeps_it_for_others(photos: fo.Dataset) -> None:
    cat, cup = photos.values("id")
    again = curation.segment_again(photos, RUN, cat, "labels", use_rejected=False)
    assert negatives(again) == [] and curation.review_counts(photos, RUN).rejected == 0
    assert negatives(run(photos, "second")) == [(cup, f"{RUN}_rejected")]


def test_the_last_word_counts(photos: fo.Dataset) -> None:
    cup = photos.last().id
    assert negatives(run(photos, "second")) == [(cup, "second_rejected")]
    curation.set_review(photos, RUN, "accepted", [cup])
    assert negatives(run(photos, "third")) == []
    curation.undo_review(photos, RUN)
    assert negatives(run(photos, "fourth")) == [(cup, "second_rejected")]


def test_what_was_undone_is_not_kept(photos: fo.Dataset) -> None:
    curation.undo_review(photos, RUN)
    fp.delete_run(photos, RUN)
    assert not photos.has_field(f"{RUN}_rejected")


def test_where_it_cannot_be_kept(photos: fo.Dataset, caplog: pytest.LogCaptureFixture) -> None:
    """A locked field stops the deletion, which has changed nothing; another use of it does not."""
    name = f"{RUN}_rejected"
    curation.mark_reference(photos.last(), (10, 10, 50, 50), field=name)
    field = photos.get_field(name)
    field.read_only = True
    field.save()
    before = sorted(photos.get_field_schema())
    with pytest.raises(fp.PersamError, match=f"{name!r} is locked") as caught:
        fp.delete_run(photos, RUN)
    assert "\n" not in str(caught.value) and sorted(photos.get_field_schema()) == before
    field.read_only = False
    field.save()
    photos.delete_sample_field(name)
    photos.add_sample_field(name, fo.StringField)
    fp.delete_run(photos, RUN)
    assert f"is not kept: field {name!r} does not hold Detections" in caplog.text
    assert fp.list_runs(photos) == []
