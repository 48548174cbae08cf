"""Decisions about masks: accepted, rejected, taken back; each step can be undone."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

import fiftyone as fo

from ...errors import PersamError
from ..checks import list_of_ids
from ..database import (
    in_parts,
    living,
    photos_of,
    refresh_if_changed,
    root,
    set_samples,
    with_retries,
)
from ..frame_store import home
from ..runs import journal, queries, schema
from ..runs.naming import edit_field, require, review_field, run_names
from ..runs.record import update_record
from .store import (
    change_review,
    packed,
    remember,
    review_lease,
    review_lease_name,
    review_record,
    review_store,
    unpacked,
)
from .table import ACCEPTED, REJECTED, Collection, masks_in
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
    require(root(collection), run)
    wanted = _wanted(collection, run, decisions)
    dataset = home(collection)
    with review_lease(dataset, run):
        before = _decisions(dataset, run, list(wanted))
        changed = {i: d for i, d in wanted.items() if i in before and before[i] != d}
        if not changed:
            return 0
        details: dict[str, Any] = {
            "run": run,
            "id": uuid.uuid4().hex,
            "sitting": sitting,
            "before": packed({i: before[i] for i in changed}),
            "after": packed(changed),
            "undone": None,
        }
        _carry_out(dataset, run, details)
    return len(changed)


def undo_review(collection: Collection, run: str) -> int:
    """Take the last step of a review back: decisions, or a change of the threshold.

    Returns:
        how many photos changed; 0 if there was nothing to undo
    """
    require(root(collection), run)
    dataset = home(collection)
    with review_lease(dataset, run):
        steps = review_record(dataset, run)["undo"]
        if not steps:
            return 0
        step = steps[-1]
        if "reviews" not in step:
            return move_threshold(dataset, run, float(step["threshold"]), undo=step)
        reviews = unpacked(step["reviews"])
        found = living(dataset, reviews)
        _carry_out(dataset, run, {"run": run, "after": step["reviews"], "undone": step})
    return len(found)


def _carry_out(dataset: Any, run: str, details: dict[str, Any]) -> None:
    """Decisions and the step that can be undone: both, or neither. The lease must be held."""
    _check_there(dataset, run)
    field, text = review_field(run), f"Decision about the mask of run {run!r}"
    schema.check_unlocked(dataset, [field], f"deciding about run {run!r}")
    if not dataset.has_field(field):
        schema.add_fields(dataset, {field: fo.StringField(description=text)})
        queries.make_index(dataset, run)
    journal.carry_out(dataset, run, "review", details, [review_lease_name(run)])


def _finish(dataset: Any, details: dict[str, Any]) -> None:
    run, step = details["run"], details["undone"]
    if run not in run_names(dataset):
        return
    for decision, ids in _by_decision(unpacked(details["after"])).items():
        set_samples(dataset, ids, {review_field(run): decision})
    if step is None:
        made = {"reviews": details["before"], "id": details["id"]}
        sitting = details["sitting"]
        remember(dataset, run, made if sitting is None else {**made, "sitting": sitting})
    else:
        change_review(dataset, run, lambda record: _without(record, step))


FINISH = {"review": _finish}


def _by_decision(decisions: dict[str, str | None]) -> dict[str | None, list[str]]:
    found: dict[str | None, list[str]] = {}
    for sample_id, decision in decisions.items():
        found.setdefault(decision, []).append(sample_id)
    return found


def _without(record: dict[str, Any], step: dict[str, Any]) -> dict[str, Any] | None:
    steps = record["undo"]
    return {**record, "undo": steps[:-1]} if steps and steps[-1] == step else None


def undo_steps(collection: Collection, run: str) -> int:
    """How many steps :func:`undo_review` can take back."""
    return len(review_record(home(collection), run)["undo"])


def forget_review(dataset: Any, run: str) -> None:
    """Drop everything a review of ``run`` has stored: decisions, edited copies, undo, threshold."""
    with_retries(lambda: review_store(dataset).delete(run))
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


def _wanted(
    collection: Collection, run: str, decisions: dict[str | None, Iterable[str] | None]
) -> dict[str, str | None]:
    """Sample id -> decision, without those of photos that failed: only these photos are read."""
    photos = photos_of(collection)
    wanted: dict[str, str | None] = {}
    for decision, ids in decisions.items():
        _check_decision(decision)
        if ids is None:
            listed = queries.ids(photos, queries.done(run))
            if decision is None:
                failed = [queries.without_mask(run), queries.failed(run)]
                listed += queries.ids(photos, *failed)
            wanted.update(dict.fromkeys(listed, decision))
            continue
        listed = list_of_ids(ids)
        found = masks_in(collection, run, listed)
        check_results(listed, found, run)
        wanted.update((i, decision) for i in listed if decision is None or found[i])
    return wanted


def _decisions(dataset: Any, run: str, ids: list[str]) -> dict[str, str | None]:
    """Sample id -> decision, of those of these photos that are there."""
    photos, field = photos_of(dataset), review_field(run)
    found: dict[str, str | None] = {}
    for part in in_parts(ids):
        rows = queries.rows(photos, [field], queries.some(part))
        found.update((i, decision) for i, (decision,) in rows.items())
    return found


def _check_there(dataset: Any, run: str) -> None:
    """Raise PersamError if somebody has deleted a run since it was looked for."""
    refresh_if_changed(dataset)
    if run not in run_names(dataset):
        raise PersamError(f"run {run!r} was deleted by somebody else in this moment")
