"""Runs: what every call of `segment` leaves on its dataset, to be listed and loaded.

A run is one of FiftyOne's own custom runs. Its key is the name of its main field; its config holds
its `RunRecord`, its results what came of it.
"""

from __future__ import annotations

import datetime
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import PersamError
from .. import database
from ..database import refresh, root
from ..frame_store import FrameStore, home, whole_dataset
from . import queries
from .fields import RunFields, fields_of
from .journal import settle
from .lease import holder_of
from .losses import lost_fields, lost_files, lost_withheld, low_presence
from .naming import leftover_runs, require, run_names
from .presence import presence_threshold
from .record import (
    Outcome,
    RunRecord,
    RunState,
    read_outcome,
)
from .suffixes import ERROR, OBJECTS, WITHHELD

logger = logging.getLogger(__name__)


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
        record: what it was asked for, and how it stands.
        config: the same as FiftyOne's run config, with plain values: ``method``, ``model``,
            ``checkpoint_sha256``, ``references``, ``parameters``, ``versions``, ``device``, ...
        started: when it was registered (UTC).
        counts: how many photos of the dataset are ``segmented`` (``absent`` among them: their mask
            is empty, because the presence is below the threshold) and ``failed``, and how many of
            the last call's are ``remaining``.
        timings: ``seconds``, ``photos`` and ``photos_per_second`` of the last call that ended, and
            the seconds of each stage.
        errors: sample id -> why that photo has no mask.
    """

    dataset: Any
    name: str
    record: RunRecord
    config: Any
    started: datetime.datetime
    counts: dict[str, int]
    timings: dict[str, float]
    errors: dict[str, str]

    @property
    def _home(self) -> Any:
        return home(self.dataset)

    @property
    def _unit(self) -> str:
        """What is counted, in the plural."""
        return "frames" if isinstance(self._home, FrameStore) else "photos"

    @property
    def state(self) -> str:
        """One of "running", "done", "failed", "interrupted": stopped, killed or crashed."""
        state = self.record.state
        if state == RunState.RUNNING and holder_of(self._home, self.name) is None:
            return RunState.INTERRUPTED
        return state

    @property
    def fields(self) -> RunFields:
        """The fields it writes."""
        return fields_of(self.name, self.record)

    @property
    def masks_dir(self) -> Path:
        """Where its mask files are."""
        return self.record.folder

    def view(self) -> Any:
        """The photos of the last call; of videos these, with the frames of the call.

        Raises:
            PersamError: the run was renamed or deleted since it was loaded.
        """
        chosen = database.selected(self._home, self.ids())
        return chosen.shown() if isinstance(chosen, FrameStore) else chosen

    def ids(self) -> list[str]:
        """The sample ids of the last call; raises like `view`."""
        if self.name not in run_names(self._home):
            raise PersamError(
                f"dataset {self._home.name!r} has no run {self.name!r} any more: it was renamed "
                "or deleted since, load it again"
            )
        return ids_of(self._home, self.name, read_outcome(self._home, self.name))

    def summary(self) -> Summary:
        """Counts, timings, and failures with their reasons, as text of several lines."""
        references = [one for one in self.record.references if one.sample_id]
        said = [f"the phrase {one.text!r}" for one in self.record.references if one.text]
        what, labels = " and ".join(said) or "not known", ""
        if references:
            what = Path(references[0].filepath).name
            if (frame := references[0].frame) is not None:
                what = f"frame {frame} of {what}"
            labels = f", labels in {references[0].label_field!r}"
            if said:
                labels += f", {' and '.join(said)}"
        if len(references) > 1:
            photos = len({(one.sample_id, one.frame) for one in references})
            objects = len({one.group for one in references})
            of = f" of {objects} objects" if objects > 1 else ""
            what = (
                f"{what} ({len(references)} labels{of})"
                if photos == 1
                else f"{photos} {self._unit}{of}"
            )
        lines = [
            f"Run:        {self.name} ({self.state})",
            f"Method:     {self._how()}",
            f"Reference:  {what}{labels}",
            f"{self._unit.capitalize()}:     {self._counted()}",
            f"Time:       {self._timed()}",
            f"Masks:      {self.record.masks_dir}",
        ]
        if self.record.state == RunState.FAILED and self.record.reason:
            lines.append(f"Stopped by: {self.record.reason}")
        lines += self._lost()
        shown = list(self.errors.items())[:20]
        if shown:
            lines.append("Failures:")
            lines += [f"  {sample_id}  {reason}" for sample_id, reason in shown]
        if len(self.errors) > len(shown):
            lines.append(f"  ... and {len(self.errors) - len(shown)} more, see {self.name}_error")
        return Summary("\n".join(lines))

    def _lost(self) -> list[str]:
        """What somebody has deleted by hand, and what brings it back, as lines of the summary."""
        lines: list[str] = []
        if self.name not in run_names(self._home):
            return lines
        if fields := lost_fields(self._home, self.fields):
            made = {self.fields.masks, self.fields.instances} & set(fields)
            cure = "resume_run makes them again"
            if not made:
                cure = "only segment(..., overwrite=True) makes their values again"
            lines.append(f"Deleted:    fields {', '.join(fields)}: {cure}")
        if absent := lost_withheld(self._home, self.fields):
            lines.append(
                f"Deleted:    what was found in {len(absent)} photos without the object: "
                "resume_run makes it again"
            )
        if files := lost_files(self._home, self.name):
            first = next(iter(files.values()))
            lines.append(
                f"Gone:       mask files of {len(files)} photos, the first {first}: resume_run "
                "makes them again"
            )
        return lines

    def __str__(self) -> str:
        return f"{self.name}: {self._counted()}"

    def __repr__(self) -> str:
        return f"Run({self.name!r}, {self.state}, {self._counted()})"

    def _how(self) -> str:
        if not self.record.method:  # see `adopt_run`
            return "not known"
        return f"{self.record.method} with {self.record.model} on {self._place()}"

    def _place(self) -> str:
        backend = self.record.backend
        return self.record.device + ("" if backend == "local" else f" ({backend})")

    def _counted(self) -> str:
        parts = [f"{self.counts['segmented']} segmented"]
        if self.counts["absent"]:
            parts = [f"{parts[0]} ({self.counts['absent']} of them absent)"]
        for name in ("failed", "remaining"):
            if self.counts[name]:
                parts.append(f"{self.counts[name]} {name}")
        return ", ".join(parts)

    def _timed(self) -> str:
        if not self.timings:
            return "not known"
        rate = self.timings["photos_per_second"]
        return f"{self.timings['seconds']:.1f} s, {rate:.2f} {self._unit} per second"


def list_runs(samples: Any) -> list[Run]:
    """The runs of a dataset, oldest first; a warning names those that lack their record."""
    dataset = root(samples)
    settle(dataset)
    if left := leftover_runs(dataset):
        logger.warning(
            "dataset %r has the fields of runs without their records (%s): adopt_run takes them "
            "over, delete_run removes them",
            *(dataset.name, ", ".join(left)),
        )
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


def load(dataset: Any, name: str) -> Run:
    """A run that is known to be there, as the dataset object has it."""
    info = dataset.get_run_info(name)
    record = RunRecord.from_config(info.config, name)
    outcome = read_outcome(dataset, name)
    fields = fields_of(name, record)
    ids = ids_of(dataset, name, outcome)
    errors = errors_of(dataset, fields)
    return Run(
        dataset=whole_dataset(dataset),
        name=name,
        record=record,
        config=record.to_config(info.config),
        started=info.timestamp,
        counts=count(dataset, fields, ids, presence_threshold(dataset, name), len(errors)),
        timings=outcome.timings,
        errors=errors,
    )


def ids_of(dataset: Any, name: str, outcome: Outcome) -> list[str]:
    """The sample ids of a run's last call."""
    if outcome.ids is not None:
        return outcome.ids
    return list(dataset.load_run_view(name).values("id"))


