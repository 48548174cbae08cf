"""Values of more than 8 bits, or of any range, as the 8 bits that models and screens take.

A camera's 12 bits in a 16-bit file, a thermal camera's counts, a scanner's signed numbers and a
float image have no agreed white: it has to be found in the data. One window of values, found in
the reference, then serves all photos of a run, as one exposure would.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import PhotoError

Array = npt.NDArray[Any]

# Values that a file may use all of. A photo that fills half of one was meant for it.
_WHOLE = tuple((0.0, float(2**bits - 1)) for bits in (8, 10, 12, 14, 16, 32))
_SIGNED = tuple((-float(2 ** (bits - 1)), float(2 ** (bits - 1) - 1)) for bits in (8, 12, 16, 32))
_FRACTIONS = ((0.0, 1.0), (-1.0, 1.0))
# How much of it a photo must fill. Floats of 0 to 1 are nearly always meant as they are.
_FILLS, _FILLS_FRACTION = 0.5, 1 / 16

_TAIL = 0.002  # share of pixels at either end that may be hot, dead or glinting
_SAMPLE = 2**18  # pixels that are looked at: enough for the tails, whatever the photo's size
_ABSURD = 1e30  # float files mark missing pixels with numbers like -3.4e38

_SHARED = 0.8  # share of a photo's pixels that must lie in the run's window
_FLATTEST = 1 / 16  # and how much of the window they must span


class Contrast(NamedTuple):
    """The values that become black and white.

    Attributes:
        low: this and less becomes 0.
        high: this and more becomes 255.
    """

    low: float
    high: float


def contrast_of(values: Array) -> Contrast:
    """The window of values that shows what an image holds.

    All that its kind of file can hold (8, 10, 12, 14, 16 or 32 bits, signed or not, or 0 to 1) if
    the image fills at least half of it (of 0 to 1, a sixteenth); else what lies between its 0.2%
    darkest and 0.2% brightest pixels, so that a few hot or dead ones change nothing.

    Args:
        values: of any shape and real type; NaN and infinity are left out.

    Raises:
        PhotoError: no value is finite.
    """
    low, high = _robust_range(values)
    whole = values.dtype.kind in "biu" or _are_whole(values)
    share = _FILLS if whole else _FILLS_FRACTION
    for window in (*_WHOLE, *_SIGNED) if whole else _FRACTIONS:
        if window[0] <= low and high <= window[1]:
            if high - low >= share * (window[1] - window[0]) or low == high == window[0]:
                return Contrast(*window)
            break
    return Contrast(low, high)


def shared_contrast(values: Array, wanted: Contrast | None) -> Contrast:
    """The run's window if an image's values fit it, else the image's own.

    Args:
        values: the image's.
        wanted: the window of the run's reference; None if it has none.

    Raises:
        PhotoError: no value is finite.
    """
    if wanted is not None and wanted.high > wanted.low:
        low, high = _robust_range(values)
        sample = _sample(values)
        inside = np.mean((sample >= wanted.low) & (sample <= wanted.high)) if sample.size else 0.0
        flat = high - low < _FLATTEST * (wanted.high - wanted.low)
        if inside >= _SHARED and not flat:
            return wanted
    return contrast_of(values)


def to_8_bits(values: Array, contrast: Contrast) -> npt.NDArray[np.uint8]:
    """Values -> uint8 of the same shape; what is not a number becomes black."""
    low, high = contrast
    if not high > low:
        return np.zeros(values.shape, np.uint8)
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        limits = np.iinfo(values.dtype)
        table = _scale(np.arange(limits.min, limits.max + 1, dtype=np.float64), low, high)
        return table[values.astype(np.int32) - limits.min]
    return _scale(values.astype(np.float64), low, high)


def _scale(values: npt.NDArray[np.float64], low: float, high: float) -> npt.NDArray[np.uint8]:
    with np.errstate(invalid="ignore", over="ignore"):
        scaled = np.clip((values - low) / (high - low), 0.0, 1.0) * 255.0
    return np.round(np.nan_to_num(scaled, nan=0.0)).astype(np.uint8)


def _robust_range(values: Array) -> tuple[float, float]:
    sample = _sample(values)
    if not sample.size:
        raise PhotoError("has no finite value")
    # One pixel of a small image is more than the tail: whole pixels are left out, not shares.
    cut = max(int(_TAIL * sample.size), 1) if sample.size > 2 else 0
    ends = np.partition(sample, (cut, sample.size - 1 - cut)) if cut else np.sort(sample)
    low, high = float(ends[cut]), float(ends[sample.size - 1 - cut])
    if low == high:  # a dot on a plain ground is all there is to see
        low, high = float(sample.min()), float(sample.max())
    return low, high


def _sample(values: Array) -> Array:
    flat = values.reshape(-1)
    # A stride with no factor in common with usual widths and channels sees all columns.
    step = max(1, flat.size // _SAMPLE)
    flat = flat[:: step + (step > 1 and step % 2 == 0) + 2 * (step > 1 and step % 3 == 0)]
    if values.dtype.kind == "f":
        flat = flat[np.isfinite(flat)]
        flat = flat[np.abs(flat) < _ABSURD] if flat.dtype.itemsize > 2 else flat
    return flat


def _are_whole(values: Array) -> bool:
    sample = _sample(values)
    return bool(sample.size and (sample == np.floor(sample)).all() and sample.max() > 1)
