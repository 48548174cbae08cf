"""Deleting and renaming runs, with everything that belongs to them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..errors import RunConflictError
from .database import refresh, root
from .evaluation.compare import forget_comparisons, rename_comparisons
from .evaluation.scores import forget_evaluations, rename_evaluations
from .review.decisions import forget_review, rename_review
from .runs import fields as run_fields
from .runs import folders
from .runs.fields import RunFields, fields_of, read_fields
from .runs.lease import Lease
from .runs.loading import Run, load_run
from .runs.naming import check_free, check_name, require
from .runs.record import read_record, update_record


def delete_run(samples: Any, name: str) -> None:
    """Delete a run with every field and file it wrote, its review, evaluations and comparisons.

    Labels that were promoted from it stay, and so do evaluations by FiftyOne's own methods.

    Raises:
        PersamError: there is no such run.
        RunConflictError: it is being written.
    """
    dataset = root(samples)
    refresh(dataset)
    require(dataset, name)
    with Lease(dataset, name):
        record = read_record(dataset, name)
        forget_evaluations(dataset, fields_of(name, record).types())
        forget_comparisons(dataset, name)
        forget_review(dataset, name)
        run_fields.delete(dataset, fields_of(name, record))
        folders.remove_folder(record.folder, dataset, record.run_id)
        dataset.delete_run(name)  # last: a deletion that was cut off can be repeated


def rename_run(samples: Any, name: str, new_name: str) -> Run:
    """Give a run, its fields and its review another name.

    Mask files stay where they are. Evaluations and comparisons keep their names, and belong to the
    run as before.

    Raises:
        PersamError: there is no such run, or the new name is taken or no name for a field.
        RunConflictError: the run is being written.
    """
    dataset = root(samples)
    refresh(dataset)
    require(dataset, name)
    old = read_fields(dataset, name)
    check_rename(dataset, name, new_name)
    new = RunFields(new_name, old.label_type, old.similarity, old.prompts)
    with Lease(dataset, name), Lease(dataset, new_name):
        # Noted first: a renaming that is cut off finds some fields under the new name already.
        update_record(dataset, name, renaming=new_name)
        rename_review(dataset, name, new_name)
        run_fields.rename(dataset, old, new_name)
        rename_evaluations(dataset, dict(zip(old.types(), new.types(), strict=True)))
        rename_comparisons(dataset, name, new_name)
        dataset.rename_run(name, new_name)
    return load_run(dataset, new_name)


def check_rename(dataset: Any, name: str, new_name: Any) -> None:
    """Raise PersamError or RunConflictError if a run cannot get a name; see `rename_run`."""
    record = read_record(dataset, name)
    old = fields_of(name, record)
    check_name(new_name, "new_name")
    begun = record.renaming
    if begun not in (None, name, new_name):
        raise RunConflictError(
            f"renaming run {name!r} to {begun!r} was cut off in the middle: rename it to "
            f"{begun!r} first"
        )
    if begun != new_name:
        check_free(dataset, replace(old, run=new_name))
