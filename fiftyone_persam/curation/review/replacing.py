"""What becomes of a review when photos are segmented again: it was about masks that are gone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .store import change_review, packed, unpacked


def forget_steps(dataset: Any, run: str, ids: Sequence[str]) -> None:
    """Drop the steps that could be undone in photos whose masks are replaced.

    Args:
        dataset: the run's dataset.
        run: the run's name.
        ids: these photos.
    """
    gone = set(ids)

    def forget(record: dict[str, Any]) -> dict[str, Any]:
        steps = [_without(step, gone) for step in record["undo"]]
        return {**record, "undo": [step for step in steps if step.get("reviews") != {}]}

    change_review(dataset, run, forget)


def _without(step: dict[str, Any], ids: set[str]) -> dict[str, Any]:
    if "reviews" not in step:
        return step
    kept = {i: d for i, d in unpacked(step["reviews"]).items() if i not in ids}
    return {**step, "reviews": packed(kept)}
