"""Boundary IoU (Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation
Evaluation", CVPR 2021): IoU of the two masks' inner contour bands.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from ..errors import PersamError
from .masks import BoolMask, as_mask, as_mask_pair
from .overlap import ratio

DILATION_RATIO = 0.02
"""Band width as a share of the photo's diagonal, the paper's choice."""


def boundary_iou(a: ArrayLike, b: ArrayLike, dilation_ratio: float = DILATION_RATIO) -> float:
    """Intersection over union of the inner contour bands of two masks.

    Args:
        a: (H, W) mask.
        b: (H, W) mask of the same size.
        dilation_ratio: width of the band as a share of the photo's diagonal.

    Returns:
        0 to 1. Two empty masks agree: 1. One empty mask against a non-empty one: 0.

    Raises:
        PersamError: not a mask, sizes that differ, or a ratio that is not above 0.
    """
    first, second = as_mask_pair(a, b, ("a", "b"))
    distance = boundary_distance(first.shape, dilation_ratio)
    intersection, union = boundary_overlap(first, second, distance)
    return ratio(intersection, union)


def boundary(mask: ArrayLike, dilation_ratio: float = DILATION_RATIO) -> BoolMask:
    """Pixels of ``mask`` that lie close to its contour.

    The photo's own border counts as contour: outside the photo is background.

    Args:
        mask: (H, W) mask.
        dilation_ratio: width of the band as a share of the photo's diagonal.

    Returns:
        (H, W) bool, a subset of the mask. Equal to eroding the zero-padded mask d times by a
        3 x 3 block and taking what was lost, with d from :func:`boundary_distance`.

    Raises:
        PersamError: not a mask, or a ratio that is not above 0.
    """
    array = as_mask(mask)
    distance = boundary_distance(array.shape, dilation_ratio)
    band = array.copy()
    window = _bounding_window(array)
    if window is not None:
        _remove_interior(band[window], distance)
    return band


def boundary_distance(shape: tuple[int, ...], dilation_ratio: float = DILATION_RATIO) -> int:
    """Width of the contour band in pixels for a photo of ``shape`` (height, width).

    Returns:
        ``max(1, round(dilation_ratio * diagonal))``, rounded as Python does (half to even).

    Raises:
        PersamError: a ratio that is not a finite number above 0.
    """
    if (
        isinstance(dilation_ratio, bool)
        or not isinstance(dilation_ratio, (int, float, np.integer, np.floating))
        or not math.isfinite(dilation_ratio)
        or dilation_ratio <= 0
    ):
        raise PersamError(
            f"dilation_ratio must be a number above 0, got {dilation_ratio!r}: the paper uses 0.02"
        )
    height, width = shape
    return max(1, round(float(dilation_ratio) * math.sqrt(height**2 + width**2)))


def boundary_overlap(a: BoolMask, b: BoolMask, distance: int) -> tuple[int, int]:
    """Intersection and union, in pixels, of the contour bands of two masks of one shape.

    Args:
        a: (H, W) bool.
        b: (H, W) bool.
        distance: width of the band in pixels.
    """
    window_a, window_b = _bounding_window(a), _bounding_window(b)
    band_a, area_a = _band(a, window_a, distance)
    band_b, area_b = _band(b, window_b, distance)
    if window_a is None or window_b is None:
        return 0, area_a + area_b
    # Only where both bounding boxes overlap can the bands meet.
    rows = _meet(window_a[0], window_b[0])
    cols = _meet(window_a[1], window_b[1])
    common_a = band_a[_shift(rows, window_a[0]), _shift(cols, window_a[1])]
    common_b = band_b[_shift(rows, window_b[0]), _shift(cols, window_b[1])]
    intersection = int(np.count_nonzero(common_a & common_b))
    return intersection, area_a + area_b - intersection


def _band(
    mask: BoolMask, window: tuple[slice, slice] | None, distance: int
) -> tuple[BoolMask, int]:
    """Contour band inside the mask's bounding box, and its area."""
    if window is None:
        return np.zeros((0, 0), dtype=np.bool_), 0
    band = mask[window].copy()
    _remove_interior(band, distance)
    return band, int(np.count_nonzero(band))


def _remove_interior(mask: BoolMask, distance: int) -> None:
    """Clear, in place, every pixel whose (2 * distance + 1) square lies wholly in the mask."""
    height, width = mask.shape
    if min(height, width) <= 2 * distance:
        return  # no such square fits: all of the mask is band
    interior = _run_and(_run_and(mask, distance, axis=1), distance, axis=0)
    mask[distance : height - distance, distance : width - distance] &= ~interior


def _run_and(mask: BoolMask, distance: int, axis: int) -> BoolMask:
    """AND over every full window of 2 * distance + 1 neighbours along ``axis``.

    Window lengths double (1, 2, 4, ...), so a band of 26 px costs 6 passes of one AND each
    instead of 52; a windowed sum or a distance transform takes several times as long.

    Returns:
        The mask shortened by 2 * distance along ``axis``.
    """
    length = 2 * distance + 1
    covered = 1
    while covered < length:
        step = min(covered, length - covered)
        ahead = (slice(None),) * axis + (slice(step, None),)
        behind = (slice(None),) * axis + (slice(None, -step),)
        mask = mask[behind] & mask[ahead]
        covered += step
    return mask


def _bounding_window(mask: BoolMask) -> tuple[slice, slice] | None:
    """Slices of the smallest box that holds the mask, or None for an empty mask."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    vertical = slice(int(rows[0]), int(rows[-1]) + 1)
    cols = np.flatnonzero(mask[vertical].any(axis=0))
    return vertical, slice(int(cols[0]), int(cols[-1]) + 1)


def _meet(a: slice, b: slice) -> slice:
    start = max(a.start, b.start)
    return slice(start, max(start, min(a.stop, b.stop)))


def _shift(inner: slice, outer: slice) -> slice:
    return slice(inner.start - outer.start, inner.stop - outer.start)
