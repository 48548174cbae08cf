"""How a number is spread over photos, and the photos behind each bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from fiftyone import ViewField as F

from ..database import photos_of


@dataclass(frozen=True)
class Histogram:
    """(B + 1,) bin edges and (B,) counts of a number per photo."""

    edges: npt.NDArray[np.float64]
    counts: npt.NDArray[np.int64]


def histogram_of(values: npt.NDArray[np.float64], bins: int = 20) -> Histogram:
    """Histogram over the range of the finite ``values``; no bins where there are none."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return Histogram(np.zeros(0), np.zeros(0, np.int64))
    low, high = float(finite.min()), float(finite.max())
    if high - low < 1e-6:
        low, high = low - 0.005, high + 0.005
    counts, edges = np.histogram(finite, bins=bins, range=(low, high))
    return Histogram(edges, counts)


def between(collection: Any, field: str, low: float, high: float, last: bool = False) -> Any:
    """The photos with ``low <= field < high`` (``<= high`` for the last bin), as a view."""
    upper = F(field) <= high if last else F(field) < high
    return photos_of(collection).match((F(field) >= low) & upper)
