"""Deleting and renaming runs, with everything that belongs to them."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import problem_of
from .database import make_durable, refresh, root
from .evaluation.compare import comparisons_of, forget_comparisons, rename_comparisons
from .evaluation.scores import (
    evaluation_fields,
    evaluations_with,
    forget_evaluations,
    rename_evaluations,
)
from .fiftyone_api import delete_results, drop_unlisted_runs, results_id
from .review.decisions import forget_review, rename_review
from .review.store import review_lease, review_lease_name
from .runs import fields as run_fields
from .runs import folders, journal, queries, schema
from .runs.fields import RunFields, fields_of, read_fields
from .runs.lease import Lease
from .runs.leftovers import stored_names
from .runs.loading import Run, load_run
from .runs.naming import check_free, check_name, leftover_runs, names_of, require, run_names
from .runs.record import read_record
from .segmentation.rejected import check_keepable, marks_of_run

logger = logging.getLogger(__name__)


def delete_run(samples: Any, name: str) -> None:
    """Delete a run with every field and file it wrote, its review, evaluations and comparisons.

    Fields of a run whose record is gone, as in a clone of a view, are deleted as well; see
    `adopt_run`. Files go when no dataset of the database names them any more.

    Labels that were promoted from it stay, and so do evaluations by FiftyOne's own methods. What a
    review has rejected stays in ``<name>_rejected``: the next run of the object learns from it. A
    deletion that is cut off is finished by the next call that looks at the dataset's runs.

    Raises:
        PersamError: there is no such run, one of the fields is locked, or its files cannot be
            removed; nothing has changed then.
        RunConflictError: it is being written.
    """
    dataset = root(samples)
    refresh(dataset)
    _is_leftover(dataset, name)
    with Lease(dataset, name), review_lease(dataset, name):
        refresh(dataset)
        details: dict[str, Any] = {"name": name, "masks_dir": "", "run_id": ""}
        if _is_leftover(dataset, name):  # somebody else may have deleted it in this moment
            fields = leftover_runs(dataset)[name]
            details["fields"] = stored_names(dataset, fields, names_of(fields))
        else:
            record = read_record(dataset, name)
            fields = fields_of(name, record)
            details |= {"masks_dir": record.masks_dir, "run_id": record.run_id}
            details["fields"] = names_of(fields)
            folders.check_removable(record.folder, dataset, record.run_id)
        schema.check_unlocked(dataset, _touched(dataset, fields), f"deleting run {name!r}")
        check_keepable(dataset, name, f"deleting run {name!r}")
        details["files"] = folders.samples_of(run_fields.paths_of(dataset, fields))
        details["results"] = _results_of(dataset, name, details["fields"])
        leases = (name, review_lease_name(name))
        journal.carry_out(dataset, name, "delete", details, leases)


def _is_leftover(dataset: Any, name: str) -> bool:
    """Whether there are only the fields of a run; raise PersamError if there is nothing."""
    journal.settle(dataset)
    if name not in run_names(dataset) and name in list(leftover_runs(dataset)):
        return True
    require(dataset, name)
    return False


def rename_run(samples: Any, name: str, new_name: str) -> Run:
    """Give a run, its fields and its review another name.

    Mask files stay where they are. Evaluations and comparisons keep their names, and belong to the
    run as before. A renaming that is cut off is finished by the next call that looks at the
    dataset's runs.

    Raises:
        PersamError: there is no such run, the new name is taken or no name for a field, or one of
            the fields is locked; nothing has changed then.
        RunConflictError: the run is being written.
    """
    dataset = root(samples)
    refresh(dataset)
    require(dataset, name)
    check_rename(dataset, name, new_name)
    reviews = (review_lease(dataset, name), review_lease(dataset, new_name))
    with Lease(dataset, name), Lease(dataset, new_name), reviews[0], reviews[1]:
        refresh(dataset)
        require(dataset, name)
        check_rename(dataset, name, new_name)
        details = {"name": name, "new_name": new_name}
        leases = (name, new_name, review_lease_name(name), review_lease_name(new_name))
        journal.carry_out(dataset, name, "rename", details, leases)
    return load_run(dataset, new_name)


def check_rename(dataset: Any, name: str, new_name: Any) -> None:
    """Raise PersamError or RunConflictError if a run cannot get a name; see `rename_run`."""
    fields = read_fields(dataset, name)
    check_name(new_name, "new_name")
    check_free(dataset, replace(fields, run=new_name))
    schema.check_unlocked(dataset, _touched(dataset, fields), f"renaming run {name!r}")


def _touched(dataset: Any, fields: RunFields) -> list[str]:
    """Every field that deleting or renaming a run changes."""
    keys = evaluations_with(dataset, fields.types())
    scores = [name for key in keys for name in evaluation_fields(key)]
    return [*names_of(fields), *scores, *comparisons_of(dataset, fields.run)]


def _results_of(dataset: Any, name: str, fields: list[str]) -> list[Any]:
    """The ids of what a run and its evaluations have stored as results."""
    keys = evaluations_with(dataset, fields)
    found = [results_id(dataset, "evaluations", key) for key in keys]
    return [results_id(dataset, "runs", name), *found]


# Steps: each does what is left to do ------------------------------------------------------------


def _delete(dataset: Any, details: dict[str, Any]) -> None:
    name, fields = details["name"], details["fields"]
    for mark in marks_of_run(dataset, name):
        if problem := problem_of(mark.write):  # to keep it is no reason to keep the run
            logger.warning("A rejected mask of run %r is not kept: %s", name, problem)
    make_durable()  # nothing of the run goes before that
    forget_evaluations(dataset, fields)
    forget_comparisons(dataset, name)
    forget_review(dataset, name)
    schema.delete_fields(dataset, fields)
    make_durable()  # no file goes before the database has let go of it for good
    if details["masks_dir"]:
        folders.remove_folder(Path(details["masks_dir"]), dataset, details["run_id"])
    if name in run_names(dataset):
        dataset.delete_run(name)
    drop_unlisted_runs(dataset, name)
    delete_results(details["results"])
    folders.clear_orphans(details.get("files", ()))


def _rename(dataset: Any, details: dict[str, Any]) -> None:
    name, new_name = details["name"], details["new_name"]
    present = name if name in run_names(dataset) else new_name
    old = fields_of(name, read_record(dataset, present))
    queries.drop_index(dataset, name)
    rename_review(dataset, name, new_name)
    new = run_fields.rename(dataset, old, new_name)
    queries.make_index(dataset, new_name)
    rename_evaluations(dataset, dict(zip(old.types(), new.types(), strict=True)))
    rename_comparisons(dataset, name, new_name)
    if present == name:
        dataset.rename_run(name, new_name)


FINISH = {"delete": _delete, "rename": _rename}
