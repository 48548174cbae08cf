"""Taking over the fields of a run whose record is gone: a clone of a view, a merged dataset."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from bson import ObjectId

from ..engine.writing import MASK_VALUE
from ..errors import PersamError, RunConflictError
from . import fiftyone_api
from .database import photos_of, refresh, root
from .review.decisions import rename_review
from .runs import folders, journal, queries, schema
from .runs.fields import RunFields, add_missing, fields_of, paths_of
from .runs.lease import Lease
from .runs.loading import Run, load_run
from .runs.losses import done_ids, withheld_of
from .runs.naming import leftover_runs, run_names
from .runs.presence import chosen_threshold
from .runs.record import TOOL, Parameters, RunRecord, RunState, read_record
from .runs.several import most_of, numbers_of, values_of
from .runs.suffixes import ERROR, PRESENCE, SCORE

logger = logging.getLogger(__name__)


def adopt_run(samples: Any, name: str) -> Run:
    """Take over the fields of a run whose record is gone, so that they are a run again.

    FiftyOne copies a run's record with a whole dataset only: a clone of a view, a merge, or
    `dataset.delete_run` leave its fields without one. The record is made anew: where the run that
    wrote the masks is still in the database, with its method, model, references and settings; else
    with what the fields tell, and `resume_run` and `segment_again` say what they lack. Masks stay
    where they are, and new ones go into a folder of the dataset's own.

    Args:
        samples: the dataset, or a view into it.
        name: the run's name, and that of the field with its masks.

    Returns:
        The run; as it is where its record is there already.

    Raises:
        PersamError: there are no such fields.
        RunConflictError: somebody else writes that run, or another tool's run has the name.
    """
    dataset = root(samples)
    journal.settle(dataset)
    if name in run_names(dataset):
        return load_run(dataset, name)
    _fields_left(dataset, name)
    if dataset.has_run(name):
        raise RunConflictError(f"dataset {dataset.name!r} has a run {name!r} of another tool")
    with Lease(dataset, name):
        refresh(dataset)
        fields = _fields_left(dataset, name)
        details: dict[str, Any] = {"name": name, "key": _renamed(dataset, fields)}
        if details["key"] is None:
            config = _record(dataset, fields).to_config(dataset.init_run()).serialize()
            details |= {"config": config, "results": ObjectId()}
        journal.carry_out(dataset, name, "adopt", details)
    return load_run(dataset, name)


def _fields_left(dataset: Any, name: Any) -> RunFields:
    found = leftover_runs(dataset)
    if name not in list(found):
        listed = ", ".join(found) or "there are none"
        raise PersamError(
            f"dataset {dataset.name!r} has no fields of a run {name!r} without its record: choose "
            f"from {listed}"
        )
    return found[name]


def _record(dataset: Any, fields: RunFields) -> RunRecord:
    name, (record, threshold) = fields.run, _known(dataset, fields)
    if record is None:
        logger.warning(
            "run %r is adopted without its method, model and references, which nobody knows any "
            "more: segment(..., overwrite=True) records them anew",
            name,
        )
        record = _unknown(dataset, fields)
    else:
        record = replace(record, reviewed_threshold=threshold)
    taken = {read_record(dataset, run).run_id for run in run_names(dataset)}
    if record.run_id in taken:  # a copy of another run's fields needs a folder of its own
        record = replace(record, run_id="")
    folder, run_id = folders.own_folder(dataset, name, record.folder, record.run_id)
    return replace(record, state=RunState.DONE, reason="", masks_dir=str(folder), run_id=run_id)


def _adopt(dataset: Any, details: dict[str, Any]) -> None:
    """Does what is left to do."""
    name, key = details["name"], details["key"]
    if key is not None:
        if key in run_names(dataset):
            rename_review(dataset, key, name)
            dataset.rename_run(key, name)
        return
    record = RunRecord.from_config(SimpleNamespace(**details["config"]), name)
    if name not in run_names(dataset):
        fiftyone_api.drop_unlisted_runs(dataset, name)
        dataset.register_run(name, record.to_config(dataset.init_run()))
    ids = done_ids(dataset, name) | done_ids(dataset, f"{name}{ERROR}")
    order = [i for i in photos_of(dataset).values("id") if i in ids]
    results = dataset.init_run_results(name, ids=order, timings={})
    fiftyone_api.put_results(results, details["results"])
    fiftyone_api.use_results(dataset, "runs", name, details["results"], None)
    queries.make_index(dataset, name)
    written = fields_of(name, record)
    add_missing(dataset, written, [f"{name}{ERROR}"])  # one without a value is not copied by all
    labels = [n for n in (written.masks, written.instances) if n and dataset.has_field(n)]
    if written.masks in labels and not dataset.mask_targets.get(written.masks):
        called = next((r.name for r in record.references if r.name), "object")
        in_turn = record.parameters.sequence_field is not None
        most = 1 if in_turn else most_of(record.parameters.options)
        one = numbers_of(called, most) if most > 1 else {MASK_VALUE: called}
        targets = values_of(written.objects) or one
        schema.name_values(dataset, written.masks, targets)
    schema.colour_fields(dataset, labels, dataset.mask_targets.get(written.masks) or (MASK_VALUE,))


def _unknown(dataset: Any, fields: RunFields) -> RunRecord:
    """A record with what the fields tell."""
    # What waits does so because its presence is below the threshold.
    values = list(_presences(dataset, fields))
    threshold = min(1.0, math.nextafter(max(values), math.inf)) if values else 0.0
    parameters = Parameters(
        label_field="",
        label_type=fields.label_type,
        similarity=fields.similarity,
        prompts=fields.prompts,
        compare_photos=fields.compare_photos,
        objects=list(fields.objects),
        presence_threshold=threshold,
    )
    own = [f for f in _folders(dataset, fields) if folders.is_of_dataset(f, dataset)]
    mark = folders.read_mark(own[0]) if own else None
    return RunRecord(
        method="",
        model="",
        references=(),
        parameters=parameters,
        masks_dir=str(own[0]) if own else "",
        run_id="" if mark is None else str(mark["run_id"]),
        state=RunState.DONE,
        device="",
    )


def _presences(dataset: Any, fields: RunFields) -> Iterator[float]:
    held, presence = withheld_of(dataset, fields), f"{fields.run}{PRESENCE}"
    if held and dataset.has_field(presence):
        for i, value in zip(*photos_of(dataset).values(["id", presence]), strict=True):
            if i in held and value is not None:
                yield float(value)


def _known(dataset: Any, fields: RunFields) -> tuple[RunRecord | None, float | None]:
    """The record of the run that wrote the masks, and its reviewer's threshold."""
    for document in _candidates(dataset, fields):
        try:
            config = SimpleNamespace(**document["config"])
            record = RunRecord.from_config(config, document["key"])
        except (PersamError, TypeError, AttributeError):  # damaged, or of a later version
            continue
        home = fiftyone_api.load_by_id(str(document["_dataset_id"]))
        threshold = record.reviewed_threshold
        if home is not None and home.has_run(document["key"]):
            threshold = chosen_threshold(home, document["key"])
        return record, threshold
    return None, None


