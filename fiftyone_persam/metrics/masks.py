"""What every metric accepts as a mask, checked in one place."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import PersamError

BoolMask = NDArray[np.bool_]


def as_mask(mask: ArrayLike, name: str = "mask") -> BoolMask:
    """Turn ``mask`` into a (H, W) bool array, without a copy where it already is one.

    Args:
        mask: (H, W) of bool, or of integers where every non-zero value is foreground (so 0/1,
            0/255 and PerSeg's 0/128 all work), or of floats that are only 0 and 1 or 0 and 255.
            Other floats are refused: a probability has no foreground before it is thresholded.
        name: what the message calls this input.

    Returns:
        (H, W) bool.

    Raises:
        PersamError: not an array of numbers, not 2-D, no pixels, NaN, or floats in between.
    """
    try:
        array = np.asarray(mask)
    except (TypeError, ValueError, RuntimeError) as error:
        raise PersamError(
            f"{name} is not an array of numbers ({_one_line(error)}): give (height, width) of bool"
        ) from None
    if array.ndim != 2:
        raise PersamError(
            f"{name} must be 2-D (height, width), got shape {array.shape}: pass one channel"
        )
    if array.size == 0:
        raise PersamError(f"{name} of shape {array.shape} has no pixels: give a photo's mask")
    if array.dtype == np.bool_:
        return array
    if array.dtype.kind in "iu":
        foreground: BoolMask = np.not_equal(array, 0)
        return foreground
    if array.dtype.kind == "f":
        return _from_floats(array, name)
    raise PersamError(f"{name} must be bool, integer or float, got dtype {array.dtype}: convert it")


def as_mask_pair(a: ArrayLike, b: ArrayLike, names: tuple[str, str]) -> tuple[BoolMask, BoolMask]:
    """Turn ``a`` and ``b`` into two (H, W) bool masks of one shape.

    Raises:
        PersamError: as :func:`as_mask`, or the shapes differ.
    """
    first, second = as_mask(a, names[0]), as_mask(b, names[1])
    if first.shape != second.shape:
        raise PersamError(
            f"{names[0]} is {_size(first)} but {names[1]} is {_size(second)} (height x width): "
            "bring both to the photo's own size"
        )
    return first, second


def _from_floats(array: NDArray[np.floating], name: str) -> BoolMask:
    if np.isnan(array).any():
        raise PersamError(f"{name} contains NaN: give 0 and 1")
    foreground: BoolMask = np.not_equal(array, 0)
    values = array[foreground]
    if values.size and not ((values == 1).all() or (values == 255).all()):
        raise PersamError(
            f"{name} has float values that are not just 0 and 1: threshold it first, "
            "for example mask > 0.5"
        )
    return foreground


def _size(mask: BoolMask) -> str:
    return f"{mask.shape[0]} x {mask.shape[1]}"


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
