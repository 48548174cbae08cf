"""What takes several steps is written down first: a killed process leaves nothing half done.

An intent is stored before the first step and removed after the last. Every step does only what is
left to do. Whoever enters a run next finds the intent of a process that is gone, and finishes it:
see `settle`.
"""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import fiftyone.operators as foo
from pymongo.errors import ConnectionFailure

from ...errors import RunConflictError
from .. import database
from ..database import with_retries
from ..fiftyone_api import dataset_id, store_collection
from .lease import STORE as LEASES
from .lease import Lease, clear_dead, is_live

logger = logging.getLogger(__name__)

STORE = "fiftyone-persam-journal"

# Operation -> the module of curation whose `FINISH` knows how to finish it. Looked up when there is
# something to finish: these modules stand above this one.
_HOMES = {
    "adopt": "adoption",
    "delete": "lifecycle",
    "rename": "lifecycle",
    "overwrite": "segmentation.execution",
    "results": "segmentation.execution",
    "again": "segmentation.again",
    "threshold": "review.threshold",
    "review": "review.decisions",
    "evaluate": "evaluation.evaluate",
    "promote": "handover.promotion",
}

Finish = Callable[[Any, dict[str, Any]], Any]


def carry_out(
    dataset: Any, name: str, operation: str, details: dict[str, Any], leases: Sequence[str] = ()
) -> Any:
    """Write down what is to be done, do it, and strike it out.

    The caller holds the leases. Where this fails in the middle, the next call of `settle` goes on.

    Args:
        dataset: the dataset.
        name: the run, or what else the operation is about.
        operation: one of `_HOMES`.
        details: plain values from which the operation can be finished.
        leases: the names of the leases that whoever goes on needs; default: the run's.

    Returns:
        What the operation's function returns.
    """
    begin(dataset, name, operation, details, leases)
    done = _do(dataset, operation, details)
    end(dataset, name, operation)
    return done


def begin(
    dataset: Any, name: str, operation: str, details: dict[str, Any], leases: Sequence[str] = ()
) -> None:
    """Write an intent down; one of the same name and operation is replaced."""
    intent = {
        "name": name,
        "operation": operation,
        "details": details,
        "leases": list(leases or [name]),
        "time": time.time(),
    }
    with_retries(lambda: _store(dataset).set(_key(name, operation), intent))
    database.make_durable()


def end(dataset: Any, name: str, operation: str) -> None:
    """Strike an intent out."""
    with_retries(lambda: _store(dataset).delete(_key(name, operation)))


def settle(dataset: Any) -> None:
    """See what others have done to a dataset, and finish what a killed process has begun.

    Called wherever runs are entered: one small query where there is nothing to do. An intent that
    cannot be finished now, as for a folder that is not there, waits for the next call.
    """
    database.refresh_if_changed(dataset)
    places = {"dataset_id": dataset_id(dataset), "store_name": {"$in": [STORE, LEASES]}}
    store = store_collection()
    entries = with_retries(lambda: list(store.find(places, {"store_name": 1, "value": 1})))
    if any(e["store_name"] == LEASES and not is_live(e["value"]) for e in entries):
        with_retries(clear_dead, dataset)
    intents = [e["value"] for e in entries if e["store_name"] == STORE]
    # Another try at a run goes by what its run has come to, so that is settled first.
    for intent in sorted(intents, key=lambda i: (i["operation"] == "again", float(i["time"]))):
        try:
            _finish(dataset, intent)
        except RunConflictError:
            pass  # somebody is at it
        except ConnectionFailure:
            raise
        except Exception as error:
            logger.warning(
                "%s of %r was cut off and cannot be finished now: %s",
                *(intent["operation"], intent["name"], " ".join(str(error).split())),
            )


def _finish(dataset: Any, intent: dict[str, Any]) -> None:
    name, operation = intent["name"], intent["operation"]
    with ExitStack() as held:
        for lease in intent["leases"]:
            held.enter_context(Lease(dataset, lease))
        if _store(dataset).get(_key(name, operation)) != intent:
            return  # done by somebody else meanwhile
        database.refresh(dataset)
        _do(dataset, operation, intent["details"])
        end(dataset, name, operation)


def _do(dataset: Any, operation: str, details: dict[str, Any]) -> Any:
    def act() -> Any:
        database.refresh_if_changed(dataset)  # the database may have forgotten what is in memory
        return _function(operation)(dataset, details)

    return database.surviving(act)


def _function(operation: str) -> Finish:
    curation = __package__.rpartition(".")[0]
    functions: dict[str, Finish]
    functions = importlib.import_module(f"{curation}.{_HOMES[operation]}").FINISH
    return functions[operation]


def _key(name: str, operation: str) -> str:
    return f"{operation} {name}"


def _store(dataset: Any) -> Any:
    return foo.ExecutionStore.create(STORE, dataset_id(dataset))
