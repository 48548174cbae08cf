"""The union mask of whatever label a run has written."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from ..errors import PersamError, PhotoError


def union_mask(label: Any, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """(H, W) bool mask of everything a label covers; all False for no label.

    Args:
        label: a ``fo.Segmentation``, ``fo.Detections`` or ``fo.Detection`` (boxes without an
            instance mask count as full boxes), or None
        size: (H, W) of the photo, in pixels

    Raises:
        PersamError: for another label type, or a mask that is not of the photo's size
        PhotoError: if the mask's file cannot be read
    """
    if label is None:
        return np.zeros(size, bool)
    if isinstance(label, fo.Segmentation):
        mask = _read(label)
        if mask is None:
            return np.zeros(size, bool)
        mask = np.asarray(mask)
        mask = mask.any(axis=2) if mask.ndim == 3 else mask > 0
        if mask.shape != size:
            raise PersamError(
                f"mask is {mask.shape[1]}x{mask.shape[0]} pixels, its photo {size[1]}x{size[0]}: "
                "write it at the photo's own size"
            )
        return mask
    if isinstance(label, fo.Detection):
        label = fo.Detections(detections=[label])
    if not isinstance(label, fo.Detections):
        raise PersamError(
            f"a {type(label).__name__} has no mask: Segmentation or Detections is needed"
        )
    union = np.zeros(size, bool)
    for detection in label.detections:
        _paste(union, detection)
    return union


def photo_size(filepath: str, metadata: Any) -> tuple[int, int]:
    """(H, W) of a photo, from its metadata where it has some, else from the file's header.

    Raises:
        PhotoError: if the file cannot be read
    """
    if metadata is not None and metadata.height and metadata.width:
        return int(metadata.height), int(metadata.width)
    try:
        found = fo.ImageMetadata.build_for(filepath)
    except Exception as error:
        raise PhotoError(f"{filepath}: cannot be read as a photo ({error})") from error
    return int(found.height), int(found.width)


def _read(label: Any) -> Any:
    try:
        return label.get_mask()
    except Exception as error:
        raise PhotoError(f"{label.mask_path}: cannot be read as a mask ({error})") from error


def _paste(union: npt.NDArray[np.bool_], detection: Any) -> None:
    height, width = union.shape
    x, y, w, h = detection.bounding_box
    left, top = round(x * width), round(y * height)
    mask = _read(detection) if detection.has_mask else None
    if mask is None:
        union[top : round((y + h) * height), left : round((x + w) * width)] = True
        return
    mask = np.asarray(mask) > 0
    mask = mask[: max(0, height - top), : max(0, width - left)]
    union[top : top + mask.shape[0], left : left + mask.shape[1]] |= mask
