"""A folder of training data in miniature: grey real photos, on which objects are coloured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from skimage import data

COLOURS = {1: (230, 30, 30), 2: (30, 200, 40), 3: (40, 60, 230)}


@dataclass(frozen=True)
class Ellipse:
    """An object: centre and half axes as shares of the photo's height and width."""

    id: int
    y: float
    x: float
    height: float
    width: float

    def mask(self, size: tuple[int, int]) -> npt.NDArray[np.bool_]:
        """(H, W) bool."""
        y, x = np.mgrid[: size[0], : size[1]]
        y, x = (y + 0.5) / size[0] - self.y, (x + 0.5) / size[1] - self.x
        return np.asarray((y / self.height) ** 2 + (x / self.width) ** 2 < 1)


TWO_THINGS = (Ellipse(1, 0.4, 0.3, 0.25, 0.18), Ellipse(2, 0.65, 0.72, 0.2, 0.15))
# The third one is smaller than what counts as an object.
CATS = (*TWO_THINGS, Ellipse(3, 0.1, 0.6, 0.02, 0.02))
# Garments of one person: three discs that touch each other.
GARMENTS = tuple(Ellipse(index, 0.1 + 0.2 * index, 0.5, 0.1, 0.2) for index in (1, 2, 3))
PHOTOS = {
    "coco_small/astronaut": ("astronaut", TWO_THINGS),
    "coco_small/coffee": ("coffee", TWO_THINGS),
    "clothing_coparsing/astronaut": ("astronaut", GARMENTS),
    "feral_cats/chelsea": ("chelsea", CATS),
}
BACKGROUNDS = ("brick", "rocket")
CUTOUTS = {  # folder / stem -> id of its colour
    "cutouts_fluent3d/1f600_smile": 1,
    "cutouts_fluent3d/1f3f0_castle": 2,
    "cutouts_openclipart/tractor": 3,
    "cutouts_renders/trellismv__tiger_1": 1,
    "cutouts_renders/trellismv__tiger_2": 1,
    "cutouts_renders/realfusion__cake_2_rgba": 2,
}


def grey(name: str) -> npt.NDArray[np.uint8]:
    """(H, W, 3) one of scikit-image's own photos without colour."""
    photo = Image.fromarray(np.asarray(getattr(data, name)())).convert("L").convert("RGB")
    return np.asarray(photo)


def painted(name: str, objects: tuple[Ellipse, ...]) -> tuple[npt.NDArray[np.uint8], ...]:
    """A photo with coloured objects, and its ids (H, W)."""
    photo = grey(name).copy()
    ids = np.zeros(photo.shape[:2], np.uint8)
    for item in objects:
        mask = item.mask(photo.shape[:2])
        shade = 0.75 + 0.25 * photo[mask].mean(1, keepdims=True) / 255  # keeps some texture
        photo[mask] = (shade * COLOURS[item.id]).astype(np.uint8)
        ids[mask] = item.id
    return photo, ids


def cutout(colour: int) -> npt.NDArray[np.uint8]:
    """(120, 90, 4) RGBA: a coloured ellipse with nothing around it."""
    mask = Ellipse(colour, 0.5, 0.5, 0.49, 0.49).mask((120, 90))
    return np.dstack([np.full((120, 90, 3), COLOURS[colour]), mask * 255]).astype(np.uint8)


def write_data(folder: Path) -> Path:
    """Write everything that `training.pack` looks for."""
    for entry, (name, objects) in PHOTOS.items():
        source, stem = entry.split("/")
        photo, ids = painted(name, objects)
        save(photo, folder / source / "images" / f"{stem}.jpg", quality=95)
        save(ids, folder / source / "masks" / f"{stem}.png")
    # A photo that nobody annotated.
    save(grey("rocket"), folder / "coco_small/images/unlabelled.jpg")
    for name in BACKGROUNDS:
        save(grey(name), folder / "backgrounds" / f"{name}.jpg")
    for entry, colour in CUTOUTS.items():
        save(cutout(colour), folder / f"{entry}.webp", lossless=True)
    return folder


def save(pixels: npt.NDArray[np.uint8], path: Path, **options: int | bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
