"""The field that labels are promoted into: what it holds, its mask values, its provenance."""

from __future__ import annotations

from typing import Any

import fiftyone as fo

from ...engine.writing import MASK_VALUE
from ...errors import PersamError, RunConflictError
from ..checks import check_field_name
from ..fiftyone_api import new_field
from ..runs.naming import owner_of
from ..runs.schema import add_fields
from ..runs.several import values_of
from .chosen import Chosen

PROVENANCE = {
    "persam_run": fo.StringField,
    "persam_score": fo.FloatField,
    "persam_presence": fo.FloatField,
    "persam_review": fo.StringField,
}


def check_label_field(dataset: Any, run: str, label_field: Any, kind: str | None = None) -> Any:
    """What :func:`promote` would write into a field: ``fo.Segmentation`` or ``fo.Detections``.

    Raises:
        PersamError: for an unknown kind, no name for a field, or a field of another type
        RunConflictError: if the field belongs to a run
    """
    kinds = {"segmentation": fo.Segmentation, "detections": fo.Detections}
    if kind is not None and not (isinstance(kind, str) and kind in kinds):
        raise PersamError(f"unknown kind {kind!r}: choose 'segmentation' or 'detections'")
    if label_field in dataset.list_runs():
        raise RunConflictError(
            f"field {label_field!r} belongs to the run of that name: choose another field"
        )
    if owner := owner_of(dataset, label_field):
        raise RunConflictError(
            f"field {label_field!r} belongs to run {owner!r}, and goes with it: choose another"
        )
    plain = isinstance(label_field, str) and label_field
    present = dataset.get_field(label_field) if plain else None
    if present is None:
        check_field_name("label_field", label_field)
        wanted = kinds[kind] if kind else dataset.get_field(run).document_type
        return fo.Detections if wanted is fo.Detections else fo.Segmentation
    found = getattr(present, "document_type", None)
    if found not in kinds.values() or (kind and kinds[kind] is not found):
        name = getattr(found, "__name__", type(present).__name__)
        raise PersamError(
            f"field {label_field!r} holds {name}, not {kind or 'masks'}: choose another field"
        )
    targets = dataset.mask_targets.get(label_field) or dataset.default_mask_targets
    if found is fo.Segmentation and any(isinstance(value, str) for value in targets):
        raise PersamError(f"field {label_field!r} holds masks of colours: choose another field")
    return fo.Detections if found is fo.Detections else fo.Segmentation


def declare(dataset: Any, label_field: str, target: Any) -> None:
    """Make the field if it is missing, and the attributes that say where its labels are from."""
    if not dataset.has_field(label_field):
        made = new_field(label_field, fo.EmbeddedDocumentField, embedded_doc_type=target)
        add_fields(dataset, {label_field: made})
    path = f"{label_field}.detections" if target is fo.Detections else label_field
    add_fields(dataset, {f"{path}.{n}": new_field(n, kind) for n, kind in PROVENANCE.items()})


def object_value(
    dataset: Any, run: str, label_field: str, label: str
) -> tuple[int, dict[int, str]]:
    """The value of the object in masks of a field, and the mask targets that name it."""
    targets = _targets_of(dataset, label_field)
    known_as = dict(dataset.mask_targets.get(run) or {})
    if not targets:
        return MASK_VALUE, {MASK_VALUE: label} if is_numbered(dataset, run) else known_as
    own = known_as.get(MASK_VALUE)
    for name in (label, own):
        for value, known in targets.items():
            if known == name:
                return int(value), {}
    free = [value for value in range(MASK_VALUE, 0, -1) if value not in targets]
    if not free:
        raise PersamError(f"mask targets of field {label_field!r} leave no value for {label!r}")
    return free[0], {**targets, free[0]: label}


def object_values(
    dataset: Any, chosen: Chosen, label_field: str
) -> tuple[dict[str, int], dict[int, str]]:
    """Each object's value in masks of a field, and the mask targets that have to be set."""
    targets = _targets_of(dataset, label_field)
    if not targets:
        own = values_of(chosen.objects)
        return {name: value for value, name in own.items()}, own
    named = {name: int(value) for value, name in targets.items()}
    values: dict[str, int] = {}
    for name in chosen.objects:
        free = (v for v in range(1, MASK_VALUE + 1) if v not in {*targets, *values.values()})
        value = named.get(name, next(free, None))
        if value is None:
            raise PersamError(f"mask targets of field {label_field!r} leave no value for {name!r}")
        values[name] = value
    new = {value: name for name, value in values.items() if name not in named}
    return values, {**targets, **new} if new else {}


def is_numbered(dataset: Any, run: str) -> bool:
    """Whether values of a run's masks tell several of its one object apart."""
    targets = dataset.mask_targets.get(run)
    return bool(targets) and 1 in targets


def _targets_of(dataset: Any, label_field: str) -> dict[int, str]:
    """The mask targets of a field that is there: its own, else the dataset's."""
    targets = dict(dataset.mask_targets.get(label_field) or {})
    if not targets and dataset.has_field(label_field):
        targets = dict(dataset.default_mask_targets)
    return targets
