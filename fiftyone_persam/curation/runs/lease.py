"""One writer per run: a lease in FiftyOne's database that outlives no process.

The lease is renewed by a thread while its holder works. A process that is killed renews no more,
so its run can be taken over; one that lives keeps others out.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections import deque
from types import TracebackType
from typing import Any

import fiftyone.operators as foo
import psutil

from ...errors import RunConflictError
from ..database import with_retries
from ..fiftyone_api import dataset_id

logger = logging.getLogger(__name__)

STORE = "fiftyone-persam-leases"
RENEW = 5.0
"""Seconds between two renewals."""
EXPIRE = 60.0
"""Seconds without a renewal after which a holder on another machine counts as gone."""
PAUSE = 0.03
"""Seconds between two looks at a lease that somebody else holds."""

_GIVEN_BACK: deque[str] = deque(maxlen=1000)
"""Tokens of this process's last leases: a database that was killed may have forgotten their end."""


class Lease:
    """The right to write one run; a context manager.

    Args:
        dataset: the run's dataset.
        run: its name, or another name for what one process at a time may do.
        wait: seconds to wait for another holder.
        what: what it is to the user; default: the run.

    Raises:
        RunConflictError: on entering, if somebody else holds it; names the run and the holder.
    """

    def __init__(self, dataset: Any, run: str, wait: float = 0.0, what: str | None = None) -> None:
        self.run = run
        self._what = what
        self._wait = wait
        self._dataset_id = dataset_id(dataset)
        self._dataset_name = dataset.name
        self._value = {"token": uuid.uuid4().hex, **_me(), "time": time.time()}
        self._lost = threading.Event()
        self._done = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        store = with_retries(_store, self._dataset_id)
        deadline = time.monotonic() + self._wait
        while not with_retries(store.set_if_absent, self.run, self._value):
            holder = with_retries(store.get, self.run)
            if holder is None:
                continue  # given back in this moment
            if holder["token"] == self._value["token"]:
                break  # stored before the database went away
            if is_live(holder) and holder["token"] not in _GIVEN_BACK:
                if time.monotonic() < deadline:
                    time.sleep(PAUSE)
                    continue
                what = f"run {self.run!r}" if self._what is None else self._what
                advice = (
                    "wait for it, stop it, or choose another out_field"
                    if self._what is None
                    else "wait for it, or stop it"
                )
                raise RunConflictError(
                    f"{what} of dataset {self._dataset_name!r} is being written by "
                    f"process {holder['pid']} on {holder['host']}: {advice}"
                )
            if with_retries(store.compare_and_set, self.run, holder, self._value):
                break
        self._thread = threading.Thread(target=self._renew, name="persam-lease", daemon=True)
        self._thread.start()
        return self

    def check(self) -> None:
        """Raise RunConflictError if the lease was lost, as after a long sleep of the machine."""
        if self._lost.is_set():
            raise RunConflictError(
                f"run {self.run!r} was taken over by another process while this one stood still: "
                "what was written stays, nothing more is"
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        if self._thread is not None:
            self._thread.join()
        if self._lost.is_set():
            return
        try:
            _store(self._dataset_id).delete(self.run)
        except Exception as failure:  # the database is away: the lease expires by itself
            logger.warning("The lease of run %r could not be given back: %s", self.run, failure)
        # Not before: who takes it over in between would lose it to this deletion.
        _GIVEN_BACK.append(self._value["token"])

    def _renew(self) -> None:
        store = _store(self._dataset_id)
        while not self._done.wait(RENEW):
            renewed = {**self._value, "time": time.time()}
            try:
                if store.compare_and_set(self.run, self._value, renewed):
                    self._value = renewed
                    continue
                # A database that was killed may have forgotten the last renewal, or all of them.
                stored = store.get(self.run)
                if stored is None and store.set_if_absent(self.run, renewed):
                    self._value = renewed
                elif stored is not None and stored["token"] == self._value["token"]:
                    self._value = stored
                else:
                    self._lost.set()
                    return
            except Exception as failure:  # the database is away: try again
                logger.debug("The lease of run %r was not renewed: %s", self.run, failure)


def is_live(holder: dict[str, Any]) -> bool:
    """Whether the process that wrote a lease is still at work."""
    if holder["host"] == socket.gethostname() and not _runs(holder):
        return False
    return time.time() - float(holder["time"]) < EXPIRE


def clear_dead(dataset: Any) -> None:
    """Remove the leases of processes that are gone."""
    store = _store(dataset_id(dataset))
    for run in store.list_keys():
        holder = store.get(run)
        # Taken over first: somebody else may do the same in this moment.
        mine = {**_me(), "token": uuid.uuid4().hex, "time": time.time()}
        if holder is not None and not is_live(holder) and store.compare_and_set(run, holder, mine):
            store.delete(run)


def holder_of(dataset: Any, run: str) -> dict[str, Any] | None:
    """Who writes a run at the moment: host and pid; None if nobody does."""
    holder = _store(dataset_id(dataset)).get(run)
    return holder if holder is not None and is_live(holder) else None


def _me() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": psutil.Process(pid).create_time()}


def _runs(holder: dict[str, Any]) -> bool:
    """Whether a process of this machine is there, and not another one under its old number."""
    try:
        started = psutil.Process(int(holder["pid"])).create_time()
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:  # it is there but somebody else's
        return True
    return abs(started - float(holder.get("started", started))) < 2.0


def _store(dataset_id: Any) -> Any:
    return foo.ExecutionStore.create(STORE, dataset_id)
