"""Telling soft masks, whose values grade from background to object, from masks of several classes.

In a mask of classes a value fills areas; in a soft one it lies on the way from one area to the
next, a pixel wide, or in the grain that compression leaves.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]

IDS = 64
"""Masks whose highest value is lower than this hold ids, never levels."""
GRAIN = 8
"""Values this near to the highest are the object with the grain of compression."""

_FILLED = 0.4  # share of in-between pixels inside areas of their own value, from which on classes
_FEW, _MANY = 4, 16
_HUE = 48  # how far a colour may lie from a darker or brighter version of the main one
_STRAY = 0.02


def is_soft(values: Array, distinct: Array) -> bool:
    """Whether a mask of several values grades from background to object.

    Args:
        values: (H, W) integers, 0 for background.
        distinct: its values, sorted.
    """
    peak = int(distinct[-1])
    if peak < IDS:
        return False
    counts = _counts(values, distinct)
    bright = distinct > peak / 2
    main = int(distinct[bright][np.argmax(counts[bright])])
    # Compression adds grain: around the object's value and, with many values, above the background.
    grain = GRAIN if len(distinct) > _FEW and peak >= 2 * IDS else 0
    dark = peak // 16 if len(distinct) > _MANY else 0
    between = (values > dark) & (np.abs(values.astype(np.int64) - main) > grain)
    count = int(between.sum())
    if not count:
        return True  # grain alone
    return bool((between & _inside(values)).sum() < _FILLED * count)


def has_several_hues(colours: npt.NDArray[np.uint8]) -> bool:
    """Whether colours are more than darker and brighter versions of one, beside black.

    Args:
        colours: (H, W, 3) RGB.
    """
    flat = colours.reshape(-1, 3)
    flat = flat[flat.max(axis=1) >= IDS].astype(np.float64)
    if not len(flat):
        return False
    main = np.median(flat[flat.sum(axis=1) >= np.quantile(flat.sum(axis=1), 0.5)], axis=0)
    along = (flat @ main)[:, None] / max(float(main @ main), 1.0) * main
    return bool((np.abs(flat - along).max(axis=1) > _HUE).mean() > _STRAY)


def _counts(values: Array, distinct: Array) -> Array:
    if values.dtype == np.uint8:
        return np.bincount(values.reshape(-1), minlength=256)[distinct]
    return np.unique(values, return_counts=True)[1]


def _inside(values: Array) -> npt.NDArray[np.bool_]:
    """(H, W) whether the four neighbours within the picture have a pixel's own value."""
    same = np.ones(values.shape, np.bool_)
    down, across = values[1:] == values[:-1], values[:, 1:] == values[:, :-1]
    same[1:] &= down
    same[:-1] &= down
    same[:, 1:] &= across
    same[:, :-1] &= across
    return same
