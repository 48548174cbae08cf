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

import numpy as np
import numpy.typing as npt

from ..checks import check_states
from ..database import photos_of, root
from ..fiftyone_api import root_dataset
from ..runs.losses import withheld_ids
from ..runs.naming import require, review_field
from ..runs.presence import is_absent, presence_threshold

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
    dataset = root_dataset(collection)
    if not dataset.has_field(review_field(run)):
        # Somebody may have begun to review in the App: another process, another schema.
        dataset.reload()
    suffixes = ("score", "presence", "agreement", "error", "review")
    schema = dataset.get_field_schema()
    known = [suffix for suffix in suffixes if f"{run}_{suffix}" in schema]
    photos = photos_of(collection)
    ids, *values = photos.values(["id", *(f"{run}_{suffix}" for suffix in known)])
    columns = dict(zip(known, values, strict=True))
    blank: list[Any] = [None] * len(ids)
    score, presence, agreement = (_floats(columns.get(name, blank)) for name in suffixes[:3])
    error, review = (np.array(columns.get(name, blank), dtype=object) for name in suffixes[3:])

    states = np.full(len(ids), TODO, dtype="<U8")
    states[is_absent(presence, threshold)] = ABSENT
    if "presence" not in known:  # deleted by hand: what is withheld still tells it
        held = withheld_ids(dataset, run)
        states[[i in held for i in ids]] = ABSENT
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
    states = check_states(states, STATES)
    order = np.argsort(-table.doubt(), kind="stable")
    chosen = [table.ids[i] for i in order if table.states[i] in states]
    return photos_of(collection).select(chosen, ordered=True)


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
