"""Other views of a photo: what a tuning has not seen, though there is only one photo.

Mirrored, cut closer to the object, and under another light, the same object is new to what was
fitted to each pixel of the photo. Where the loss on such views rises again, tuning should stop.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ...sam import Photo

Mask = npt.NDArray[np.bool_]

_CLOSER = (0.25, 0.75)  # how far a cut goes from the photo's edges towards the object
_LIGHT = (0.7, 1.4)  # factor of all values
_CONTRAST = (0.7, 1.3)
_GAMMA = (0.75, 1.35)


def other_view(
    photo: Photo, mask: Mask, number: int, generator: np.random.Generator
) -> tuple[Photo, Mask]:
    """One view of a photo and its mask; number 0 is mirrored, 1 cut, 2 lit, 3 all of that, ...

    Args:
        photo: (H, W, 3) uint8.
        mask: (H, W) bool with the object.
        number: which kind of view, from 0.
        generator: says how far the cut and the light go.

    Returns:
        The view (h, w, 3) uint8 and its mask (h, w) bool, which still has the object's every pixel.
    """
    kind = number % 4
    if kind in (1, 3):
        rows, columns = _closer(mask, generator)
        photo, mask = photo[rows, columns], mask[rows, columns]
    if kind in (0, 3):
        photo, mask = photo[:, ::-1], mask[:, ::-1]
    if kind in (2, 3):
        photo = _relit(photo, generator)
    return np.ascontiguousarray(photo), np.ascontiguousarray(mask)


def _closer(mask: Mask, generator: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns of a cut that keeps the object."""
    ranges = []
    for axis, side in enumerate(mask.shape):
        used = np.flatnonzero(mask.any(axis=1 - axis))
        low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, side)
        near, far = generator.uniform(*_CLOSER, size=2)
        ranges.append(slice(int(low * near), high + int(np.ceil((side - high) * (1 - far)))))
    return ranges[0], ranges[1]


def _relit(photo: Photo, generator: np.random.Generator) -> Photo:
    values = np.arange(256) / 255
    light, contrast, gamma = (generator.uniform(*one) for one in (_LIGHT, _CONTRAST, _GAMMA))
    middle = float(photo.mean()) / 255
    curve = ((values**gamma - middle) * contrast + middle) * light
    table = (curve.clip(0, 1) * 255).round().astype(np.uint8)
    return np.asarray(table[photo])
