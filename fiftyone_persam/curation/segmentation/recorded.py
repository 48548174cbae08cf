"""The references that a run has recorded, found again."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import fiftyone as fo

from ...errors import BadReferenceError, problem_of
from ...personalize.reference import TEXT
from ..fiftyone_api import dataset_name
from ..labels.references import AnyReference, PhraseReference
from ..labels.resolving import resolve_references
from ..labels.shapes import LabelPrompt
from ..runs.record import ReferenceRecord

RESUMED = "start the run again with overwrite=True and another reference"
TRIED_AGAIN = "give keep_references=False to learn from the new reference alone"


def recorded_references(
    dataset: Any, records: Sequence[ReferenceRecord], otherwise: str, unchanged: bool = False
) -> list[AnyReference]:
    """What a run has learnt its object from, wherever that is by now.

    A reference is looked for in the dataset that it was in. Where that is gone, or the photo is
    gone from it, the run's own dataset may have it too: a clone has its original's references.

    Args:
        dataset: the run's dataset.
        records: as the run has recorded them.
        otherwise: what to do where one cannot be used, for the message.
        unchanged: refuse labels that are not what they were.

    Raises:
        BadReferenceError: a reference, or its label, is gone, cannot be used, or has changed.
    """
    if not records:
        raise BadReferenceError(f"the run has no reference on record: {otherwise}")
    return [_find(dataset, record, otherwise, unchanged) for record in records]


def _find(dataset: Any, record: ReferenceRecord, otherwise: str, unchanged: bool) -> AnyReference:
    if record.kind == TEXT:
        return PhraseReference(record.text or "", record.dataset or dataset.name, record.group)
    name = os.path.basename(record.filepath)
    if record.frame is not None:
        name = f"frame {record.frame} of {name}"
    home = _home(dataset, record)
    if home is None:
        where = f" of dataset {record.dataset!r}" if record.dataset else ""
        raise BadReferenceError(f"the reference {name}{where} is gone: {otherwise}")
    try:
        one = _resolve(home, record, record.label_id)
    except BadReferenceError as error:
        # A label that was saved anew has another id; where it is the same, it is known.
        same = None if problem_of(_resolve, home, record, None) else _resolve(home, record, None)
        if same is None or same.prompt.fingerprint() != record.fingerprint:
            raise BadReferenceError(f"{error}, or {otherwise}") from None
        one = same
    if unchanged and one.prompt.fingerprint() != record.fingerprint:
        raise BadReferenceError(
            f"the label of reference {name} has changed since the run began: start it again "
            "with overwrite=True, or put the label back"
        )
    if record.shown is not None:
        one = replace(one, prompt=LabelPrompt.from_dict(record.shown), stored=one.prompt)
    return replace(one, group=record.group, text=record.text)


def _resolve(home: Any, record: ReferenceRecord, label_id: str | None) -> Any:
    chosen: Any = record.sample_id if label_id is None else (record.sample_id, label_id)
    if record.frame is not None:
        chosen = (record.sample_id, record.frame, label_id)
    (one,) = resolve_references(home, chosen, record.label_field, None, record.mask_value)
    return one


def _home(dataset: Any, record: ReferenceRecord) -> Any:
    """The dataset that has a reference's photo, whatever it is called now; None if none has."""
    name = record.dataset
    if record.dataset_id is not None:  # records of earlier versions have only the name
        name = dataset_name(record.dataset_id)
    homes = [fo.load_dataset(name)] if name and fo.dataset_exists(name) else []
    return next((home for home in (*homes, dataset) if _has(home, record.sample_id)), None)


def _has(dataset: Any, sample_id: str) -> bool:
    try:
        dataset[sample_id]
    except KeyError:
        return False
    return True
