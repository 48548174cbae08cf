"""Review of a run: counts, the queue of doubtful photos, decisions with undo, and the presence
threshold. Everything is stored in the database at once, so closing a browser loses nothing.

A photo of a run ``x`` is in exactly one state:

========  ==========================================================================
state     meaning
========  ==========================================================================
accepted  somebody looked and said yes (``x_review`` is ``"accepted"``)
rejected  somebody looked and said no (``x_review`` is ``"rejected"``)
failed    not segmented; ``x_error`` says why
absent    the object's presence is below the run's threshold; its mask is empty
todo      has a mask that nobody has looked at
========  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from ..errors import PersamError
from .checks import check_states, list_of_ids
from .fields import photos_of, withhold
from .review_store import remember, review_record, review_store
from .runs import fields_of, require, root

ACCEPTED, REJECTED = "accepted", "rejected"
TODO, ABSENT, FAILED = "todo", "absent", "failed"
STATES = (TODO, ACCEPTED, REJECTED, ABSENT, FAILED)

Collection = Any  # fo.Dataset | fo.DatasetView: fiftyone ships no types


@dataclass(frozen=True)
class ReviewCounts:
    """How many photos of a run are in each state; ``total`` is their sum."""

    todo: int = 0
    accepted: int = 0
    rejected: int = 0
    absent: int = 0
    failed: int = 0

    @property
    def total(self) -> int:
        """Photos that the run has touched."""
        return self.todo + self.accepted + self.rejected + self.absent + self.failed

    def __str__(self) -> str:
        return ", ".join(f"{getattr(self, state)} {state}" for state in STATES)


@dataclass(frozen=True)
class ReviewTable:
    """What a review needs to know of every photo a run has touched, as columns.

    Attributes:
        ids: N sample ids
        states: (N,) one of :data:`STATES`
        score: (N,) predicted IoU, NaN where there is none
        presence: (N,) NaN where there is none
        agreement: (N,) IoU of the first and the last pass's mask, NaN where there is none
    """

    ids: list[str]
    states: npt.NDArray[np.str_]
    score: npt.NDArray[np.float64]
    presence: npt.NDArray[np.float64]
    agreement: npt.NDArray[np.float64]

    def counts(self) -> ReviewCounts:
        """How many photos are in each state."""
        return ReviewCounts(**{s: int((self.states == s).sum()) for s in STATES})

    def of_state(self, *states: str) -> list[str]:
        """The ids of the photos in one of ``states``."""
        chosen = np.isin(self.states, states)
        return [self.ids[i] for i in np.flatnonzero(chosen)]

    def doubt(self) -> npt.NDArray[np.float64]:
        """(N,) in [0, 1]: 1 is the most doubtful photo of the run.

        Each signal becomes a rank first, for scores and presences live on different scales; a photo
        is as doubtful as its worst signal says.
        """
        if not self.ids:
            return np.zeros(0)
        signals = (self.score, self.presence, self.agreement)
        ranks: npt.NDArray[np.float64] = np.max([_rank_from_below(s) for s in signals], axis=0)
        return ranks


def review_field(run: str) -> str:
    """The name of the field that holds the decisions about ``run``."""
    return f"{run}_review"


def edit_field(run: str) -> str:
    """The name of the field of ``Detections`` in which masks of ``run`` are edited by hand."""
    return f"{run}_edit"


def review_table(collection: Collection, run: str, threshold: float | None = None) -> ReviewTable:
    """Read the review state of every photo in ``collection`` that ``run`` has touched.

    Args:
        collection: a dataset or view
        run: the run's name
        threshold: presence below which an object counts as absent; default: the run's own

    Raises:
        PersamError: if ``collection`` has no such run
    """
    require(root(collection), run)
    if threshold is None:
        threshold = presence_threshold(collection, run)
    dataset = collection._root_dataset
    if not dataset.has_field(review_field(run)):
        # Somebody may have begun to review in the App: another process, another schema.
        dataset.reload()
    suffixes = ("score", "presence", "agreement", "error", "review")
    schema = collection.get_field_schema()
    known = [suffix for suffix in suffixes if f"{run}_{suffix}" in schema]
    photos = photos_of(collection)
    ids, *values = photos.values(["id", *(f"{run}_{suffix}" for suffix in known)])
    columns = dict(zip(known, values, strict=True))
    blank: list[Any] = [None] * len(ids)
    score, presence, agreement = (_floats(columns.get(name, blank)) for name in suffixes[:3])
    error, review = (np.array(columns.get(name, blank), dtype=object) for name in suffixes[3:])

    states = np.full(len(ids), TODO, dtype="<U8")
    states[presence < threshold] = ABSENT
    states[error != None] = FAILED  # noqa: E711  (elementwise)
    states[review == ACCEPTED] = ACCEPTED
    states[review == REJECTED] = REJECTED
    # A run writes a photo's main field last: without it the photo is not done.
    done = set(photos.exists(run).values("id")) if run in schema else set()
    done_rows = np.array([i in done for i in ids], dtype=bool)
    failed_rows = ~done_rows & (error != None)  # noqa: E711
    states[failed_rows] = FAILED  # whatever was said of it: there is no mask to be right or wrong
    rows = np.flatnonzero(done_rows | failed_rows)
    return ReviewTable(
        [ids[i] for i in rows], states[rows], score[rows], presence[rows], agreement[rows]
    )


def review_counts(collection: Collection, run: str) -> ReviewCounts:
    """How many photos of ``run`` in ``collection`` are in each state."""
    return review_table(collection, run).counts()


def review_view(collection: Collection, run: str, *states: str) -> Any:
    """The photos of ``run`` that are in one of ``states``, as a view.

    Raises:
        PersamError: for an unknown state or run
    """
    require(root(collection), run)
    if states:
        check_states(states, STATES)
    return photos_of(collection).select(review_table(collection, run).of_state(*states))


def review_queue(collection: Collection, run: str, states: Sequence[str] = (TODO,)) -> Any:
    """The photos nobody has looked at yet, most doubtful first, as a view.

    Doubtful: low score, low presence, or passes that disagree, beside the run's other photos.
    """
    table = review_table(collection, run)
    check_states(states, STATES)
    order = np.argsort(-table.doubt(), kind="stable")
    chosen = [table.ids[i] for i in order if table.states[i] in states]
    return photos_of(collection).select(chosen, ordered=True)


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

    dataset = collection._root_dataset
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
    dataset = collection._root_dataset
    record = review_record(dataset, run)
    if not record["undo"]:
        return 0
    step = record["undo"].pop()
    if "reviews" in step:
        living = set(photos_of(dataset).select(list(step["reviews"])).values("id"))
        reviews = {i: d for i, d in step["reviews"].items() if i in living}
        if reviews:
            _write(dataset, run, reviews)
        count = len(reviews)
    else:
        count = _move_threshold(dataset, run, float(step["threshold"]))
        record["threshold"] = step["threshold"]
    review_store(dataset).set(run, record)
    return count


def undo_steps(collection: Collection, run: str) -> int:
    """How many steps :func:`undo_review` can take back."""
    return len(review_record(collection._root_dataset, run)["undo"])


def presence_threshold(collection: Collection, run: str) -> float:
    """The presence below which photos count as absent: the reviewer's, else the run's own."""
    dataset = collection._root_dataset
    chosen = review_record(dataset, run)["threshold"]
    if chosen is not None:
        return float(chosen)
    parameters = getattr(dataset.get_run_info(run).config, "parameters", None) or {}
    return float(parameters.get("presence_threshold") or 0.0)


def presence_changes(collection: Collection, run: str, threshold: float) -> int:
    """How many photos would change their state under another presence threshold."""
    now = review_table(collection, run).states
    return int((now != review_table(collection, run, threshold).states).sum())


def set_presence_threshold(collection: Collection, run: str, threshold: float) -> int:
    """Count photos whose presence is below ``threshold`` as absent, from now on. Can be undone.

    Absent photos have an empty mask, and what the run found in them waits in ``<run>_withheld``: a
    photo that comes back has its mask as before.

    Returns:
        how many photos changed their state
    """
    require(root(collection), run)
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        raise PersamError(
            f"presence threshold {threshold!r} is out of range: give a number of 0 to 1"
        )
    dataset = collection._root_dataset
    previous = presence_threshold(dataset, run)
    count = _move_threshold(dataset, run, float(threshold))
    if previous != threshold:
        remember(dataset, run, {"threshold": previous}, threshold=float(threshold))
    return count


def forget_review(dataset: Any, run: str) -> None:
    """Drop everything a review of ``run`` has stored: decisions, edited copies, undo, threshold."""
    review_store(dataset).delete(run)
    fields = [f for f in (review_field(run), edit_field(run)) if dataset.has_field(f)]
    if fields:
        dataset.delete_sample_fields(fields)


def rename_review(dataset: Any, run: str, new_name: str) -> None:
    """Move what :func:`forget_review` would drop to a run's new name."""
    renamed = {
        old: new
        for old, new in (
            (review_field(run), review_field(new_name)),
            (edit_field(run), edit_field(new_name)),
        )
        if dataset.has_field(old)
    }
    if renamed:
        dataset.rename_sample_fields(renamed)
    store = review_store(dataset)
    if store.has(run):
        store.set(new_name, store.get(run))
        store.delete(run)


