"""Backgrounds for the demo album, made of photos that scikit-image and scikit-learn carry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import cv2
import numpy as np

from .compositing import Picture, source_photo

Size = tuple[int, int]  # (height, width)


def backdrop(name: str, size: Size) -> Picture:
    """A background by name, (height, width) pixels: float32 RGB, 0 to 1."""
    return np.clip(_BACKDROPS[name](size), 0, 1)


@dataclass(frozen=True)
class Ledge:
    """Something in front, from the photo's lower edge up: a wall, a table's edge, tall grass.

    Attributes:
        texture: name of the backdrop it is made of.
        y: its upper edge, as a share of the photo's height.
        ragged: how far its upper edge goes up and down, as a share of the photo's height.
        slope: how much lower the right end is, as a share of the photo's height.
    """

    texture: str
    y: float
    ragged: float = 0.0
    slope: float = 0.0

    def draw(self, size: Size, rng: np.random.Generator) -> tuple[Picture, Picture]:
        """Colours times alpha (H, W, 3), and alpha (H, W)."""
        height, width = size
        edge = height * (self.y + self.slope * np.linspace(-0.5, 0.5, width))
        if self.ragged:
            edge = edge + height * self.ragged * _blades(width, rng)
        rows = np.arange(height)[:, None] + 0.5
        alpha = np.clip((rows - edge[None]) / 1.5 + 0.5, 0, 1).astype(np.float32)
        colours = backdrop(self.texture, size)
        depth = np.clip((rows - edge[None]) / (0.25 * height), 0, 1)[..., None]
        colours = colours * (1.08 - 0.4 * depth).astype(np.float32)  # lit from above
        return np.minimum(colours, 1) * alpha[..., None], alpha


def _blades(width: int, rng: np.random.Generator) -> np.ndarray:
    """Heights of grass blades along a line: many narrow tents, -1 (up) to 1."""
    x = np.arange(width)
    top = np.full(width, 1.0)
    for _ in range(width // 3):
        centre, half = rng.uniform(0, width), rng.uniform(3, 9)
        tent = 1 - rng.uniform(0.3, 2.0) * (1 - np.abs(x - centre) / half)
        top = np.minimum(top, np.where(np.abs(x - centre) < half, tent, 1.0))
    return top


def _photo(size: Size, name: str, box: tuple[int, int, int, int] | None = None,
           blur: float = 0.0, flip: bool = False) -> Picture:  # fmt: skip
    """A photo, or a box (left, top, right, bottom) of one, cropped to the size's shape."""
    picture = source_photo(name)
    if box is not None:
        picture = picture[box[1] : box[3], box[0] : box[2]]
    if flip:
        picture = picture[:, ::-1]
    height, width = size
    scale = max(height / picture.shape[0], width / picture.shape[1])
    shape = (max(width, round(picture.shape[1] * scale)),
             max(height, round(picture.shape[0] * scale)))  # fmt: skip
    picture = cv2.resize(picture, shape, interpolation=cv2.INTER_CUBIC)
    top, left = (shape[1] - height) // 2, (shape[0] - width) // 2
    picture = picture[top : top + height, left : left + width]
    return cv2.GaussianBlur(picture, (0, 0), blur) if blur else picture


