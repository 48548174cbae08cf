"""Laying the mask of an object, which covers its box only, over the mask of the whole photo."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

BoolMask = npt.NDArray[np.bool_]

FARTHEST = 3.0
"""How many of its photo's sides a label may reach beside it; farther are pixels, not shares."""


def paste_instance(mask: BoolMask, crop: BoolMask, box: tuple[float, float, float, float]) -> None:
    """Lay an instance mask over ``box`` (x0, y0, x1, y1 in pixels) of a (H, W) mask, in place."""
    rows = _placed(crop.shape[0], box[1], box[3], mask.shape[0])
    columns = _placed(crop.shape[1], box[0], box[2], mask.shape[1])
    # A mask cropped at whole pixels may differ from its box by a rounding: keep its pixels.
    fits = rows.kept and columns.kept
    ys, xs = (rows.own, columns.own) if fits else (rows.scaled, columns.scaled)
    area = mask[rows.start : rows.start + len(ys), columns.start : columns.start + len(xs)]
    area |= crop[np.ix_(ys, xs)]


class _Placed(NamedTuple):
    """Where the rows, or columns, of a crop come to lie.

    Attributes:
        start: first row of the mask that is covered.
        own: row of the crop for each row from there on, unscaled.
        scaled: the same with the crop scaled to the box.
        kept: whether the crop fits the box but for a rounding.
    """

    start: int
    own: npt.NDArray[np.int64]
    scaled: npt.NDArray[np.int64]
    kept: bool


def _placed(length: int, low: float, high: float, limit: int) -> _Placed:
    first = round(low)
    extent = max(1, round(high) - first)
    start = max(0, first)
    # Only what is seen is made, however far the box reaches.
    own = np.arange(start - first, min(length, limit - first))
    seen = np.arange(start - first, min(extent, limit - first))
    scaled = ((seen + 0.5) * (length / extent)).astype(np.int64)
    return _Placed(start, own, np.minimum(scaled, length - 1), abs(length - extent) <= 1)