# ----------------------------------------------------------------------------------------------


def check_results(ids: Iterable[str], known: Iterable[str], run: str) -> None:
    """Raise PersamError if one of these photos is none that a run has touched."""
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
    has_mask = photos_of(collection).select(failed).exists(run).values("id") if failed else []
    return set(failed) - set(has_mask)


def _floats(values: Sequence[float | None]) -> npt.NDArray[np.float64]:
    return np.array([np.nan if v is None else v for v in values], dtype=np.float64)


def _rank_from_below(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) in [0, 1]: 1 for the lowest value, 0 for the highest and for what is missing."""
    ranks = np.zeros(len(values))
    finite = np.flatnonzero(np.isfinite(values))
    if finite.size > 1:
        _, inverse, counts = np.unique(values[finite], return_inverse=True, return_counts=True)
        below = np.concatenate([[0], np.cumsum(counts)[:-1]])
        ranks[finite] = np.clip(1 - below[inverse] / (finite.size - 1), 0, 1)
    return ranks


def _decisions(dataset: Any, run: str, ids: list[str]) -> dict[str, str | None]:
    field = review_field(run)
    if not dataset.has_field(field):
        return dict.fromkeys(ids)
    found = dict(zip(*photos_of(dataset).select(ids).values(["id", field]), strict=True))
    return {i: found.get(i) for i in ids}


def _write(dataset: Any, run: str, decisions: dict[str, str | None]) -> None:
    field = review_field(run)
    if not dataset.has_field(field):
        dataset.add_sample_field(
            field, fo.StringField, description=f"Decision about the mask of run {run!r}"
        )
    dataset.set_values(field, decisions, key_field="id")


def _move_threshold(dataset: Any, run: str, threshold: float) -> int:
    """Show or withhold the masks of photos whose state another threshold changes."""
    before, after = review_table(dataset, run), review_table(dataset, run, threshold)
    changes = list(zip(before.ids, before.states, after.states, strict=True))
    gone = [i for i, old, new in changes if old != ABSENT and new == ABSENT]
    back = [i for i, old, new in changes if old == ABSENT and new != ABSENT]
    config = dataset.get_run_info(run).config
    written = fields_of(run, config)
    withhold(dataset, written, Path(config.masks_dir), gone, absent=True)
    withhold(dataset, written, Path(config.masks_dir), back, absent=False)
    return len(gone) + len(back)
