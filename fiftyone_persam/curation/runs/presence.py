"""At which presence the object of a run counts as absent: the one threshold that is in force.

A run begins with a threshold, and its reviewer may choose another one. Everybody who counts, shows,
resumes or reviews a run asks here for the number and `is_absent` for the comparison.
"""

from __future__ import annotations

from typing import Any

from fiftyone.operators import ExecutionStore

from ...personalize import is_absent
from ..fiftyone_api import dataset_id
from ..frame_store import home
from .record import read_record

REVIEW_STORE = "fiftyone-persam-review"
"""Where reviews keep what is in no field; see `review.store`."""

__all__ = ["REVIEW_STORE", "chosen_threshold", "is_absent", "presence_threshold"]


def chosen_threshold(samples: Any, run: str) -> float | None:
    """The threshold that the reviewer of a run has chosen; None where nobody has."""
    dataset = home(samples)
    stored = ExecutionStore.create(REVIEW_STORE, dataset_id(dataset)).get(run) or {}
    chosen = stored.get("threshold")
    if chosen is None and dataset.has_run(run):  # a clone of a dataset has its runs alone
        chosen = read_record(dataset, run).reviewed_threshold
    return None if chosen is None else float(chosen)


def presence_threshold(samples: Any, run: str) -> float:
    """The threshold in force, 0 to 1: the reviewer's, else the one that the run began with."""
    chosen = chosen_threshold(samples, run)
    if chosen is not None:
        return chosen
    return float(read_record(home(samples), run).parameters.presence_threshold or 0.0)
