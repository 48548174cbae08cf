"""What becomes of a review when photos are segmented again: it was about masks that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..database import photos_of, with_retries
from ..runs.naming import edit_field, review_field
from .store import review_record, review_store


def forget_photos(dataset: Any, run: str, ids: Sequence[str]) -> None:
    """Drop what a review says of some photos: decisions, masks edited by hand, steps to undo.

    Args:
        dataset: the run's dataset.
        run: the run's name.
        ids: photos whose masks are about to be replaced.
    """
    view = photos_of(dataset).select(list(ids))
    for name in (review_field(run), edit_field(run)):
        if dataset.has_field(name):
            with_retries(lambda name=name: view.clear_sample_field(name))  # type: ignore[misc]
    record = review_record(dataset, run)
    gone = set(ids)
    steps = [_without(step, gone) for step in record["undo"]]
    left = [step for step in steps if step.get("reviews") != {}]
    if left != record["undo"]:
        review_store(dataset).set(run, {**record, "undo": left})


def _without(step: dict[str, Any], ids: set[str]) -> dict[str, Any]:
    if "reviews" not in step:
        return step
    return {**step, "reviews": {i: d for i, d in step["reviews"].items() if i not in ids}}
