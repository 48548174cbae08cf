"""What a review keeps beside the fields: steps that can be undone, and the reviewer's threshold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fiftyone.operators import ExecutionStore

from ..database import make_durable, with_retries
from ..fiftyone_api import dataset_id
from ..runs.lease import Lease
from ..runs.presence import REVIEW_STORE

UNDO_STEPS = 100
UNDO_PHOTOS = 50_000
WAIT = 120.0
"""Seconds to wait for somebody else who decides about the same run."""


def review_store(dataset: Any) -> Any:
    """Where undo steps and thresholds are kept, by run."""
    return ExecutionStore.create(REVIEW_STORE, dataset_id(dataset))


def review_lease_name(run: str) -> str:
    """The name of `review_lease`."""
    return f"*review {run}*"  # no run can have this name


def review_lease(dataset: Any, run: str) -> Lease:
    """The right to decide about a run's photos; who enters it waits for others."""
    what = f"the review of run {run!r}"
    return Lease(dataset, review_lease_name(run), wait=WAIT, what=what)


def packed(decisions: Mapping[str, str | None]) -> dict[str, bytes]:
    """Decisions by sample id as a step keeps them: decision, "" for none -> ids, 12 bytes each.

    A step may be about all photos of a large dataset, and is read with every step after it.
    """
    ids: dict[str, list[str]] = {}
    for sample_id, decision in decisions.items():
        ids.setdefault(decision or "", []).append(sample_id)
    return {decision: bytes.fromhex("".join(some)) for decision, some in ids.items()}


def unpacked(kept: Mapping[str, Any]) -> dict[str, str | None]:
    """Decisions by sample id; those of earlier versions are kept that way."""
    found: dict[str, str | None] = {}
    for key, value in kept.items():
        if not isinstance(value, bytes):
            found[key] = value
            continue
        text = value.hex()
        found.update((text[at : at + 24], key or None) for at in range(0, len(text), 24))
    return found


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
        stored = with_retries(store.get, run)
        record = _record(stored)
        changed = change(record)
        if changed is None or changed == record:
            return

        def put(stored: Any = stored, changed: Any = changed) -> bool:
            if stored is None:
                return bool(store.set_if_absent(run, changed))
            return bool(store.compare_and_set(run, stored, changed))

        if with_retries(put):
            make_durable()
            return


def remember(dataset: Any, run: str, step: dict[str, Any]) -> None:
    """Add a step that can be undone; one of the same sitting as the last is joined to it.

    Args:
        dataset: the run's dataset.
        run: the run's name.
        step: ``reviews``, the decisions before it, `packed`, and its ``id``: a step that is there
            already is not added twice.
    """

    def add(record: dict[str, Any]) -> dict[str, Any] | None:
        steps = list(record["undo"])
        if any(one.get("id") == step["id"] for one in steps[-1:]):
            return None
        joined = step
        if steps and "sitting" in step and steps[-1].get("sitting") == step["sitting"]:
            earlier = unpacked(steps.pop()["reviews"])
            joined = {**step, "reviews": packed({**unpacked(step["reviews"]), **earlier})}
        steps = [*steps, joined][-UNDO_STEPS:]
        while len(steps) > 1 and sum(map(_photos, steps)) > UNDO_PHOTOS:
            steps.pop(0)
        return {**record, "undo": steps}

    change_review(dataset, run, add)


def _photos(step: dict[str, Any]) -> int:
    kept = step.get("reviews", {}).values()
    return sum(len(one) // 12 if isinstance(one, bytes) else 1 for one in kept)


def _record(stored: dict[str, Any] | None) -> dict[str, Any]:
    stored = stored or {}
    return {"undo": list(stored.get("undo", [])), "threshold": stored.get("threshold")}
