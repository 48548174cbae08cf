"""Ground truth that a form can offer to compare masks with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import fiftyone as fo
from fiftyone import ViewField as F

from ..checks import MASKS


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


def _class_of(label: Any, label_id: str | None) -> str | None:
    instances = label.detections if isinstance(label, fo.Detections) else [label]
    chosen = [one for one in instances if one is not None and label_id in (None, one.id)]
    return chosen[0].label if len(chosen) == 1 else None
