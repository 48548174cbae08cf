"""The mask of whatever label a run or a person has put on a photo."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from ...errors import PersamError
from .pixels import found_object, mask_pixels
from .shapes import fit_mask, lay_instance
from .sizes import read_shown_size

_FIELD = object()


def union_mask(label: Any, size: tuple[int, int], where: str = "the mask") -> npt.NDArray[np.bool_]:
    """(H, W) bool mask of everything a label covers; all False for no label.

    Args:
        label: a ``fo.Segmentation``, ``fo.Detections`` or ``fo.Detection`` (boxes without an
            instance mask count as full boxes), or None
        size: (H, W) of the upright photo, in pixels
        where: how messages call the label

    Raises:
        PersamError: for another label type, a mask that cannot be read or fits another photo only,
            or a box that is absurd
    """
    union = np.zeros(size, np.bool_)
    if label is None:
        return union
    if isinstance(label, fo.Segmentation):
        found = found_object(label, where)
        return union if found is None else fit_mask(found.mask, size, where)
    if isinstance(label, fo.Detection):
        label = fo.Detections(detections=[label])
    if not isinstance(label, fo.Detections):
        raise PersamError(
            f"{where} is a {type(label).__name__}, which has none: "
            "choose a field of Segmentation or Detections"
        )
    for instance in label.detections:
        lay_instance(union, instance, where)
    return union


def check_label(label: Any, where: str = "the mask") -> None:
    """Raise PersamError if `union_mask` would, whatever the photo's size is."""
    if isinstance(label, fo.Segmentation):
        found_object(label, where)
    else:
        union_mask(label, (8, 8), where)


def shown_mask(sample: Any, field: str, label: Any = _FIELD) -> npt.NDArray[np.bool_]:
    """(H, W) mask, of the upright photo's size, of everything a label of a photo covers.

    Args:
        sample: the photo
        field: where the label is
        label: the label; default: what the field holds

    Raises:
        PersamError: see :func:`union_mask`
        PhotoError: the photo or the mask cannot be read
    """
    label = sample[field] if label is _FIELD else label
    where = f"the mask of {Path(sample.filepath).name} in {field!r}"
    return union_mask(label, read_shown_size(sample.filepath), where)


def named_masks(
    label: Any,
    size: tuple[int, int],
    targets: Mapping[int, str],
    where: str = "the mask",
    field: str | None = None,
) -> dict[str, npt.NDArray[np.bool_]]:
    """Object's name -> (H, W) bool mask, of everything in a label that has a name.

    Args:
        label: a Segmentation whose classes ``targets`` names, Detections or a Detection with
            labels, or None.
        size: (H, W) of the upright photo, in pixels.
        targets: value -> name.
        where: how messages call the label.
        field: how messages call its field; with it, a class without a name is refused.

    Raises:
        PersamError: see `union_mask`, or a mask has values without a name.
    """
    if isinstance(label, fo.Segmentation):
        pixels = mask_pixels(label, where)
        if pixels is None:
            return {}
        values = pixels.values
        if values is None:
            raise PersamError(f"{where} is in colours, and its objects are not known: give values")
        present = [int(value) for value in np.unique(values) if value]
        unnamed = [value for value in present if value not in targets]
        if unnamed and field is not None:
            raise PersamError(
                f"{where} has the value {unnamed[0]}, which mask_targets of {field!r} does not "
                "name: say there which object it is"
            )
        return {
            targets[value]: fit_mask(values == value, size, where)
            for value in present
            if value in targets
        }
    if isinstance(label, fo.Detection):
        label = fo.Detections(detections=[label])
    found: dict[str, npt.NDArray[np.bool_]] = {}
    for instance in getattr(label, "detections", None) or []:
        if instance.label:
            mask = found.setdefault(str(instance.label), np.zeros(size, np.bool_))
            lay_instance(mask, instance, where)
    return found
