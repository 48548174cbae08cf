"""What the photos of one run say of one another: presence in the light of the best matches.

A photo by itself says how like the reference its mask is. Among others it says more: where some
photos match far better than it does, what it shows is probably only similar to the object.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

# How good "the best" are; from which distance in log odds a photo is suspect; how much of what is
# beyond that it loses. Measured by `benchmarks.presence`.
_TOP = 0.95
_NEAR = 1.0
_LOSS = 0.3
_SURE = 1e-6

Floats = npt.NDArray[np.float64]


def among_others(presence: npt.ArrayLike) -> Floats:
    """Presence of one object in the photos of a run, compared with one another.

    The order of the photos stays as it was, none gains, and a run without a photo that shows the
    object changes nothing.

    Args:
        presence: (N,) 0 to 1, of each photo by itself; NaN where there is none.

    Returns:
        (N,) 0 to 1, and NaN where there was NaN.
    """
    alone = np.asarray(presence, np.float64)
    known = np.isfinite(alone)
    if not known.any():
        return alone.copy()
    sure = np.clip(alone, _SURE, 1 - _SURE)
    odds = np.log(sure) - np.log1p(-sure)
    best = float(np.quantile(odds[known], _TOP))
    if best <= 0:
        return alone.copy()
    behind = best - odds - _NEAR
    lowered = 1 / (1 + np.exp(-(odds - _LOSS * np.clip(behind, 0, None))))
    # Numbers that nothing is taken from stay as they are, to the last bit.
    return np.where(known & (behind > 0), np.minimum(lowered, alone), alone)
