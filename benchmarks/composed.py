"""Albums put together from cut-outs, for what no album shows: the object at other sizes, or many.

`at_sizes` puts the objects of an album, smaller than in their references, into the album's photos
of something else. `from_cutouts` makes an album of its own from a folder of cut-outs: dozens of
objects, in other places, under other light, turned, and at other sizes than in the reference. No
constant of the package is fitted on the one, and none is judged by the other alone.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from benchmarks.album import Photo
from fiftyone_persam.sam import load_photo

SIZES = (1.0, 0.6, 0.4, 0.3)
"""Of the object, as multiples of its size in the reference."""
LONGEST = 900  # pixels of a composed photo's longer side
_REFERENCE = 0.55  # side of an object in its reference, as a share of the photo's
_LARGEST = 0.9  # the same, at most
_SMALLEST = 24  # pixels of an object's longer side, at least
_ANGLE, _GAIN, _GAMMA, _TILT = 30.0, 0.2, 0.3, 0.12
_BACKGROUND = 1200  # pixels of a background's longer side

Picture = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Composed(Photo):
    """A photo with an object at a known size.

    Attributes:
        size: side of the object (the root of its area, both as a share of the photo), as a multiple
            of what it is in the reference; 0 where this is the reference.
        also: other objects of the album that the photo shows.
    """

    size: float = 1.0
    also: frozenset[str] = frozenset()


def also_in(photo: Photo) -> frozenset[str]:
    """Objects in a photo beside its own, as far as that is known."""
    return photo.also if isinstance(photo, Composed) else frozenset()


def at_sizes(
    groups: Sequence[Sequence[Photo]], sizes: Sequence[float] = SIZES[1:], seed: int = 0
) -> list[list[Composed]]:
    """The objects of an album at other sizes, in its photos of something else.

    Args:
        groups: the album's photos, object by object, the reference first.
        sizes: see `SIZES`.
        seed: of the places and backgrounds.

    Returns:
        For each object its reference, and each of its other photos cut out and pasted at each size.
    """
    made = []
    for index, group in enumerate(groups):
        rng = np.random.default_rng([seed, index])
        others = [
            one
            for k, other in enumerate(groups)
            for one in (other if k != index else ())
            if group[0].object not in also_in(one)
        ]
        photos = [Composed(group[0].object, group[0].name, group[0].image, group[0].mask, 0.0)]
        for source in group[1:]:
            cut = _cut_out(source.image, source.mask)
            for size in sizes:
                behind = others[int(rng.integers(len(others)))]
                share = size * _side(group[0].mask)
                image, mask = _pasted(_fitted(behind.image), cut, share, rng)
                name = f"{source.name} at {size:g}"
                also = also_in(behind) | {behind.object}
                photos.append(Composed(source.object, name, image, mask, size, also))
        made.append(photos)
    return made


def from_cutouts(
    cutouts: Path, backgrounds: Path, most: int | None = None, seed: int = 0
) -> list[list[Composed]]:
    """An album of cut-outs: each object as a reference, and once at each of `SIZES`.

    Files of one stem and another number at the end are views of one object, which take turns; an
    object of a single view is tilted besides.

    Args:
        cutouts: folder of RGBA pictures.
        backgrounds: folder of photos.
        most: objects, at most, spread over all.
        seed: of all that is drawn.
    """
    views: dict[str, list[Path]] = defaultdict(list)
    for path in sorted(cutouts.glob("*.webp")):
        views[re.sub(r"_\d+$", "", path.stem)].append(path)
    names = sorted(views)
    if most is not None and most < len(names):
        names = [names[k] for k in np.linspace(0, len(names) - 1, most).round().astype(int)]
    behind = sorted(path for path in backgrounds.iterdir() if path.suffix.lower() == ".jpg")
    made = []
    for index, name in enumerate(names):
        rng = np.random.default_rng([seed, index])
        photos = []
        for number, size in enumerate((0.0, *SIZES)):
            path = views[name][number % len(views[name])]
            cut = _read(path)
            if number:
                cut = _changed(cut, rng, tilted=len(views[name]) == 1)
            photo = _fitted(load_photo(behind[int(rng.integers(len(behind)))]), _BACKGROUND)
            photo = _cropped(photo, rng)
            image, mask = _pasted(photo, cut, (size or 1.0) * _REFERENCE, rng)
            photos.append(Composed(name, f"{number:02}", image, mask, size))
        reference = _side(photos[0].mask)
        made.append(
            [
                one if one.size == 0 else replace(one, size=_side(one.mask) / reference)
                for one in photos
            ]
        )
    return made


def _side(mask: npt.NDArray[np.bool_]) -> float:
    """The root of the share of the photo's longer side, squared, that a mask covers."""
    return float(np.sqrt(mask.sum()) / max(mask.shape))


