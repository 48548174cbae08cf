"""Naming a run in a form: what is taken, what is there already, how long it will take."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from ...errors import PersamError, problem_of
from .. import database
from ..checks import LONGEST_NAME
from ..frame_store import home
from ..lifecycle import check_rename
from ..runs import naming, queries
from ..runs.fields import RunFields, read_fields
from ..runs.loading import list_runs
from ..runs.naming import check_free, check_name, edit_field, review_field, run_names


def free_name(dataset: Any, base: str = "object") -> str:
    """A field name made of ``base`` that a run can have, whatever it writes beside its masks."""
    dataset = home(dataset)
    stem = re.sub(r"[^a-z0-9_]+", "_", base.strip().lower()).strip("_") or "object"
    if stem[0].isdigit():
        stem = f"object_{stem}"
    stem = stem[: LONGEST_NAME - 10]
    name, number = stem, 1
    while name in run_names(dataset) or problem_with_name(
        dataset, name, label_type="both", similarity=True, prompts=True, compare_photos=True
    ):
        number += 1
        name = f"{stem}_{number}"
    return name


def problem_with_name(
    dataset: Any,
    name: Any,
    label_type: str = "segmentation",
    similarity: bool = False,
    prompts: bool = False,
    compare_photos: bool = False,
) -> str | None:
    """What keeps ``name`` from being that of a run, in one line, or None.

    A run that is there can be gone on with; a new one needs all its fields, see `segment`.
    """
    dataset = home(dataset)
    try:
        check_name(name)
        if name not in run_names(dataset):
            asked = RunFields(name, label_type, similarity, prompts, compare_photos=compare_photos)
            check_free(dataset, asked)
    except PersamError as error:
        return str(error)
    return None


def problem_with_new_name(dataset: Any, run: str, new_name: Any) -> str | None:
    """What keeps a run from being renamed, in one line, or None."""
    return problem_of(check_rename, home(dataset), run, new_name)


@dataclass(frozen=True)
class Estimate:
    """How long a run will take, judged by an earlier one on this machine.

    Attributes:
        seconds: all of it.
        photos_per_second: without what is done once.
        device: where.
        run: the earlier one.
        compiling: seconds of all that go into compiling the image encoder.
    """

    seconds: float
    photos_per_second: float
    device: str
    run: str
    compiling: float = 0.0


def estimate(dataset: Any, model: str, method: str, photos: int) -> Estimate | None:
    """How long ``photos`` photos will take, from the newest run of the same model.

    A run of the same method is preferred. Runs that found photos in a cache of embeddings do not
    count: they say little about photos that nobody has encoded. None where no such run has ended.
    """
    ended = [
        run for run in list_runs(dataset) if run.record.model == model and _all_encoded(run.timings)
    ]
    same = [run for run in ended if run.record.method == method]
    if not ended:
        return None
    run = (same or ended)[-1]
    rate = float(run.timings["photos_per_second"])
    compiling = float(run.timings.get("compiling") or 0)
    done, seconds = run.timings.get("photos") or 0, float(run.timings.get("seconds") or 0)
    if 0 < compiling < seconds and done:
        rate = done / (seconds - compiling)
    else:
        compiling = 0.0
    return Estimate(photos / rate + compiling, rate, run.record.device, run.name, compiling)


def _all_encoded(timings: dict[str, Any]) -> bool:
    photos = timings.get("photos") or 0
    encoded = timings.get("photos_encoded", photos)
    # Photos that could not be read are not encoded either: a few of them do not mean a cache.
    return bool(timings.get("photos_per_second")) and encoded >= 0.9 * photos


@dataclass(frozen=True)
class ExistingRun:
    """A run that is there already, and what it has in some photos.

    Attributes:
        fields: what it writes.
        photos: how many photos these are.
        masks: how many of them have a mask of the run.
        decisions: how many were accepted or rejected.
        corrections: how many were made ready to be corrected by hand.
    """

    fields: RunFields
    photos: int
    masks: int
    decisions: int
    corrections: int


def fields_of_run(dataset: Any, name: Any) -> RunFields | None:
    """What a run writes; None if a dataset has no run of this name."""
    if name not in naming.run_names(dataset):
        return None
    return read_fields(dataset, name)


def existing_run(samples: Any, name: Any) -> ExistingRun | None:
    """How far a run is in some photos; None if their dataset has no run of this name."""
    dataset = database.root(samples)
    fields = fields_of_run(dataset, name)
    if fields is None:
        return None
    ids, photos = set(database.photos_of(samples).values("id")), database.photos_of(dataset)
    masks, decisions, corrections = (
        len(ids.intersection(queries.ids(photos, {field: {"$ne": None}})))
        for field in (name, review_field(name), edit_field(name))
    )
    return ExistingRun(fields, len(ids), masks, decisions, corrections)
