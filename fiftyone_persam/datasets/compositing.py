"""Cut-outs of real photos, and putting them into other photos with exact masks. No FiftyOne.

Pictures are float32 RGB, 0 to 1, (height, width, 3); alphas are float32, 0 to 1, (height, width).
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PersamError
from ..sam.boxes import tight_box

Picture = NDArray[np.float32]

_OUTLINES = Path(__file__).with_name("outlines")
_SKIMAGE, _SKLEARN = ("skimage", "data"), ("sklearn", "datasets", "images")
_FILES = {
    "astronaut": (*_SKIMAGE, "astronaut.png"),
    "brick": (*_SKIMAGE, "brick.png"),
    "chelsea": (*_SKIMAGE, "chelsea.png"),
    "china": (*_SKLEARN, "china.jpg"),
    "coffee": (*_SKIMAGE, "coffee.png"),
    "flower": (*_SKLEARN, "flower.jpg"),
    "grass": (*_SKIMAGE, "grass.png"),
    "gravel": (*_SKIMAGE, "gravel.png"),
    "motorcycle_left": (*_SKIMAGE, "motorcycle_left.png"),
    "motorcycle_right": (*_SKIMAGE, "motorcycle_right.png"),
    "rocket": (*_SKIMAGE, "rocket.jpg"),
}
# Cut-outs by name: the photo they come from. The outlines were drawn by hand and refined with
# GrabCut; the motorcycle's come from the stereo pair's disparity. The cat's photo ends at its
# ears: 70 rows of mirrored fur above it complete the head.
_CUTOUTS = {
    "cat": "chelsea",
    "cup": "coffee",
    "flower": "flower",
    "motorcycle": "motorcycle_left",
    "motorcycle_right": "motorcycle_right",
}
_OUTLINE_FILES = {"motorcycle": "motorcycle_left"}
_MIRRORED_ROWS = {"cat": 70}


@dataclass(frozen=True)
class Placed:
    """A cut-out and where it goes.

    Attributes:
        cutout: its name.
        x: its centre, as a share of the photo's width.
        y: its centre, as a share of the photo's height.
        size: its height before turning, as a share of the photo's height.
        angle: degrees, counter-clockwise.
        flip: mirrored.
        light: factor on its brightness.
        shadow: "ground" (it stands), "drop" (it lies or leans), or None.
    """

    cutout: str
    x: float
    y: float
    size: float
    angle: float = 0.0
    flip: bool = False
    light: float = 1.0
    shadow: str | None = "drop"

    def jittered(self, rng: np.random.Generator) -> Placed:
        """A little elsewhere, turned and scaled a little."""
        return replace(
            self,
            x=self.x + rng.uniform(-0.015, 0.015),
            y=self.y + rng.uniform(-0.008, 0.008),
            size=self.size * rng.uniform(0.97, 1.03),
            angle=self.angle + rng.uniform(-2, 2),
            light=self.light * rng.uniform(0.97, 1.03),
        )


def source_photo(name: str) -> Picture:
    """One of the photos that scikit-image and scikit-learn carry inside their packages.

    Returns:
        (H, W, 3) picture; grey photos have three equal channels.

    Raises:
        PersamError: the package or the photo is not there.
    """
    package, *parts = _FILES[name]
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise PersamError(f"the demo album needs the package {package}: install it with pip")
    path = Path(spec.submodule_search_locations[0]).joinpath(*parts)
    if not path.is_file():
        raise PersamError(
            f"the demo album needs {path.name}, which this version of {package} lacks: install "
            "scikit-image>=0.22 and scikit-learn>=1.3"
        )
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


def original(cutout: str) -> tuple[Picture, NDArray[np.bool_]]:
    """The photo that a cut-out comes from, and the cut-out's (H, W) mask in it."""
    picture = source_photo(_CUTOUTS[cutout])
    above = _MIRRORED_ROWS.get(cutout, 0)
    picture = cv2.copyMakeBorder(picture, above, 0, 0, 0, cv2.BORDER_REFLECT)
    with Image.open(_OUTLINES / f"{_OUTLINE_FILES.get(cutout, cutout)}.png") as image:
        return picture, np.asarray(image.convert("1"), dtype=np.bool_)


