"""Frames in which two real things move over a photo; every mask is known."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from skimage import data

Array = npt.NDArray[Any]
SIZE = (270, 480)


@dataclass
class Film:
    """Frames (H, W, 3), by object a (H, W) bool mask in each, and what a test encoded of them."""

    frames: list[Array] = field(default_factory=list)
    masks: dict[str, list[Array]] = field(default_factory=dict)
    encoded: list[Any] = field(default_factory=list)


def things() -> dict[str, tuple[Array, Array]]:
    """The cat's face and the cup of scikit-image, cut out: pixels and mask."""
    cat, coffee = data.chelsea()[20:280, 80:350, :3], data.coffee()[70:330, 130:470]
    found = {}
    for name, pixels, height in (("cat", cat, 90), ("cup", coffee, 80)):
        size = (round(height * pixels.shape[1] / pixels.shape[0]), height)
        small = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        mask = np.zeros(small.shape[:2], np.uint8)
        middle, axes = (size[0] // 2, height // 2), (size[0] // 2 - 3, height // 2 - 3)
        cv2.ellipse(mask, middle, axes, 0, 0, 360, 1, -1)
        found[name] = (small, mask > 0)
    return found


def film(places: dict[str, list[tuple[int, int] | None]]) -> Film:
    """The film in which each thing's upper left corner is at x, y, or it is not there."""
    ground = cv2.resize(data.grass(), SIZE[::-1], interpolation=cv2.INTER_AREA)
    ground = np.repeat(ground[:, :, None], 3, axis=2)
    pictures = things()
    made = Film(masks={name: [] for name in places})
    for number in range(len(next(iter(places.values())))):
        frame = ground.copy()
        for name, path in places.items():
            mask, corner = np.zeros(SIZE, bool), path[number]
            if corner is not None:
                pixels, inside = pictures[name]
                x, y = corner
                height, width = inside.shape
                mask[y : y + height, x : x + width] = inside
                frame[mask] = pixels[inside]
            made.masks[name].append(mask)
        made.frames.append(frame)
    return made
