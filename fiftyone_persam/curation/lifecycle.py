"""Deleting and renaming runs, with everything that belongs to them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import RunConflictError
from .database import refresh, root
from .evaluation.compare import forget_comparisons, rename_comparisons
from .evaluation.scores import forget_evaluations, rename_evaluations
from .review.decisions import forget_review, rename_review
from .runs import fields as run_fields
from .runs import folders
from .runs.fields import RunFields, fields_of
from .runs.lease import Lease
from .runs.naming import check_free, check_name, require
from .runs.record import Run, load_run


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
        config = dataset.get_run_info(name).config
        forget_evaluations(dataset, fields_of(name, config).types())
        forget_comparisons(dataset, name)
        forget_review(dataset, name)
        run_fields.delete(dataset, fields_of(name, config))
        folders.remove_folder(Path(config.masks_dir), dataset, config.run_id)
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
    config = dataset.get_run_info(name).config
    old = fields_of(name, config)
    check_rename(dataset, name, new_name)
    new = RunFields(new_name, old.label_type, old.similarity, old.prompts)
    with Lease(dataset, name), Lease(dataset, new_name):
        # Noted first: a renaming that is cut off finds some fields under the new name already.
        config.renaming = new_name
        dataset.update_run_config(name, config)
        rename_review(dataset, name, new_name)
        run_fields.rename(dataset, old, new_name)
        rename_evaluations(dataset, dict(zip(old.types(), new.types(), strict=True)))
        rename_comparisons(dataset, name, new_name)
        dataset.rename_run(name, new_name)
    return load_run(dataset, new_name)


def check_rename(dataset: Any, name: str, new_name: Any) -> None:
    """Raise PersamError or RunConflictError if a run cannot get a name; see `rename_run`."""
    config = dataset.get_run_info(name).config
    old = fields_of(name, config)
    check_name(new_name, "new_name")
    begun = getattr(config, "renaming", None)
    if begun not in (None, name, new_name):
        raise RunConflictError(
            f"renaming run {name!r} to {begun!r} was cut off in the middle: rename it to "
            f"{begun!r} first"
        )
    if begun != new_name:
        check_free(dataset, replace(old, run=new_name))
