"""Review of a run: counts, the queue of doubtful photos, decisions with undo, and the presence
threshold. Everything is stored in the database at once, so closing a browser loses nothing.

A photo of a run ``x`` is in exactly one state:

========  ==========================================================================
state     meaning
========  ==========================================================================
accepted  somebody looked and said yes (``x_review`` is ``"accepted"``)
rejected  somebody looked and said no (``x_review`` is ``"rejected"``)
failed    not segmented; ``x_error`` says why
absent    the object's presence is below the threshold in force; its mask is empty
todo      has a mask that nobody has looked at
========  ==========================================================================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from bson import ObjectId

from ..checks import check_count, check_states
from ..database import in_parts, photos_of, root
from ..frame_store import check_photos_only, home
from ..runs import queries
from ..runs.losses import low_presence, withheld_ids
from ..runs.naming import require, review_field
from ..runs.presence import is_absent, presence_threshold
from ..runs.suffixes import ERROR, PRESENCE

ACCEPTED, REJECTED = "accepted", "rejected"


TODO, ABSENT, FAILED = "todo", "absent", "failed"


STATES = (TODO, ACCEPTED, REJECTED, ABSENT, FAILED)

NUMBERS = ("score", "presence", "agreement")
"""What each photo of a run has as a number, in fields of these names."""

HEAD = 2000
"""Photos of a queue that the database puts in order before it shows the first of them."""

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
        return self._at(np.flatnonzero(np.isin(self.states, states)))

    def queue(self, *states: str, limit: int | None = None) -> list[str]:
        """The ids of the photos in one of ``states``, most doubtful first; ``limit`` at most."""
        order = np.argsort(-self.doubt(), kind="stable")
        return self._at(order[np.isin(self.states, states)[order]][:limit])

    def _at(self, places: npt.NDArray[np.intp]) -> list[str]:
        return list(map(self.ids.__getitem__, places.tolist()))

    def doubt(self) -> npt.NDArray[np.float64]:
        """(N,) in [0, 1]: 1 is the most doubtful photo of the run.

        Each signal becomes a rank first, because scores and presences live on different scales; a
        photo is as doubtful as its worst signal says.
        """
        if not self.ids:
            return np.zeros(0)
        signals = (self.score, self.presence, self.agreement)
        ranks: npt.NDArray[np.float64] = np.max([_rank_from_below(s) for s in signals], axis=0)
        return ranks


def review_table(collection: Collection, run: str, threshold: float | None = None) -> ReviewTable:
    """Read the review state of every photo in ``collection`` that ``run`` has touched.

    Args:
        collection: a dataset or view
        run: the run's name
        threshold: presence below which an object counts as absent; default: the one in force

    Raises:
        PersamError: if ``collection`` has no such run
    """
    require(root(collection), run)
    if threshold is None:
        threshold = presence_threshold(collection, run)
    photos, everybody = photos_of(collection), photos_of(home(collection))
    names = [f"{run}_{name}" for name in NUMBERS]
    done = queries.columns(photos, names, queries.done(run))
    failed = queries.columns(photos, names, {**queries.failed(run), **queries.without_mask(run)})
    states = np.full(len(done), TODO, dtype="<U8")
    dataset = home(collection)
    if dataset.has_field(f"{run}{PRESENCE}"):
        states[is_absent(done.values[f"{run}{PRESENCE}"], threshold)] = ABSENT
    else:  # deleted by hand: what is withheld still tells it
        low = low_presence(dataset, run, threshold)
        states[done.isin(queries.columns(everybody, (), queries.done(run), low))] = ABSENT
    for state, query in (
        (FAILED, queries.failed(run)),  # and somebody has drawn a mask since
        (ACCEPTED, queries.decided(dataset, run, ACCEPTED)),
        (REJECTED, queries.decided(dataset, run, REJECTED)),
    ):
        states[done.isin(queries.columns(everybody, (), queries.done(run), query))] = state
    # Whatever was said of a photo without a mask: there is none to be right or wrong.
    both, order = done.joined(failed)
    states = np.concatenate([states, np.full(len(failed), FAILED, dtype="<U8")])[order]
    return ReviewTable(both.ids(), states, *(both.values[name] for name in names))


def review_counts(collection: Collection, run: str) -> ReviewCounts:
    """How many photos of ``run`` in ``collection`` are in each state."""
    if not isinstance(collection, fo.Dataset):
        return review_table(collection, run).counts()
    dataset = root(collection)
    require(dataset, run)
    return _counts(dataset, run, queries.count(photos_of(dataset), queries.done(run)))


def recount(dataset: Any, run: str, before: ReviewCounts) -> ReviewCounts:
    """Like `review_counts` where nothing but decisions has changed; takes less time.

    Args:
        dataset: the run's dataset
        run: the run's name
        before: the counts before these decisions
    """
    photos = photos_of(dataset)
    failed = queries.count(photos, queries.without_mask(run), queries.failed(run))
    return _counts(dataset, run, before.total - failed)


def _counts(dataset: Any, run: str, segmented: int) -> ReviewCounts:
    photos, done = photos_of(dataset), queries.done(run)
    open_, with_error = queries.undecided(dataset, run), queries.failed(run)
    below = low_presence(dataset, run, presence_threshold(dataset, run))
    accepted, rejected = (
        queries.count(photos, done, queries.decided(dataset, run, state))
        for state in (ACCEPTED, REJECTED)
    )
    absent = queries.count(photos, queries.open_to_threshold(dataset, run), below)
    drawn = queries.count(photos, done, open_, with_error)
    failed = queries.count(photos, queries.without_mask(run), with_error)
    todo = segmented - accepted - rejected - absent - drawn
    return ReviewCounts(todo, accepted, rejected, absent, drawn + failed)


def masks_in(collection: Collection, run: str, ids: Sequence[str]) -> dict[str, bool]:
    """Sample id -> whether it has a mask, of those of these photos that ``run`` has touched."""
    photos, names = photos_of(collection), [f"{run}._cls", f"{run}{ERROR}"]
    found: dict[str, bool] = {}
    for part in in_parts(i for i in ids if ObjectId.is_valid(i)):
        rows = queries.rows(photos, names, queries.some(part))
        found.update(
            (i, kind is not None)
            for i, (kind, error) in rows.items()
            if kind is not None or error is not None
        )
    return found


def states_of(collection: Collection, run: str, ids: Sequence[str]) -> dict[str, str]:
    """Sample id -> state, of those of these photos that ``run`` has touched."""
    threshold = presence_threshold(collection, run)
    photos, dataset = photos_of(collection), home(collection)
    names = [f"{run}._cls", f"{run}{ERROR}", f"{run}{PRESENCE}"]
    held = None if dataset.has_field(f"{run}{PRESENCE}") else withheld_ids(dataset, run)
    found: dict[str, str] = {}
    for part in in_parts(ids):
        rows = queries.rows(photos, [*names, review_field(run)], queries.some(part))
        for sample_id, (kind, error, presence, review) in rows.items():
            if kind is None and error is None:
                continue
            if kind is None or (error is not None and review not in (ACCEPTED, REJECTED)):
                found[sample_id] = FAILED
            elif review in (ACCEPTED, REJECTED):
                found[sample_id] = review
            else:
                low = is_absent(presence, threshold) if held is None else sample_id in held
                found[sample_id] = ABSENT if low else TODO
    return found


def review_view(collection: Collection, run: str, *states: str) -> Any:
    """The photos of ``run`` that are in one of ``states``, as a view.

    Raises:
        PersamError: for an unknown state or run
    """
    require(root(collection), run)
    if states:
        check_states(states, STATES)
    return photos_of(collection).select(review_table(collection, run).of_state(*states))


def review_queue(
    collection: Collection, run: str, states: Sequence[str] = (TODO,), limit: int | None = None
) -> Any:
    """The photos nobody has looked at yet, most doubtful first, as a view.

    Doubtful: low score, low presence, or passes that disagree, beside the run's other photos.

    Args:
        collection: a dataset or view
        run: the run's name
        states: which photos, by their state
        limit: the most doubtful ones only, so many; to look through 100,000 photos in an order of
            their own takes the database seconds, though not for the first `HEAD` of them

    Raises:
        PersamError: for an unknown state or run, or a limit that is not a number
    """
    check_count("limit", limit)
    check_photos_only(collection, "a queue of what to look at")
    table = review_table(collection, run)
    chosen = table.queue(*check_states(states, STATES), limit=limit)
    photos = photos_of(collection)
    queue = photos.select(chosen[:HEAD], ordered=True)
    # The database sorts the others when somebody has come to them.
    return queue.concat(photos.select(rest, ordered=True)) if (rest := chosen[HEAD:]) else queue


def _rank_from_below(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """(N,) in [0, 1]: 1 for the lowest value, 0 for the highest and for what is missing."""
    ranks = np.zeros(len(values))
    finite = np.flatnonzero(np.isfinite(values))
    if finite.size > 1:
        _, inverse, counts = np.unique(values[finite], return_inverse=True, return_counts=True)
        below = np.concatenate([[0], np.cumsum(counts)[:-1]])
        ranks[finite] = np.clip(1 - below[inverse] / (finite.size - 1), 0, 1)
    return ranks
