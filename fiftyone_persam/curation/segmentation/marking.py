"""Marking the object in a photo that has no label yet: a box or a mask becomes a label."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from ...errors import BadReferenceError, PersamError
from ...sam.proposals import Proposal
from ..checks import check_field_name, check_text
from ..fiftyone_api import dataset_of_sample, new_field
from ..labels.sizes import read_shown_size
from ..runs import schema
from ..runs.naming import owner_of

FIELD = "reference"


def reference_field(run: str) -> str:
    """The name of the field that takes what is marked for a run; it stays when the run goes."""
    return f"{run}_reference"


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
    check_text("label", label)
    check_field_name("field", field)
    relative = _relative(box, read_shown_size(sample.filepath))
    return _mark(sample, fo.Detection(label=label, bounding_box=relative), field)


def mark_mask(
    sample: Any, mask: npt.NDArray[np.bool_] | Proposal, label: str = "object", field: str = FIELD
) -> str:
    """The same with a mask: of a proposal that was picked, of a phrase, of your own.

    The mask becomes a `fo.Detection` with an instance mask, which the App can edit.

    Args:
        sample: a photo of a dataset.
        mask: (H, W) bool at the photo's own size as it is shown, or a proposal of this photo.
        label: what the object is called.
        field: the field that takes the label; made if it is missing.

    Returns:
        The label's id: ``segment(dataset, (sample, id), label_field=field)``.

    Raises:
        BadReferenceError: the mask is empty, or of another size.
        PersamError: the field has labels of another type, belongs to a run, or is locked.
        PhotoError: the photo cannot be read.
    """
    check_text("label", label)
    check_field_name("field", field)
    size = read_shown_size(sample.filepath)
    if isinstance(mask, Proposal):
        chosen: Proposal | None = mask
        given: tuple[int, ...] = mask.size
    else:
        array = np.asarray(mask)
        if array.dtype != np.bool_ or array.ndim != 2:
            raise BadReferenceError(
                f"the mask is an array of {array.dtype} and shape {array.shape}: give (H, W) bool"
            )
        given, chosen = array.shape, Proposal.of(array, 1.0)
    if given != size:
        raise BadReferenceError(
            f"the mask has {given[1]} x {given[0]} pixels and the photo {size[1]} x {size[0]}: "
            "give a mask of the photo as it is shown"
        )
    if chosen is None:
        raise BadReferenceError("the mask is empty: give one that covers the object")
    height, width = size
    x0, y0, x1, y1 = (int(v) for v in chosen.box)
    box = [x0 / width, y0 / height, (x1 + 1 - x0) / width, (y1 + 1 - y0) / height]
    return _mark(sample, fo.Detection(label=label, bounding_box=box, mask=chosen.crop), field)


def _mark(sample: Any, detection: fo.Detection, field: str) -> str:
    """Add a label to a photo's marks, unless it is there already. Its id."""
    dataset = dataset_of_sample(sample)
    if owner := owner_of(dataset, field):
        raise PersamError(f"field {field!r} belongs to run {owner!r}: choose another field")
    present = dataset.get_field(field)
    if present is not None and getattr(present, "document_type", None) is not fo.Detections:
        raise PersamError(f"field {field!r} does not hold Detections: choose another field")
    schema.check_unlocked(dataset, [field], f"marking a reference in {field!r}")
    if present is None:
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
    for known in marked.detections:
        if _same(known, detection):
            return str(known.id)
    sample[field] = fo.Detections(detections=[*marked.detections, detection])
    sample.save()
    return str(detection.id)


def _same(known: fo.Detection, other: fo.Detection) -> bool:
    if known.label != other.label:
        return False
    if not np.allclose(known.bounding_box, other.bounding_box, atol=1e-6):
        return False
    if known.mask is None or other.mask is None:
        return known.mask is other.mask
    return np.array_equal(known.mask.astype(bool), other.mask.astype(bool))


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