def _texture(size: Size, name: str, dark: str, bright: str, zoom: float = 1.3) -> Picture:
    """A grey texture in colour, from ``dark`` over to ``bright`` (hex): enlarged ``zoom`` times,
    or more where that would not fill the size.
    """
    grey = source_photo(name)[..., 0]
    zoom = max(zoom, size[0] / grey.shape[0], size[1] / grey.shape[1])
    grey = cv2.resize(grey, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    grey = grey[: size[0], : size[1]]
    low, high = np.percentile(grey, (1, 99))
    level = np.clip((grey - low) / (high - low), 0, 1)[..., None]
    return (_hex(dark) * (1 - level) + _hex(bright) * level).astype(np.float32)


def _quilt(
    size: Size, name: str, box: tuple[int, int, int, int], patch: int, zoom: float
) -> Picture:
    """A larger surface than the photo shows: overlapping patches of a box (left, top, right,
    bottom), each from about the same height in the box, so that light and shade stay in place.
    """
    strip = source_photo(name)[box[1] : box[3], box[0] : box[2]]
    height, width = (int(np.ceil(n / zoom)) for n in size)
    step = patch // 2
    total = np.zeros((height + 2 * patch, width + 2 * patch, 3), np.float32)
    weights = np.zeros_like(total)
    window = np.hanning(patch + 2)[1:-1]
    weight = np.outer(window, window)[..., None].astype(np.float32)
    rng = np.random.default_rng(0)
    deep, wide = strip.shape[0] - patch, strip.shape[1] - patch
    for y in range(0, height + patch, step):
        for x in range(0, width + patch, step):
            top = int(np.clip(deep * y / (height + patch) + rng.uniform(-8, 8), 0, deep))
            left = int(rng.integers(0, wide + 1))
            piece = strip[top : top + patch, left : left + patch]
            total[y : y + patch, x : x + patch] += piece * weight
            weights[y : y + patch, x : x + patch] += weight
    inside = slice(step, step + height), slice(step, step + width)
    surface = total[inside] / np.maximum(weights[inside], 1e-6)
    # Averaging takes contrast away: give it back around the local mean.
    mean = cv2.GaussianBlur(surface, (0, 0), patch / 3)
    surface = mean + 1.35 * (surface - mean)
    return cv2.resize(surface, size[::-1], interpolation=cv2.INTER_CUBIC)


def _stage(size: Size, wall: str, floor: str, horizon: float) -> Picture:
    """A wall above a floor that runs away from the camera."""
    height, width = size
    line = round(height * horizon)
    picture = backdrop(wall, size).copy()
    # The floor is a texture four times as deep, seen at a slant.
    flat = backdrop(floor, (height * 2, width * 2))
    deep, wide = 2 * height, 2 * width
    corners = np.array([[0, 0], [wide, 0], [wide, deep], [0, deep]], np.float32)
    far, near = (-0.1 * width, 1.1 * width), (-0.9 * width, 1.9 * width)
    onto = np.array(
        [(far[0], line), (far[1], line), (near[1], height), (near[0], height)], np.float32
    )
    slant = cv2.warpPerspective(
        flat,
        cv2.getPerspectiveTransform(corners, onto),
        (width, height),
        flags=cv2.INTER_AREA,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    picture[line:] = slant[line:]
    rows = (np.arange(height) - line)[:, None, None] / height
    shade = 1 - 0.45 * np.exp(-np.abs(rows) / np.where(rows < 0, 0.02, 0.05))
    return (picture * shade).astype(np.float32)


def _hex(colour: str) -> np.ndarray:
    return np.array([int(colour[i : i + 2], 16) for i in (0, 2, 4)], np.float32) / 255


_BACKDROPS: dict[str, Callable[[Size], Picture]] = {
    "asphalt": partial(_texture, name="gravel", dark="101318", bright="4a4d55", zoom=1.0),
    "astronaut": partial(_photo, name="astronaut"),
    "bokeh": partial(_photo, name="flower", box=(452, 0, 640, 370), blur=3),
    "bokeh wide": partial(_photo, name="flower", box=(0, 30, 165, 154), blur=3),
    "bricks": partial(_texture, name="brick", dark="4a2a22", bright="c08468"),
    "grass": partial(_texture, name="grass", dark="16220c", bright="a3b25c"),
    "gravel": partial(_texture, name="gravel", dark="2e2a26", bright="cfc6b8"),
    "lake": partial(_photo, name="china", box=(345, 0, 640, 427)),
    "launch pad": partial(_photo, name="rocket"),
    "garage": partial(_photo, name="motorcycle_left", box=(0, 0, 322, 108), blur=1.5),
    "pagoda": partial(_photo, name="china"),
    "pagoda far": partial(_photo, name="china", blur=4, flip=True),
    "concrete": partial(_quilt, name="motorcycle_left", box=(0, 428, 310, 500), patch=60, zoom=2.0),
    "paving": partial(_texture, name="brick", dark="3c3a38", bright="b9b2a8"),
    "stone": partial(_texture, name="brick", dark="4c4a46", bright="d8d0c2", zoom=1.7),
    "wood": partial(_quilt, name="coffee", box=(484, 20, 600, 395), patch=88, zoom=1.7),
    "plank": partial(_quilt, name="coffee", box=(484, 20, 600, 395), patch=88, zoom=2.6),
    "yard": partial(_stage, wall="stone", floor="gravel", horizon=0.55),
    "garage floor": partial(_stage, wall="bricks", floor="concrete", horizon=0.5),
    "launch": partial(_stage, wall="launch pad", floor="asphalt", horizon=0.75),
    "meadow": partial(_stage, wall="pagoda", floor="grass", horizon=0.62),
    "terrace": partial(_stage, wall="lake", floor="concrete", horizon=0.6),
    "table": partial(_stage, wall="bokeh wide", floor="wood", horizon=0.38),
}
