"""One threshold is in force: whoever counts, shows, resumes and reviews a run uses the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation import review_counts, set_presence_threshold, set_review
from fiftyone_persam.curation.runs.fields import WITHHELD
from fiftyone_persam.curation.runs.presence import presence_threshold

from ..discs import Make, make_photos, tiny_sam
from ..jobs import run_on


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> Iterator[fo.Dataset]:
    yield dataset(make_photos(tmp_path, 4))


def states(photos: fo.Dataset) -> dict[str, tuple[float, bool]]:
    """Of each photo that is done: its presence, and whether its mask is shown."""
    ids, presence, labels = photos.exists("x").values(["id", "x_presence", "x"])
    return {
        i: (p, bool((label.get_mask() > 0).any()))
        for i, p, label in zip(ids, presence, labels, strict=True)
    }


def check(photos: fo.Dataset, threshold: float) -> None:
    """Counts of the run and of its review, and the masks, say the same of every photo."""
    photos.reload()
    assert presence_threshold(photos, "x") == pytest.approx(threshold)
    found = states(photos)
    absent = [i for i, (presence, _) in found.items() if presence < threshold]
    assert fp.load_run(photos, "x").counts["absent"] == len(absent)
    assert review_counts(photos, "x").absent == len(absent)
    assert sorted(i for i, (_, shown) in found.items() if not shown) == sorted(absent)


def between(photos: fo.Dataset) -> float:
    """Spread the presences of what is done, and give a threshold with photos on both sides.

    The tiny model is sure of nothing: whatever it segments from now on is below the threshold.
    """
    ids = list(states(photos))
    values = {i: 0.3 + 0.1 * index for index, i in enumerate(ids)}
    photos.set_values("x_presence", values, key_field="id")
    return 0.35


def test_a_run_is_resumed_with_the_reviewers_threshold(photos: fo.Dataset) -> None:
    run_on(photos, presence_threshold=0)

    def stop(done: int, total: int) -> None:
        if done > 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_on(photos, presence_threshold=0, overwrite=True, batch_size=1, progress=stop)
    threshold = between(photos)
    assert 0 < photos.count("x") < 4
    set_presence_threshold(photos, "x", threshold)
    fp.resume_run(photos, "x", model=tiny_sam())
    check(photos, threshold)


@pytest.mark.parametrize("label_type", ["segmentation", "both"])
@pytest.mark.parametrize("reviewed", [False, True])
def test_another_threshold_counts_for_photos_that_keep_their_masks(
    photos: fo.Dataset, reviewed: bool, label_type: str
) -> None:
    kept = photos.limit(3)
    settings: dict[str, Any] = {
        "reference": photos.first(),
        "label_type": label_type,
        "similarity": False,
    }
    run_on(kept, presence_threshold=0, **settings)
    check(photos, 0.0)
    threshold = between(photos)
    before = states(photos)
    if reviewed:
        set_presence_threshold(photos, "x", 1.0)
        check(photos, 1.0)
    run_on(photos, presence_threshold=threshold, skip_existing=True, **settings)
    check(photos, threshold)
    # And back: what was withheld is as it was.
    run_on(photos.skip(3), presence_threshold=0, overwrite=True, **settings)
    check(photos, 0.0)
    assert {i: state for i, state in states(photos).items() if i in before} == before
    assert photos.count(f"x{WITHHELD}") == 0


def test_what_the_reviewer_has_chosen_stays_where_nothing_is_asked_for(photos: fo.Dataset) -> None:
    run_on(photos.limit(3), reference=photos.first(), presence_threshold=0)
    threshold = between(photos)
    set_presence_threshold(photos, "x", threshold)
    run_on(photos, reference=photos.first(), skip_existing=True)
    check(photos, threshold)


def test_a_mask_that_somebody_has_decided_about_stays(photos: fo.Dataset) -> None:
    run_on(photos.limit(3), reference=photos.first(), presence_threshold=0)
    set_review(photos, "x", "accepted", photos.limit(3).values("id"))
    run_on(photos, reference=photos.first(), presence_threshold=1.0, skip_existing=True)
    photos.reload()
    shown = [shown for _, shown in states(photos).values()]
    assert shown == [True, True, True, False]
