"""What a review keeps beside the fields: steps that can be undone, and the reviewer's threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fiftyone.operators import ExecutionStore

from ..database import make_durable, with_retries
from ..fiftyone_api import dataset_id
from ..runs.presence import REVIEW_STORE

UNDO_STEPS = 100
UNDO_PHOTOS = 50_000


def review_store(dataset: Any) -> Any:
    """Where undo steps and thresholds are kept, by run."""
    return ExecutionStore.create(REVIEW_STORE, dataset_id(dataset))


def review_record(dataset: Any, run: str) -> dict[str, Any]:
    """A run's ``undo`` steps, oldest first, and the reviewer's ``threshold``, None if unset."""
    return _record(review_store(dataset).get(run))


def change_review(
    dataset: Any, run: str, change: Callable[[dict[str, Any]], dict[str, Any] | None]
) -> None:
    """Change what a review keeps; somebody else who does so in the same moment loses nothing.

    Args:
        dataset: the run's dataset.
        run: the run's name.
        change: makes the new record of the present one, see `review_record`; None leaves it. May
            be called several times.
    """
    store = review_store(dataset)
    while True:
        stored = with_retries(lambda: store.get(run))
        record = _record(stored)
        changed = change(record)
        if changed is None or changed == record:
            return
        done = (
            store.set_if_absent(run, changed)
            if stored is None
            else store.compare_and_set(run, stored, changed)
        )
        if done:
            make_durable()
            return


def remember(dataset: Any, run: str, step: dict[str, Any], **changes: Any) -> None:
    """Add a step that can be undone; one of the same sitting as the last is joined to it."""

    def add(record: dict[str, Any]) -> dict[str, Any]:
        steps = [*record["undo"], step][-UNDO_STEPS:]
        if "sitting" in step and [s.get("sitting") for s in steps[-2:-1]] == [step["sitting"]]:
            earlier = steps.pop(-2)
            steps[-1] = {**step, "reviews": {**step["reviews"], **earlier["reviews"]}}
        while len(steps) > 1 and sum(len(s.get("reviews", ())) for s in steps) > UNDO_PHOTOS:
            steps.pop(0)
        return {**record, **changes, "undo": steps}

    change_review(dataset, run, add)


def _record(stored: dict[str, Any] | None) -> dict[str, Any]:
    stored = stored or {}
    return {"undo": list(stored.get("undo", [])), "threshold": stored.get("threshold")}