def place(item: Placed, size: tuple[int, int]) -> tuple[Picture, Picture]:
    """Draw a cut-out alone.

    Args:
        item: what, and where.
        size: (height, width) of the photo.

    Returns:
        (H, W, 3) colours times alpha, and (H, W) alpha.
    """
    layer = _cutout(item.cutout)
    if item.flip:
        layer = layer[:, ::-1]
    height, width = size
    scale = item.size * height / layer.shape[0]
    # Scaled first, with the filter that suits the direction, then turned.
    shape = (max(2, round(layer.shape[1] * scale)), max(2, round(layer.shape[0] * scale)))
    shrinks = scale < 1
    layer = cv2.resize(layer, shape, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC)
    centre = (shape[0] / 2, shape[1] / 2)
    turn = cv2.getRotationMatrix2D(centre, item.angle, 1.0)
    turn[:, 2] += (item.x * width - centre[0], item.y * height - centre[1])
    drawn = np.clip(cv2.warpAffine(layer, turn, (width, height), flags=cv2.INTER_LINEAR), 0, 1)
    alpha = drawn[..., 3]
    return np.minimum(drawn[..., :3] * item.light, alpha[..., None]), alpha


def over(below: Picture, colours: Picture, alpha: Picture) -> Picture:
    """Put a layer (colours times alpha) over a picture."""
    return below * (1 - alpha[..., None]) + colours


def cast_shadow(below: Picture, alpha: Picture, kind: str | None) -> Picture:
    """Darken a picture where an object with this alpha keeps the light away."""
    ys, xs = np.nonzero(alpha > 0.5)
    if kind is None or ys.size == 0:
        return below
    height = float(ys.max() - ys.min() + 1)
    if kind == "drop":
        shade = 0.5 * _blurred(_shifted(alpha, 0.03 * height, 0.045 * height), 0.03 * height)
    else:
        # A band on the ground, from where the left part stands to where the right part does.
        third = (xs.max() - xs.min()) / 3
        feet = []
        for part in (xs < xs.min() + third, xs > xs.max() - third):
            lowest = int(np.argmax(np.where(part, ys, -1)))
            feet.append((int(xs[lowest]), int(ys[lowest] - 0.01 * height)))
        band = np.zeros_like(alpha)
        cv2.line(band, feet[0], feet[1], 1.0, max(1, round(0.09 * height)), cv2.LINE_AA)
        shade = 0.7 * _blurred(band, 0.035 * height)
    return np.asarray(below * (1 - shade[..., None]), np.float32)


@lru_cache(maxsize=8)
def _cutout(name: str) -> Picture:
    """(h, w, 4) colours times alpha, and alpha, cropped to the outline."""
    picture, mask = original(name)
    # The edge is drawn half a pixel inside the outline, so no rim of the old background shows.
    pad = 8
    wide = cv2.copyMakeBorder(mask.astype(np.float32), pad, pad, pad, pad, cv2.BORDER_REPLICATE)
    soft = _blurred(wide, 1.0)[pad:-pad, pad:-pad]
    alpha = np.clip((soft - 0.45) * 2.4, 0, 1)
    x0, y0, x1, y1 = tight_box(mask) or (0, 0, 0, 0)
    layer = np.dstack([picture * alpha[..., None], alpha])[y0:y1, x0:x1]
    return np.ascontiguousarray(layer, dtype=np.float32)


def _blurred(picture: Picture, sigma: float) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), max(sigma, 0.3)), np.float32)


def _shifted(alpha: Picture, right: float, down: float) -> Picture:
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    return np.asarray(cv2.warpAffine(alpha, move, (alpha.shape[1], alpha.shape[0])), np.float32)