def errors_of(dataset: Any, fields: RunFields) -> dict[str, str]:
    """Sample id -> reason, for every photo that failed."""
    run, name = fields.run, f"{fields.run}{ERROR}"
    # The index begins with the mask: without a word about it all photos would be read.
    either = [{**queries.failed(run), **one(run)} for one in (queries.without_mask, queries.done)]
    rows = queries.rows(database.photos_of(dataset), [name], {"$or": either})
    return {sample_id: reason for sample_id, (reason,) in rows.items()}


def count(
    dataset: Any, fields: RunFields, ids: list[str], threshold: float, failed: int
) -> dict[str, int]:
    """How many photos are in which state; see `Run.counts`.

    Args:
        dataset: the run's.
        fields: what it writes.
        ids: the photos of its last call.
        threshold: the presence below which the object counts as absent.
        failed: how many have an error.
    """
    photos, run = database.photos_of(dataset), fields.run
    done, untouched = queries.done(run), queries.untouched(run)
    left = 0
    if ids and queries.count(photos, untouched):
        left = len(set(ids).intersection(queries.ids(photos, untouched)))
    return {
        "segmented": queries.count(photos, done),
        "absent": _absent(dataset, fields, threshold),
        "failed": failed,
        "remaining": left,
    }


def _absent(dataset: Any, fields: RunFields, threshold: float) -> int:
    """How many photos have an empty mask because of their presence.

    What a reviewer has said something about keeps its mask under another threshold.
    """
    run = fields.run
    emptied = queries.done(f"{fields.masks or fields.instances}{WITHHELD}")
    if fields.objects:  # some may be withheld, and others shown
        emptied = {f"{run}{OBJECTS}.classifications.0": {"$exists": False}}
    return queries.count(
        database.photos_of(dataset),
        queries.done(run),
        low_presence(dataset, run, threshold),
        {"$or": [queries.open_to_threshold(dataset, run), emptied]},
    )
