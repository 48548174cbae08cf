"""Mask pairs that every metric is tried on: fixed edge cases and seeded random blobs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

BoolMask = NDArray[np.bool_]


def blob(rng: np.random.Generator, height: int, width: int) -> BoolMask:
    """A few random ellipses, thin bars, holes and specks, running out of the photo at times."""
    canvas = np.zeros((height, width), np.uint8)
    for _ in range(int(rng.integers(1, 5))):
        centre = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = (int(rng.integers(1, max(2, width // 2))), int(rng.integers(1, max(2, height // 2))))
        cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, -1)
    if rng.random() < 0.5:
        hole = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.circle(canvas, hole, int(rng.integers(1, max(2, width // 6))), 0, -1)
    mask = canvas > 0
    specks = rng.random((height, width)) < rng.choice([0.0, 0.002])
    return np.asarray(mask ^ specks)


def random_pairs(seed: int, count: int) -> list[tuple[BoolMask, BoolMask]]:
    """Pairs of overlapping blobs in photos of 1 to 220 pixels a side."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        height, width = (int(n) for n in rng.integers(1, 220, 2))
        a = blob(rng, height, width)
        b = np.roll(a, rng.integers(-9, 10, 2), (0, 1)) if rng.random() < 0.6 else None
        pairs.append((a, blob(rng, height, width) if b is None else b))
    return pairs


def edge_pairs() -> list[tuple[BoolMask, BoolMask]]:
    """Empty, full, single-pixel, line-shaped and disjoint masks."""
    empty, full = np.zeros((40, 60), bool), np.ones((40, 60), bool)
    dot, corner = empty.copy(), empty.copy()
    dot[20, 30] = True
    corner[:15, :20] = True
    far = np.roll(corner, (25, 40), (0, 1))
    line = np.ones((1, 300), bool)
    return [
        (empty, empty),
        (empty, full),
        (full, empty),
        (full, full),
        (dot, dot),
        (dot, empty),
        (dot, corner),
        (corner, far),
        (corner, full),
        (line, line),
        (line.T, np.roll(line, 1).T),
        (np.ones((1, 1), bool), np.ones((1, 1), bool)),
        (np.ones((1, 1), bool), np.zeros((1, 1), bool)),
    ]
