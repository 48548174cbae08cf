"""Stopping a run from another thread, process or machine: at its next photo, so nothing is lost."""

from __future__ import annotations

import time
from typing import Any

from fiftyone.operators import ExecutionStore

from ...errors import RunStoppedError
from ..database import refresh, root, with_retries
from ..fiftyone_api import dataset_id
from .lease import holder_of
from .naming import require

STORE = "fiftyone-persam-stops"
INTERVAL = 1.0
"""Seconds between two looks at what was asked for."""


def stop_run(samples: Any, name: str) -> bool:
    """Ask a run that is being written to stop at its next photo, wherever that goes on.

    What is finished stays, and the run can be resumed. Its `segment` or `resume_run` raises
    `RunStoppedError` there.

    Args:
        samples: the run's dataset, or a view into it.
        name: the run's name.

    Returns:
        whether there was something to stop: False where nobody writes the run

    Raises:
        PersamError: there is no such run.
    """
    dataset = root(samples)
    refresh(dataset)
    require(dataset, name)
    if holder_of(dataset, name) is None:
        return False
    request_stop(dataset, name)
    return True


def request_stop(dataset: Any, run: str) -> None:
    """Like `stop_run`, for a run that may be about to begin."""
    with_retries(lambda: _store(dataset).set(run, True))


def withdraw_stop(dataset: Any, run: str) -> None:
    """Forget what was asked of an earlier call of this run; of one that goes on it is kept."""
    if holder_of(dataset, run) is None:
        with_retries(lambda: _store(dataset).delete(run))


class StopRequests:
    """Whether somebody wants a run stopped; looks at the database from time to time."""

    def __init__(self, dataset: Any, run: str) -> None:
        self._store = _store(dataset)
        self._run = run
        self._looked = time.monotonic()

    def check(self, done: int, total: int) -> None:
        """Raise RunStoppedError if the run shall stop; the request is fulfilled by that.

        Args:
            done: photos that are through, for the message.
            total: photos of the call.
        """
        now = time.monotonic()
        if now - self._looked < INTERVAL:
            return
        self._looked = now
        if with_retries(self._store.get, self._run):
            with_retries(self._store.delete, self._run)
            raise RunStoppedError(
                f"run {self._run!r} was stopped at {done} of {total} photos: "
                "resume it to segment the rest"
            )


def _store(dataset: Any) -> Any:
    return ExecutionStore.create(STORE, dataset_id(dataset))
