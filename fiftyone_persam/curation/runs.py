"""Runs: what every call of `segment` leaves on its dataset, to be listed, loaded and deleted.

A run is one of FiftyOne's own custom runs. Its key is the name of its main field; its config holds
what it was asked for, its results what came of it.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as odm
from bson import DBRef

from ..errors import PersamError, RunConflictError, did_you_mean
from . import fields as run_fields
from . import folders
from .checks import check_field_name
from .fields import RunFields
from .lease import Lease, holder_of

TOOL = "fiftyone-persam"

RUNNING, DONE, INTERRUPTED, FAILED = "running", "done", "interrupted", "failed"


class Summary(str):
    """Text that a notebook or prompt shows as it is."""

    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a dataset, as it was when it was loaded.

    Attributes:
        dataset: the dataset.
        name: the run's key, and its main field.
        config: what it was asked for: ``method``, ``model``, ``checkpoint_sha256``,
            ``references``, ``parameters``, ``versions``, ``device``, ``backend``, ...
        started: when it was registered (UTC).
        counts: how many photos of the dataset are ``segmented`` (``absent`` among them) and
            ``failed``, and how many of the last call's are ``remaining``.
        timings: ``seconds``, ``photos`` and ``photos_per_second`` of the last call that ended, and
            the seconds of each stage.
        errors: sample id -> why that photo has no mask.
    """

    dataset: Any
    name: str
    config: Any
    started: datetime.datetime
    counts: dict[str, int]
    timings: dict[str, float]
    errors: dict[str, str]

    @property
    def state(self) -> str:
        """One of "running", "done", "failed", "interrupted": stopped, killed or crashed."""
        state = str(self.config.state)
        if state == RUNNING and holder_of(self.dataset, self.name) is None:
            return INTERRUPTED
        return state

    @property
    def fields(self) -> RunFields:
        """The fields it writes."""
        return fields_of(self.name, self.config)

    @property
    def masks_dir(self) -> Path:
        """Where its mask files are."""
        return Path(self.config.masks_dir)

    def view(self) -> Any:
        """The photos of the last call."""
        return run_fields.photos_of(self.dataset).select(self.ids())

    def ids(self) -> list[str]:
        """The sample ids of the last call."""
        return ids_of(self.dataset, self.name, results_of(self.dataset, self.name))

    def summary(self) -> Summary:
        """Counts, timings, and failures with their reasons, as text of several lines."""
        references = self.config.references
        first = references[0]
        what = Path(first["filepath"]).name
        if len(references) > 1:
            groups = len({reference["group"] for reference in references})
            what = f"{len(references)} photos" + (f" of {groups} objects" if groups > 1 else "")
        lines = [
            f"Run:        {self.name} ({self.state})",
            f"Method:     {self.config.method} with {self.config.model} on {self._place()}",
            f"Reference:  {what}, labels in {first['label_field']!r}",
            f"Photos:     {self._counted()}",
            f"Time:       {self._timed()}",
            f"Masks:      {self.config.masks_dir}",
        ]
        if self.config.state == FAILED and self.config.reason:
            lines.append(f"Stopped by: {self.config.reason}")
        shown = list(self.errors.items())[:20]
        if shown:
            lines.append("Failures:")
            lines += [f"  {sample_id}  {reason}" for sample_id, reason in shown]
        if len(self.errors) > len(shown):
            lines.append(f"  ... and {len(self.errors) - len(shown)} more, see {self.name}_error")
        return Summary("\n".join(lines))

    def __str__(self) -> str:
        return f"{self.name}: {self._counted()}"

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.state}, {self._counted()})"

    def _place(self) -> str:
        backend = getattr(self.config, "backend", "local")
        return str(self.config.device) + ("" if backend == "local" else f" ({backend})")

    def _counted(self) -> str:
        parts = [f"{self.counts['segmented']} segmented"]
        for name in ("absent", "failed", "remaining"):
            if self.counts[name]:
                parts.append(f"{self.counts[name]} {name}")
        return ", ".join(parts)

    def _timed(self) -> str:
        if not self.timings:
            return "not known"
        rate = self.timings["photos_per_second"]
        return f"{self.timings['seconds']:.1f} s, {rate:.2f} photos per second"


def list_runs(samples: Any) -> list[Run]:
    """The runs of a dataset, oldest first."""
    dataset = root(samples)
    refresh(dataset)
    return sorted((load(dataset, name) for name in run_names(dataset)), key=lambda r: r.started)


def load_run(samples: Any, name: str) -> Run:
    """Load one run.

    Args:
        samples: its dataset, or a view into it.
        name: its name.

    Raises:
        PersamError: there is no such run.
    """
    dataset = root(samples)
    refresh(dataset)
    require(dataset, name)
    return load(dataset, name)


def delete_run(samples: Any, name: str) -> None:
    """Delete a run with every field and file it wrote, its review, evaluations and comparisons.

    Labels that were promoted from it stay, and so do evaluations by FiftyOne's own methods.

    Raises:
        PersamError: there is no such run.
        RunConflictError: it is being written.
    """
    from .compare import forget_comparisons
    from .review import forget_review
    from .scores import forget_evaluations

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
    from .compare import rename_comparisons
    from .review import rename_review
    from .scores import rename_evaluations

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


# ----------------------------------------------------------------------------------------------
# What the rest of this room needs


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