def _read(path: Path) -> Picture:
    """(H, W, 4) RGBA, without its empty margins."""
    data = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    picture = cv2.cvtColor(data, cv2.COLOR_BGRA2RGBA)
    return _trimmed(picture)


def _cut_out(image: Picture, mask: npt.NDArray[np.bool_]) -> Picture:
    return _trimmed(np.dstack([image, mask.astype(np.uint8) * 255]))


def _trimmed(picture: Picture) -> Picture:
    rows = np.flatnonzero((picture[..., 3] > 127).any(1))
    columns = np.flatnonzero((picture[..., 3] > 127).any(0))
    return picture[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _changed(cut: Picture, rng: np.random.Generator, tilted: bool) -> Picture:
    """A cut-out (H, W, 4) turned, under other light, and tilted if it has but one view."""
    height, width = cut.shape[:2]
    room = int(np.ceil(np.hypot(height, width)))
    turn = np.eye(3)
    turn[:2] = cv2.getRotationMatrix2D((width / 2, height / 2), rng.uniform(-_ANGLE, _ANGLE), 1)
    turn[:2, 2] += (room - width) / 2, (room - height) / 2
    if tilted:
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        moved = corners + rng.uniform(-_TILT, _TILT, (4, 2)) * (width, height)
        turn = turn @ cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    soft = cut.astype(np.float32)
    soft[..., :3] *= soft[..., 3:] / 255
    out = cv2.warpPerspective(soft, turn, (room, room), flags=cv2.INTER_AREA)
    colour = out[..., :3] / np.maximum(out[..., 3:], 1) * 255
    gamma = np.exp(rng.uniform(-_GAMMA, _GAMMA))
    gains = np.exp(rng.uniform(-_GAIN, _GAIN, 3))
    out[..., :3] = 255 * np.clip(colour / 255, 0, 1) ** gamma * gains
    return _trimmed(np.clip(out, 0, 255).round().astype(np.uint8))


def _pasted(
    photo: Picture, cut: Picture, share: float, rng: np.random.Generator
) -> tuple[Picture, npt.NDArray[np.bool_]]:
    """A cut-out in a photo, its side ``share`` of the photo's longer one, wherever there is room.

    Returns:
        The photo and the cut-out's mask (H, W).
    """
    height, width = photo.shape[:2]
    area = float((cut[..., 3] > 127).sum())
    scale = share * max(height, width) / np.sqrt(area)
    scale = max(scale, _SMALLEST / max(cut.shape[:2]))
    scale = min(scale, _LARGEST * height / cut.shape[0], _LARGEST * width / cut.shape[1])
    size = max(1, round(cut.shape[1] * scale)), max(1, round(cut.shape[0] * scale))
    placed = cv2.resize(cut, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    h, w = placed.shape[:2]
    y, x = int(rng.integers(0, height - h + 1)), int(rng.integers(0, width - w + 1))
    image, part = photo.copy(), (slice(y, y + h), slice(x, x + w))
    alpha = placed[..., 3:].astype(np.float32) / 255
    mixed = alpha * placed[..., :3] + (1 - alpha) * image[part]
    image[part] = mixed.round().astype(np.uint8)
    mask = np.zeros((height, width), np.bool_)
    mask[part] = alpha[..., 0] > 0.5
    return image, mask


def _fitted(photo: Picture, side: int = LONGEST) -> Picture:
    """A photo whose longer side is at most ``side``."""
    scale = side / max(photo.shape[:2])
    if scale >= 1:
        return photo
    size = round(photo.shape[1] * scale), round(photo.shape[0] * scale)
    return np.ascontiguousarray(cv2.resize(photo, size, interpolation=cv2.INTER_AREA))


def _cropped(photo: Picture, rng: np.random.Generator) -> Picture:
    """A part of a photo, of a shape between 4:3 and 3:4."""
    height, width = photo.shape[:2]
    ratio = np.exp(rng.uniform(-np.log(4 / 3), np.log(4 / 3)))
    h = min(height, width / ratio) * rng.uniform(0.7, 1)
    w = h * ratio
    y, x = rng.integers(0, height - int(h) + 1), rng.integers(0, width - int(w) + 1)
    return _fitted(photo[y : y + int(h), x : x + int(w)])
