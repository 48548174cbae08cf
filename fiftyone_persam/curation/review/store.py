"""What a review keeps beside the fields: steps that can be undone, and the reviewer's threshold."""

from __future__ import annotations

from typing import Any

from fiftyone.operators import ExecutionStore

from ..fiftyone_api import dataset_id
from ..runs.presence import REVIEW_STORE

UNDO_STEPS = 100
UNDO_PHOTOS = 50_000


def review_store(dataset: Any) -> Any:
    """Where undo steps and thresholds are kept, by run."""
    return ExecutionStore.create(REVIEW_STORE, dataset_id(dataset))


def review_record(dataset: Any, run: str) -> dict[str, Any]:
    """A run's ``undo`` steps, oldest first, and the reviewer's ``threshold``, None if unset."""
    stored = review_store(dataset).get(run) or {}
    return {"undo": list(stored.get("undo", [])), "threshold": stored.get("threshold")}


def remember(dataset: Any, run: str, step: dict[str, Any], **changes: Any) -> None:
    """Add a step that can be undone; one of the same sitting as the last is joined to it."""
    record = review_record(dataset, run)
    steps = [*record["undo"], step][-UNDO_STEPS:]
    if "sitting" in step and [s.get("sitting") for s in steps[-2:-1]] == [step["sitting"]]:
        earlier = steps.pop(-2)
        steps[-1] = {**step, "reviews": {**step["reviews"], **earlier["reviews"]}}
    while len(steps) > 1 and sum(len(s.get("reviews", ())) for s in steps) > UNDO_PHOTOS:
        steps.pop(0)
    review_store(dataset).set(run, {**record, **changes, "undo": steps})