def root(samples: Any) -> Any:
    """The dataset behind a dataset or view.

    Raises:
        PersamError: it is neither.
    """
    if not isinstance(samples, fo.core.collections.SampleCollection):
        raise PersamError(f"{type(samples).__name__} is no FiftyOne dataset or view: give one")
    home = samples if isinstance(samples, fo.Dataset) else samples._dataset
    if home.deleted:
        raise PersamError(f"dataset {home.name!r} is deleted: load or make another one")
    return samples._root_dataset


def refresh(dataset: Any) -> None:
    """See what other processes have done to a dataset.

    A full reload makes views unusable that somebody has already looked through, so it is kept for
    when another process has changed the fields.
    """
    dataset._reload()
    if any(isinstance(document, DBRef) for document in dataset._doc.runs.values()):
        # A process was killed while it deleted a run: the dataset still names it.
        odm.patch_runs(dataset.name)
        dataset._reload()
    stored = {field.name for field in dataset._doc.sample_fields}
    if {name for name in stored if not name.startswith("_")} != set(dataset.get_field_schema()):
        dataset.reload()


def run_names(dataset: Any) -> list[str]:
    """Names of this package's runs on a dataset."""
    found: list[str] = dataset.list_runs(tool=TOOL)
    return found


def require(dataset: Any, name: str) -> None:
    """Raise PersamError if a dataset has no run of this name."""
    names = run_names(dataset)
    if name not in names:
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") or "it has none"
        raise PersamError(
            f"dataset {dataset.name!r} has no run {name!r}: choose one of its runs ({listed})"
            f"{did_you_mean(name, names)}"
        )


def fields_of(name: str, config: Any) -> RunFields:
    """The fields that a run writes."""
    parameters = config.parameters
    return RunFields(
        name,
        parameters.get("label_type", run_fields.SEGMENTATION),
        bool(parameters.get("similarity")),
        bool(parameters.get("prompts")),
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
        if dataset.has_field(field):
            raise PersamError(
                f"dataset {dataset.name!r} has a field {field!r} that no run has written: "
                "choose another name"
            )
    if dataset.has_run(fields.run):
        raise RunConflictError(
            f"dataset {dataset.name!r} has a run {fields.run!r} of another tool: "
            "choose another name"
        )


def owner_of(dataset: Any, field: str) -> str | None:
    """The run that writes a field, or keeps its review there, now or when it has something."""
    return _owners(dataset).get(field)


def names_of(fields: RunFields) -> list[str]:
    """Every field that comes and goes with a run: those it writes, and those of its review."""
    from .review import edit_field, review_field

    return [*fields.types(), review_field(fields.run), edit_field(fields.run)]


def _owners(dataset: Any) -> dict[str, str]:
    owners: dict[str, str] = {}
    for run in run_names(dataset):
        for field in names_of(fields_of(run, dataset.get_run_info(run).config)):
            owners.setdefault(field, run)
    return owners


def load(dataset: Any, name: str) -> Run:
    """A run that is known to be there, as the dataset object has it."""
    info = dataset.get_run_info(name)
    results = results_of(dataset, name)
    fields = fields_of(name, info.config)
    ids = ids_of(dataset, name, results)
    return Run(
        dataset=dataset,
        name=name,
        config=info.config,
        started=info.timestamp,
        counts=count(dataset, fields, ids, info.config.parameters.get("presence_threshold")),
        timings=dict(getattr(results, "timings", None) or {}),
        errors=errors_of(dataset, fields),
    )


def results_of(dataset: Any, name: str) -> Any:
    """What a run has stored beside its config; None if it was killed before that."""
    return dataset.load_run_results(name, cache=False, load_view=False)


def ids_of(dataset: Any, name: str, results: Any) -> list[str]:
    """The sample ids of a run's last call."""
    ids = getattr(results, "ids", None)
    if ids is None:
        ids = dataset.load_run_view(name).values("id")
    return list(ids)


def done_ids(dataset: Any, name: str) -> set[str]:
    """The photos that have a mask of a run."""
    if not dataset.has_field(name):
        return set()
    return set(run_fields.photos_of(dataset).exists(name).values("id"))


def errors_of(dataset: Any, fields: RunFields) -> dict[str, str]:
    """Sample id -> reason, for every photo that failed."""
    name = f"{fields.run}_error"
    if not dataset.has_field(name):
        return {}
    ids, reasons = run_fields.photos_of(dataset).exists(name).values(["id", name])
    return dict(zip(ids, reasons, strict=True))


def count(
    dataset: Any, fields: RunFields, ids: list[str], threshold: float | None
) -> dict[str, int]:
    """How many photos are in which state; see `Run.counts`."""
    if not dataset.has_field(fields.run):
        return {"segmented": 0, "absent": 0, "failed": 0, "remaining": len(ids)}
    photos = run_fields.photos_of(dataset)
    done = photos.exists(fields.run)
    failed = photos.exists(f"{fields.run}_error")
    presence = [p for p in done.values(f"{fields.run}_presence") if p is not None]
    ended = set(done.values("id")) | set(failed.values("id"))
    living = set(photos.select(ids).values("id")) if ids else set()
    return {
        "segmented": len(done),
        "absent": sum(p < threshold for p in presence) if threshold else 0,
        "failed": len(failed),
        "remaining": len(living - ended),
    }
