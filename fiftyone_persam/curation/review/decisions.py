"""Decisions about masks: accepted, rejected, taken back; each step can be undone."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone as fo

from ...errors import PersamError
from ..checks import list_of_ids
from ..database import living, refresh_if_changed, root, values_of, with_retries, write_samples
from ..fiftyone_api import root_dataset
from ..runs import schema
from ..runs.losses import done_ids
from ..runs.naming import edit_field, require, review_field, run_names
from ..runs.record import update_record
from .store import change_review, remember, review_record, review_store
from .table import ACCEPTED, FAILED, REJECTED, Collection, ReviewTable, review_table
from .threshold import move_threshold


def set_review(
    collection: Collection, run: str, decision: str | None, ids: Iterable[str] | None = None
) -> int:
    """Accept or reject photos of a run, or take decisions back, in one step that can be undone.

    Photos that failed are left out: they have no mask to decide about.

    Args:
        collection: a dataset or view
        run: the run's name
        decision: ``"accepted"``, ``"rejected"``, or None for "not looked at"
        ids: the photos; default: every photo of ``collection`` that the run has touched

    Returns:
        how many decisions changed

    Raises:
        PersamError: for an unknown decision, run, or photo
    """
    _check_decision(decision)
    return set_reviews(collection, run, {decision: ids})


def set_reviews(
    collection: Collection,
    run: str,
    decisions: dict[str | None, Iterable[str] | None],
    sitting: str | None = None,
) -> int:
    """Like :func:`set_review` for several decisions that are undone together.

    Calls that follow each other with the same ``sitting`` are undone together too.
    """
    table = review_table(collection, run)
    known = set(table.ids)
    failed = _without_mask(collection, run, table)
    wanted: dict[str, str | None] = {}
    for decision, ids in decisions.items():
        _check_decision(decision)
        chosen = table.ids if ids is None else list_of_ids(ids)
        check_results(chosen, known, run)
        wanted.update((i, decision) for i in chosen if decision is None or i not in failed)

    dataset = root_dataset(collection)
    before = _decisions(dataset, run, list(wanted))
    changed = {i: d for i, d in wanted.items() if before[i] != d}
    if not changed:
        return 0
    _write(dataset, run, changed)
    step: dict[str, Any] = {"reviews": {i: before[i] for i in changed}}
    remember(dataset, run, step if sitting is None else {**step, "sitting": sitting})
    return len(changed)


def undo_review(collection: Collection, run: str) -> int:
    """Take the last step of a review back: decisions, or a change of the threshold.

    Returns:
        how many photos changed; 0 if there was nothing to undo
    """
    require(root(collection), run)
    dataset = root_dataset(collection)
    while True:
        steps = review_record(dataset, run)["undo"]
        if not steps:
            return 0
        step = steps[-1]
        if "reviews" not in step:
            return move_threshold(dataset, run, float(step["threshold"]), undo=step)
        there = living(dataset, step["reviews"])
        reviews = {i: d for i, d in step["reviews"].items() if i in there}
        _write(dataset, run, reviews)
        if _strike_out(dataset, run, step):
            return len(reviews)
        # Somebody else has undone the same step in this moment: the one before it is next.


def _strike_out(dataset: Any, run: str, step: dict[str, Any]) -> bool:
    """Remove the last step, if it still is this one."""
    struck = False

    def strike(record: dict[str, Any]) -> dict[str, Any] | None:
        nonlocal struck
        struck = bool(record["undo"]) and record["undo"][-1] == step
        return {**record, "undo": record["undo"][:-1]} if struck else None

    change_review(dataset, run, strike)
    return struck


def undo_steps(collection: Collection, run: str) -> int:
    """How many steps :func:`undo_review` can take back."""
    return len(review_record(root_dataset(collection), run)["undo"])


def forget_review(dataset: Any, run: str) -> None:
    """Drop everything a review of ``run`` has stored: decisions, edited copies, undo, threshold."""
    review_store(dataset).delete(run)
    if run in run_names(dataset):
        update_record(dataset, run, reviewed_threshold=None)
    schema.delete_fields(dataset, [review_field(run), edit_field(run)])


def rename_review(dataset: Any, run: str, new_name: str) -> None:
    """Move what :func:`forget_review` would drop to a run's new name."""
    fields = {make(run): make(new_name) for make in (review_field, edit_field)}
    schema.rename_fields(dataset, fields)
    store = review_store(dataset)
    if store.has(run):
        store.set(new_name, store.get(run))
        store.delete(run)


def check_results(ids: Iterable[str], known: Iterable[str], run: str) -> None:
    """Raise PersamError unless a run has touched all of these photos."""
    touched = set(known)
    if stray := next((i for i in ids if i not in touched), None):
        raise PersamError(f"photo {stray!r} has no result of run {run!r}: segment it first")


def _check_decision(decision: Any) -> None:
    if all(decision is not known and decision != known for known in (ACCEPTED, REJECTED, None)):
        raise PersamError(
            f"unknown decision {decision!r}: choose {ACCEPTED!r}, {REJECTED!r} or None"
        )


def _without_mask(collection: Collection, run: str, table: ReviewTable) -> set[str]:
    """Of the photos that failed, those that nobody has given a mask by hand since."""
    failed = table.of_state(FAILED)
    return set(failed) - done_ids(root_dataset(collection), run) if failed else set()


def _decisions(dataset: Any, run: str, ids: list[str]) -> dict[str, str | None]:
    field = review_field(run)
    if not dataset.has_field(field):
        return dict.fromkeys(ids)
    found = values_of(dataset, ids, field)
    return {i: found.get(i) for i in ids}


def _write(dataset: Any, run: str, decisions: dict[str, str | None]) -> None:
    field = review_field(run)
    text = f"Decision about the mask of run {run!r}"
    if not decisions:
        return
    schema.check_unlocked(dataset, [field], f"deciding about run {run!r}")
    schema.add_fields(dataset, {field: fo.StringField(description=text)})
    changes = {i: {field: d} for i, d in decisions.items()}
    with_retries(lambda: write_samples(dataset, changes, journaled=True))
    refresh_if_changed(dataset)
    if run not in run_names(dataset):
        schema.delete_fields(dataset, [field])
        raise PersamError(f"run {run!r} was deleted by somebody else in this moment")
