"""Names: which runs a dataset has, and which fields belong to which of them."""

from __future__ import annotations

from typing import Any

from ...errors import PersamError, RunConflictError, did_you_mean
from ..checks import check_field_name
from .fields import RunFields, read_fields
from .journal import settle
from .leftovers import find_leftovers
from .record import TOOL
from .suffixes import EDIT, REVIEW

OF_SAMPLES = ("filepath", "tags", "metadata", "sample_id", "support")
"""Fields that FiftyOne's views of frames make beside those of the frames."""


def run_names(dataset: Any) -> list[str]:
    """Names of this package's runs on a dataset."""
    found: list[str] = dataset.list_runs(tool=TOOL)
    return found


def leftover_runs(dataset: Any) -> dict[str, RunFields]:
    """Name -> fields of the runs whose record is gone, as in a clone of a view."""
    return find_leftovers(dataset, _owners(dataset))


def require(dataset: Any, name: str) -> None:
    """Raise PersamError if a dataset has no run of this name.

    What a killed process has left of its runs is settled first.
    """
    settle(dataset)
    names = run_names(dataset)
    if name not in names:
        if name in list(leftover_runs(dataset)):
            raise PersamError(_without_record(dataset, name))
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "it has none"
        raise PersamError(
            f"dataset {dataset.name!r} has no run {name!r}: choose one of its runs ({listed})"
            f"{did_you_mean(name, names)}"
        )


def check_name(name: Any, argument: str = "out_field") -> None:
    """Raise PersamError if a run cannot have this name."""
    check_field_name(argument, name)


def check_free(dataset: Any, fields: RunFields) -> None:
    """Raise if a new run, or its review, would write into what is there already.

    Raises:
        RunConflictError: the name, or one of the fields, is another run's.
        PersamError: one of the fields exists.
    """
    owners = _owners(dataset)
    for field in names_of(fields):
        if owner := owners.get(field):
            raise RunConflictError(f"field {field!r} belongs to run {owner!r}: choose another name")
        if getattr(dataset, "holds_frames", False) and field in OF_SAMPLES:
            raise PersamError(
                f"frames cannot have a field {field!r}, because FiftyOne's views of frames make "
                "one: choose another name"
            )
        if dataset.has_field(field):
            left = find_leftovers(dataset, owners)
            for run in (fields.run, *left):
                if run in left and field in names_of(left[run]):
                    raise PersamError(f"{_without_record(dataset, run)}, or choose another name")
            raise PersamError(
                f"dataset {dataset.name!r} has a field {field!r} that no run has written: "
                "choose another name"
            )
    if dataset.has_run(fields.run):
        raise RunConflictError(
            f"dataset {dataset.name!r} has a run {fields.run!r} of another tool: "
            "choose another name"
        )


def _without_record(dataset: Any, run: str) -> str:
    return (
        f"dataset {dataset.name!r} has the fields of a run {run!r} without its record, as a clone "
        f"of a view has: take it over with adopt_run(dataset, {run!r}), or remove it with "
        f"delete_run(dataset, {run!r})"
    )


def owner_of(dataset: Any, field: str) -> str | None:
    """The run that writes a field, or keeps its review there, now or when it has something."""
    return _owners(dataset).get(field)


def names_of(fields: RunFields) -> list[str]:
    """Every field that comes and goes with a run: those it writes, and those of its review."""
    return [*fields.types(), review_field(fields.run), edit_field(fields.run)]


def _owners(dataset: Any) -> dict[str, str]:
    owners: dict[str, str] = {}
    for run in run_names(dataset):
        for field in names_of(read_fields(dataset, run)):
            owners.setdefault(field, run)
    return owners


def review_field(run: str) -> str:
    """The name of the field that holds the decisions about ``run``."""
    return f"{run}{REVIEW}"


def edit_field(run: str) -> str:
    """The name of the field of ``Detections`` in which masks of ``run`` are edited by hand."""
    return f"{run}{EDIT}"
