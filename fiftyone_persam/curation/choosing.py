"""Choosing photos, groups, run and ground truth: what a form has to know before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fiftyone as fo
from bson import ObjectId
from fiftyone import ViewField as F

from ..errors import PersamError, problem_of
from . import runs
from .checks import MASKS
from .fields import RunFields, photos_of
from .plan import check_covered, check_photos, choose_photos
from .references import resolve_references

REMEMBERED = 32


def photos_behind(view: Any) -> Any:
    """The photos that a view shows: those of its patches, or all of its dynamic groups."""
    if view._is_patches:
        return photos_of(view._root_dataset).select(view.values("sample_id"))
    return view.flatten() if view._is_dynamic_groups else view


def problem_with_photos(samples: Any) -> str | None:
    """What keeps photos from being segmented, in one line, or None."""
    return problem_of(check_photos, samples)


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
        groups = _groups(runs.root(samples), reference, label_field, group_by, mask_value)
        check_covered({task.group for task in tasks}, groups, group_by)
    except PersamError as error:
        return str(error)
    return None


# ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Standing:
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
    if name not in runs.run_names(dataset):
        return None
    return runs.fields_of(name, dataset.get_run_info(name).config)


def standing(samples: Any, name: Any) -> Standing | None:
    """How far a run is in some photos; None if their dataset has no run of this name."""
    from .review import edit_field, review_field

    dataset = runs.root(samples)
    fields = fields_of_run(dataset, name)
    if fields is None:
        return None
    ids = set(samples.values("id"))
    masks, decisions, corrections = (
        len(ids & runs.done_ids(dataset, field))
        for field in (name, review_field(name), edit_field(name))
    )
    return Standing(fields, len(ids), masks, decisions, corrections)


# ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Truth:
    """Ground truth that masks of an object can be compared with.

    Attributes:
        samples: the photos; where a field holds several classes, only the object's is in sight.
        count: how many of them, beside the references, have ground truth.
        label: the one class in sight, or None for all.
        doubt: why the numbers could be wrong, or None.
    """

    samples: Any
    count: int
    label: str | None = None
    doubt: str | None = None


def ground_truth(
    samples: Any,
    field: str,
    reference: Any = None,
    label_id: str | None = None,
    grouped: bool = False,
) -> Truth | None:
    """The ground truth in the field that a reference's label is from; None if there is none.

    Args:
        samples: the photos to segment.
        field: the field of the reference's label.
        reference: the reference's sample, which is not counted; None for several.
        label_id: which of its labels, where there are several.
        grouped: whether each photo shows the object of its group, and no other.
    """
    kind = getattr(samples.get_field(field), "document_type", None)
    if kind not in MASKS:
        return None
    label, doubt = None, None
    if kind is not fo.Segmentation:
        label = None if reference is None else _class_of(reference[field], label_id)
        path = f"{field}.detections.label" if kind is fo.Detections else f"{field}.label"
        classes = [str(name) for name in samples.distinct(path)]
        if len(classes) < 2:
            label = None
        elif label is not None:
            # Photos in which only other classes are labelled stay: the object is not in them.
            samples = samples.filter_labels(field, F("label") == label, only_matches=False)
        elif not grouped:
            listed = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
            doubt = f"The field holds {listed}: all of that would count as the object"
    others = samples.exists(field)
    if reference is not None:
        others = others.exclude(reference.id)
    count = len(others)
    if kind is fo.Detections and doubt is None:
        several = len(others.match(F(f"{field}.detections").length() > 1))
        if several:
            what = repr(label) if label else "objects"
            doubt = f"{several} photos have several {what}: all of them would count as the object"
    return Truth(samples, count, label, doubt) if count else None


# ----------------------------------------------------------------------------------------------

# What was asked -> the groups that have a reference. Faults are not kept: files can come back.
_FOUND: dict[tuple[Any, ...], set[str]] = {}


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
    asked = (dataset._doc.id, label_field, group_by, mask_value, chosen, *ids, *changed)
    if asked not in _FOUND:
        found = resolve_references(dataset, reference, label_field, group_by, mask_value)
        while len(_FOUND) >= REMEMBERED:
            _FOUND.pop(next(iter(_FOUND)))
        _FOUND[asked] = {one.group for one in found}
    return _FOUND[asked]


def _class_of(label: Any, label_id: str | None) -> str | None:
    instances = label.detections if isinstance(label, fo.Detections) else [label]
    chosen = [one for one in instances if one is not None and label_id in (None, one.id)]
    return chosen[0].label if len(chosen) == 1 else None