def _renamed(dataset: Any, fields: RunFields) -> str | None:
    """A run of the dataset that has lost its own fields, and wrote these under that name."""
    here = fiftyone_api.dataset_id(dataset)
    for document in _candidates(dataset, fields):
        key = str(document["key"])
        listed = document["_dataset_id"] == here and key in run_names(dataset)
        if listed and not dataset.has_field(key):
            return key
    return None


def _candidates(dataset: Any, fields: RunFields) -> list[dict[str, Any]]:
    """Runs, of any dataset, that may have written the fields: those of the files' folders first."""
    marks = [folders.read_mark(folder) for folder in _folders(dataset, fields)]
    ids = [str(mark["run_id"]) for mark in marks if mark is not None]
    known = fiftyone_api.stored_runs({"config.run_id": {"$in": ids}}) if ids else []
    if known:
        return known
    score = f"{fields.run}{SCORE}"
    if not dataset.has_field(score):
        return []
    photo = photos_of(dataset).exists(score).first() if done_ids(dataset, score) else None
    if photo is None:
        return []
    named = fiftyone_api.stored_runs({"config.tool": TOOL, "key": fields.run})
    same = {"filepath": photo.filepath, score: photo[score]}
    return [one for one in named if fiftyone_api.has_sample(str(one["_dataset_id"]), same)]


def _folders(dataset: Any, fields: RunFields) -> list[Path]:
    return sorted({Path(os.path.dirname(path)) for path in paths_of(dataset, fields)})


FINISH = {"adopt": _adopt}
"""What `journal.settle` does after a process that was killed."""
