"""Choosing references: which labels a photo offers, and what is wrong with a choice."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fiftyone as fo
from bson import ObjectId
from cachetools import LRUCache

from ...errors import PersamError
from ...sam.masks import classes_in
from .. import database
from ..database import photos_of
from ..fiftyone_api import dataset_id, dataset_of_sample
from ..labels.pixels import mask_pixels, targets_of
from ..labels.resolving import resolve_references
from ..labels.shapes import INSTANCES, label_prompt
from ..runs.naming import run_names
from ..runs.record import read_record
from ..segmentation.fitting import check_covered
from ..segmentation.photos import choose_photos
from ..segmentation.rejected import MOST, photos_with_rejected

REFERENCE_LABELS = (
    fo.Segmentation,
    fo.Detections,
    fo.Detection,
    fo.Polylines,
    fo.Polyline,
    fo.Keypoints,
    fo.Keypoint,
)


def label_fields(collection: Any) -> list[str]:
    """The fields of a collection whose labels can be a reference."""
    names = []
    for name, field in collection.get_field_schema(embedded_doc_type=REFERENCE_LABELS).items():
        if field.document_type is not None:
            names.append(name)
    return names


def labels_of(sample: Any, field: str) -> dict[str, str]:
    """The instances a photo has in a field: label id and what to call it. Empty for none.

    A segmentation counts as one instance; its ids are those of FiftyOne's labels.
    """
    label = sample[field] if sample.has_field(field) else None
    if label is None:
        return {}
    instances = _instances(label)
    if len(instances) == 1 and not isinstance(label, tuple(INSTANCES)):
        return {instances[0].id: getattr(label, "label", None) or field}
    names = [getattr(one, "label", None) or "object" for one in instances]
    return {
        one.id: name if names.count(name) == 1 else f"{name} ({i + 1} of {len(names)})"
        for i, (one, name) in enumerate(zip(instances, names, strict=True))
    }


def mask_values(sample: Any, field: str) -> dict[int, str]:
    """The values above zero in a photo's segmentation mask, with their names where known.

    Empty for other labels, for colour masks, and for masks that cannot be read.
    """
    label = sample[field] if sample.has_field(field) else None
    if not isinstance(label, fo.Segmentation):
        return {}
    try:
        pixels = mask_pixels(label, field)
    except PersamError:
        return {}
    if pixels is None or pixels.values is None or pixels.values.dtype.kind == "b":
        return {}
    found = classes_in(pixels, targets_of(dataset_of_sample(sample), field))
    return {value: found[value] for value in sorted(v for v in found if isinstance(v, int))}


def learnt_value(dataset: Any, run: str, field: str) -> int | str | None:
    """The value of a field's masks from which a run has learnt its object, if it was one value."""
    if run not in run_names(dataset):
        return None
    references = read_record(dataset, run).references
    values = {one.mask_value for one in references if one.label_field == field}
    return values.pop() if len(values) == 1 else None


def rejected_count(dataset: Any, sample_ids: Iterable[str], run: str = "") -> int:
    """How many rejected masks a run would learn from, at most, that learns from these photos.

    Args:
        dataset: the photos'.
        sample_ids: of the references.
        run: the run that is made again.
    """
    return min(MOST, len(photos_with_rejected(dataset, sample_ids, run)))


def problem_with(
    sample: Any, field: str, label_id: str | None = None, mask_value: int | str | None = None
) -> str | None:
    """What keeps a label from being a reference, in one line, or None if nothing does."""
    if not Path(sample.filepath).is_file():
        return f"the photo {Path(sample.filepath).name} is not on the disk: choose another one"
    try:
        label_prompt(sample, field, label_id, mask_value)
    except PersamError as error:
        return str(error)
    return None


def _instances(label: Any) -> list[Any]:
    for kind, attribute in INSTANCES.items():
        if isinstance(label, kind):
            return list(getattr(label, attribute))
    return [label]


REMEMBERED = 32


def problem_with_references(
    samples: Any,
    reference: Any,
    label_field: str,
    group_by: str | None = None,
    mask_value: int | str | None = None,
) -> str | None:
    """What keeps references from serving these photos, in one line, or None.

    The same checks as in `segment`. Reading the labels of many references takes a second, so what
    was found is remembered until one of the samples is changed.
    """
    try:
        tasks = choose_photos(samples, group_by)
        groups = _groups(database.root(samples), reference, label_field, group_by, mask_value)
        check_covered({task.group for task in tasks}, groups, group_by)
    except PersamError as error:
        return str(error)
    return None


# What was asked -> the groups that have a reference. Faults are not kept: files can come back.
_FOUND: LRUCache[tuple[Any, ...], set[str]] = LRUCache(REMEMBERED)
_LOCK = threading.Lock()  # the App's server resolves several forms at once


def _groups(
    dataset: Any,
    reference: Any,
    label_field: str,
    group_by: str | None,
    mask_value: int | str | None,
) -> set[str]:
    if isinstance(reference, fo.core.collections.SampleCollection):
        ids, chosen = reference.values("id"), ()
    else:
        ids = [one[0] if isinstance(one, tuple) else one for one in reference]
        chosen = tuple(reference)
        if not all(isinstance(i, str) and ObjectId.is_valid(i) for i in ids):
            resolve_references(dataset, reference, label_field, group_by, mask_value)  # raises
    changed = photos_of(dataset).select(ids).values("last_modified_at") if ids else []
    asked = (dataset_id(dataset), label_field, group_by, mask_value, chosen, *ids, *changed)
    with _LOCK:
        groups = _FOUND.get(asked)
    if groups is None:
        found = resolve_references(dataset, reference, label_field, group_by, mask_value)
        groups = {one.group for one in found}
        with _LOCK:
            _FOUND[asked] = groups
    return groups
