"""Marking the object in a photo that has no label yet: a box becomes a label to learn from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from ...errors import BadReferenceError, PersamError
from ...sam.boxes import tight_box
from ..checks import check_choice, check_field_name, check_text
from ..fiftyone_api import dataset_of_sample, new_field
from ..labels.sizes import read_shown_size
from ..runs import schema
from ..runs.naming import owner_of
from ..runs.suffixes import REFERENCE

FIELD = "reference"
SCALES = ("part", "larger part", "whole")


@dataclass(frozen=True, eq=False)
class Mark:
    """A mask that becomes a label when a run begins that learns from it.

    Attributes:
        dataset: of the photo.
        sample_id: the photo.
        mask: (H, W) bool.
        label: what it is called.
        field: takes the label.
        label_id: that it will have.
        about: further attributes of the `fo.Detection`.
        shown: whether the App shows the field before somebody ticks it.
    """

    dataset: Any
    sample_id: str
    mask: npt.NDArray[np.bool_]
    label: str
    field: str
    label_id: str
    about: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    shown: bool = True

    def write(self) -> None:
        """Write the label, if it is not there yet; one that is there gets the attributes."""
        sample, new = self.dataset[self.sample_id], not self.dataset.has_field(self.field)
        mark_mask(sample, self.mask, self.label, self.field, self.label_id, self.about)
        if new and not self.shown:
            schema.hide_fields(self.dataset, [self.field])


def reference_field(run: str) -> str:
    """The field of the labels that were chosen for a run; it stays when the run goes."""
    return f"{run}{REFERENCE}"


def mark_reference(sample: Any, box: Any, label: str = "object", field: str = FIELD) -> str:
    """Mark an object in a photo by a box, so that `segment` can learn it from there.

    The box becomes a `fo.Detection` in a field of its own, which the App shows and other runs can
    use. A box that is there already is not written again.

    Args:
        sample: a photo of a dataset.
        box: x0, y0, x1, y1 in pixels of the photo as it is shown.
        label: what the object is called.
        field: the field that takes the label; made if it is missing.

    Returns:
        The label's id: ``segment(dataset, (sample, id), label_field=field)``.

    Raises:
        BadReferenceError: the box is empty, or not inside the photo.
        PersamError: the field has labels of another type, belongs to a run, or is locked.
        PhotoError: the photo cannot be read.
    """
    dataset = dataset_of_sample(sample)
    check_text("label", label)
    check_field_name("field", field)
    relative = _relative(box, read_shown_size(sample.filepath))
    check_markable(dataset, field)
    marked = _marked(sample, field)
    for known in marked:
        if known.label == label and np.allclose(known.bounding_box, relative, atol=1e-6):
            return str(known.id)
    return _add(sample, field, marked, fo.Detection(label=label, bounding_box=relative))


def mark_point(
    sample: Any,
    point: Any,
    label: str = "object",
    field: str = FIELD,
    *,
    scale: str | None = None,
    model: Any = "sam_lite",
) -> str:
    """Mark what is at a point of a photo, so that `segment` can learn it from there.

    The mask of what is there becomes a label as in `mark_mask`.

    Args:
        sample: a photo of a dataset.
        point: x, y in pixels of the photo as it is shown.
        label: what the object is called.
        field: the field that takes the label; made if it is missing.
        scale: "part", "larger part" or "whole": SAM's three scales, of which some may agree; what
            the model is surest of if None.
        model: a model's name, or a model: it makes the mask.

    Returns:
        The label's id: ``segment(dataset, (sample, id), label_field=field)``.

    Raises:
        BadReferenceError: there is nothing at this point.
        PersamError: the point is outside the photo; the field has labels of another type, belongs
            to a run, or is locked.
        PhotoError: the photo cannot be read.
    """
    from ...sam import load_photo, load_sam
    from ...sam.places import at_place, check_point
    from ...sam.proposals import is_plain

    dataset = dataset_of_sample(sample)
    check_text("label", label)
    check_field_name("field", field)
    if scale is not None:
        check_choice("scale", scale, SCALES)
    check_point(point, read_shown_size(sample.filepath))
    check_markable(dataset, field)
    photo, sam = load_photo(sample.filepath), load_sam(model)
    found = [] if is_plain(photo) else at_place(sam, sam.encode([photo])[0], point=point)
    if not found:
        raise BadReferenceError(
            f"there is nothing to segment at this point of {Path(sample.filepath).name}: give a "
            "point on the object"
        )
    chosen = max(found, key=lambda one: one.score)
    if scale is not None:
        chosen = found[max(0, len(found) - len(SCALES) + SCALES.index(scale))]
    return mark_mask(sample, chosen.mask, label, field)


def mark_mask(
    sample: Any,
    mask: npt.NDArray[np.bool_],
    label: str = "object",
    field: str = FIELD,
    label_id: str | None = None,
    about: Mapping[str, Any] | None = None,
) -> str:
    """Mark an object in a photo by a mask, so that `segment` can learn it from there.

    The mask becomes a `fo.Detection` with an instance mask in a field of its own, as in
    `mark_reference`. A mask that is there already is not written again.

    Args:
        sample: a photo of a dataset.
        mask: (H, W) bool at the size of the photo as it is shown, not empty.
        label: what the object is called.
        field: the field that takes the label; made if it is missing.
        label_id: that the label gets; a label that has it is there already, and stays. A new one if
            None.
        about: further attributes of the label, such as its ``confidence``.

    Returns:
        The label's id.

    Raises:
        BadReferenceError: the mask is empty, or of another size than the photo.
        PersamError: the field has labels of another type, belongs to a run, or is locked.
        PhotoError: the photo cannot be read.
    """
    dataset = dataset_of_sample(sample)
    check_text("label", label)
    check_field_name("field", field)
    if mask.shape != (size := read_shown_size(sample.filepath)):
        raise BadReferenceError(
            f"a mask of shape {mask.shape} does not fit a photo of {size[1]} x {size[0]} pixels: "
            f"give {size}, the photo as it is shown"
        )
    detection = masked_detection(mask, label)
    check_markable(dataset, field)
    marked = _marked(sample, field)
    same = (k for k in marked if (_is_same(k, detection) if label_id is None else k.id == label_id))
    if (known := next(same, None)) is not None:
        if _describe(known, about or {}):
            sample.save()
        return str(known.id)
    if label_id is not None:
        detection.id = label_id
    _describe(detection, about or {})
    return _add(sample, field, marked, detection)


def _describe(detection: Any, about: Mapping[str, Any]) -> bool:
    """Give a `fo.Detection` attributes; whether anything has changed."""
    new = {k: v for k, v in about.items() if not detection.has_field(k) or detection[k] != v}
    for name, value in new.items():
        detection[name] = value
    return bool(new)


def _is_same(known: Any, other: Any) -> bool:
    same_box = np.allclose(known.bounding_box, other.bounding_box, atol=1e-6)
    if not (same_box and known.label == other.label and known.mask is not None):
        return False
    return np.array_equal(known.mask.astype(np.bool_), other.mask)


def same_label(known: Any, mask: npt.NDArray[np.bool_], label: str) -> bool:
    """Whether a `fo.Detection` is what `mark_mask` would make of a (H, W) mask."""
    return _is_same(known, masked_detection(mask, label))


def masked_detection(mask: npt.NDArray[np.bool_], label: str) -> Any:
    """A `fo.Detection` with a (H, W) mask, cropped to its box.

    Raises:
        BadReferenceError: the mask is empty.
    """
    box = tight_box(mask)
    if box is None:
        raise BadReferenceError("the mask is empty: mark the object")
    x0, y0, x1, y1 = box
    height, width = mask.shape
    return fo.Detection(
        label=label,
        bounding_box=[x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height],
        mask=mask[y0:y1, x0:x1].copy(),
    )


def check_markable(dataset: Any, field: str, action: str = "marking a reference in") -> None:
    """Raise PersamError unless a field takes objects that no run found, or can be made for them.

    Args:
        dataset: the field's dataset.
        field: its name.
        action: what is about to be done with the field, for the message.
    """
    if owner := owner_of(dataset, field):
        raise PersamError(f"field {field!r} belongs to run {owner!r}: choose another field")
    present = dataset.get_field(field)
    if present is not None and getattr(present, "document_type", None) is not fo.Detections:
        raise PersamError(f"field {field!r} does not hold Detections: choose another field")
    schema.check_unlocked(dataset, [field], f"{action} {field!r}")


def _marked(sample: Any, field: str) -> list[Any]:
    """What is marked in a photo already; the field is made if it is missing."""
    dataset = dataset_of_sample(sample)
    if dataset.get_field(field) is None:
        about = "Objects that somebody has marked as references"
        kind = new_field(
            field,
            fo.EmbeddedDocumentField,
            description=about,
            embedded_doc_type=fo.Detections,
        )
        schema.add_fields(dataset, {field: kind})
        sample.reload()
    marked = sample[field] or fo.Detections()
    return list(marked.detections)


def _add(sample: Any, field: str, marked: list[Any], detection: Any) -> str:
    sample[field] = fo.Detections(detections=[*marked, detection])
    sample.save()
    return str(detection.id)


def _relative(box: Any, size: tuple[int, int]) -> list[float]:
    try:
        x0, y0, x1, y1 = (float(value) for value in box)
    except (TypeError, ValueError):
        raise BadReferenceError(
            f"box {box!r} is not a box: give x0, y0, x1, y1 in pixels"
        ) from None
    height, width = size
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):  # NaN is not, either
        raise BadReferenceError(
            f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty or not inside the photo of {width} x "
            f"{height} pixels: give x0 < x1 and y0 < y1 inside it"
        )
    return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
