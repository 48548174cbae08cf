"""Fields of runs without their record, as clones of views and merged datasets have them.

FiftyOne copies a run's record with a whole dataset only: a clone of a view, a merge or
`dataset.delete_run` leave the fields alone. They are known by their descriptions.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Any

import fiftyone as fo

from ..database import photos_of
from .fields import SEGMENTATION, RunFields
from .suffixes import ALONE, OBJECTS, PROMPTS, SIMILARITY, WITHHELD

_OURS = re.compile(r"\brun '\w+'")
_COMPANIONS = ("score", "presence", "agreement", "error")


def find_leftovers(dataset: Any, owned: Collection[str]) -> dict[str, RunFields]:
    """The runs that a dataset has fields of, and no record: name -> their fields.

    A copy of a run's masks alone, as of `clone_sample_field`, is somebody's backup and not one.

    Args:
        dataset: the dataset.
        owned: the fields that belong to runs with a record.
    """
    found: dict[str, RunFields] = {}
    for field in dataset.get_field_schema():
        run, _, suffix = field.rpartition("_")
        if suffix not in _COMPANIONS or run in found or {run, field} & set(owned):
            continue
        if run and _is_ours(dataset, field, run):
            found[run] = _fields(dataset, run)
    return found


def stored_names(dataset: Any, fields: RunFields, names: Iterable[str]) -> list[str]:
    """Those of the names of a leftover run's fields that this package has written."""
    return [n for n in names if dataset.has_field(n) and _is_ours(dataset, n, fields.run)]


def _fields(dataset: Any, run: str) -> RunFields:
    whole = RunFields(run, "both", similarity=True, prompts=True, compare_photos=True)
    there = stored_names(dataset, whole, whole.types())
    kind = SEGMENTATION
    if _kind(dataset, run) is fo.Detections:
        kind = "detections"
    elif whole.instances in there or f"{whole.instances}{WITHHELD}" in there:
        kind = "both"
    beside = (f"{run}{SIMILARITY}" in there, f"{run}{PROMPTS}" in there)
    compared = f"{run}{ALONE}" in there
    return RunFields(run, kind, *beside, _objects(dataset, run), compared)


def _objects(dataset: Any, run: str) -> tuple[str, ...]:
    """The names of a run's objects where a photo may have several."""
    names = [f"{run}{OBJECTS}", f"{run}{OBJECTS}{WITHHELD}"]
    known = [n for n in names if dataset.has_field(n) and _is_ours(dataset, n, run)]
    if not known:
        return ()
    targets = dataset.mask_targets.get(run) or {}
    if targets:
        return tuple(targets[value] for value in sorted(targets))
    found = (photos_of(dataset).distinct(f"{name}.classifications.label") for name in known)
    return tuple(sorted({label for labels in found for label in labels}))


def _is_ours(dataset: Any, name: str, run: str) -> bool:
    description = dataset.get_field(name).description
    if description is not None:
        return _OURS.search(description) is not None
    # `add_samples` into another dataset keeps names and types alone.
    numbers = (dataset.get_field(f"{run}_{suffix}") for suffix in ("score", "presence"))
    masks = _kind(dataset, run) in (fo.Segmentation, fo.Detections)
    return masks and all(isinstance(field, fo.FloatField) for field in numbers)


def _kind(dataset: Any, name: str) -> Any:
    return getattr(dataset.get_field(name), "document_type", None)
