"""Photos that show an object several times: cut out of its photos and put into others.

Nobody has labelled such photos of one thing, so they are composed: which object lies where is known
exactly, and an object never comes from the photo that is the reference.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.album import Photo

LONGEST = 900  # pixels of a scene's longer side
SIZES = (0.26, 0.4)  # longer side of an object, as a share of the scene's shorter one
TRIES = 60


@dataclass(frozen=True)
class Several:
    """A photo with an object in it several times.

    Attributes:
        object: its name.
        image: (H, W, 3) uint8 RGB.
        masks: (H, W) bool, one for each time.
    """

    object: str
    image: npt.NDArray[np.uint8]
    masks: list[npt.NDArray[np.bool_]]


def compose(
    background: Photo, sources: Sequence[Photo], count: int, rng: np.random.Generator
) -> Several:
    """Put an object into a photo of something else ``count`` times, apart from one another.

    Args:
        background: the photo of something else.
        sources: photos of the object, which takes turns.
        count: how often; fewer, where there is no room.
        rng: says where and how large.
    """
    image = _fitted(background.image, LONGEST)
    height, width = image.shape[:2]
    masks: list[npt.NDArray[np.bool_]] = []
    taken = np.zeros((height, width), np.uint8)
    for number in range(count):
        source = sources[number % len(sources)]
        rows, columns = np.flatnonzero(source.mask.any(1)), np.flatnonzero(source.mask.any(0))
        inside = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        side = rng.uniform(*SIZES) * min(height, width)
        cut = _fitted(source.image[inside], side)
        alpha = _fitted(source.mask[inside].astype(np.float32), side)
        if rng.random() < 0.5:
            cut, alpha = cut[:, ::-1], alpha[:, ::-1]
        h, w = alpha.shape
        for _ in range(TRIES):
            y, x = rng.integers(0, height - h), rng.integers(0, width - w)
            part = slice(y, y + h), slice(x, x + w)
            if not taken[part].any():
                break
        else:
            continue
        soft = cv2.GaussianBlur(alpha, (3, 3), 0)[..., None]
        image[part] = (soft * cut + (1 - soft) * image[part]).round().astype(np.uint8)
        mask = np.zeros((height, width), np.bool_)
        mask[part] = alpha > 0.5
        masks.append(mask)
        taken = cv2.dilate(np.maximum(taken, mask.astype(np.uint8)), np.ones((25, 25), np.uint8))
    return Several(sources[0].object, image, masks)


def scenes(groups: Sequence[Sequence[Photo]], seed: int = 0) -> list[Several]:
    """Two scenes of each object of an album: with it twice, and three times.

    Args:
        groups: the album's photos, object by object, the reference first.
        seed: of the places and sizes.
    """
    made = []
    for index, group in enumerate(groups):
        others = [one for k, other in enumerate(groups) if k != index for one in other[:1]]
        rng = np.random.default_rng([seed, index])
        for count in (2, 3):
            background = others[int(rng.integers(len(others)))]
            made.append(compose(background, group[1:] or group, count, rng))
    return made


def _fitted(picture: npt.NDArray[np.generic], side: float) -> npt.NDArray[np.generic]:
    """A picture at another size, by its longer side."""
    scale = side / max(picture.shape[:2])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(picture, size, interpolation=how))
