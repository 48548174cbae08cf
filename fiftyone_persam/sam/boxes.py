"""The box around a mask."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def tight_box(mask: npt.NDArray[Any]) -> tuple[int, int, int, int] | None:
    """The smallest box that holds a mask.

    Args:
        mask: (H, W) bool or numbers; what is not 0 counts.

    Returns:
        x0, y0, x1, y1 in pixels, x1 and y1 exclusive; None if the mask is empty.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    return int(columns[0]), top, int(columns[-1]) + 1, bottom
