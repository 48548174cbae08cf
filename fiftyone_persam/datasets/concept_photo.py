"""One photo of a concept made ready for a diffusion model's trainer: crop, background, loss mask.

Arrays in, arrays out; no FiftyOne.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ..errors import PersamError
from ..options import as_number, as_plain
from ..sam.boxes import tight_box

Photo = NDArray[np.uint8]
Box = tuple[int, int, int, int]

CROPS = ("none", "square", "box")
BACKGROUNDS = ("keep", "white", "gray", "blur")

_COLOURS = {"white": 255, "gray": 128}
# The blur's sigma, as a share of the photo's longer side: shapes go, colours and light stay.
_BLUR = 0.05
_SMALLEST_SIDE = 8
_LARGEST_SIDE = 8192
# A stray spot, as a share of the object's largest part: it neither widens the crop nor grows.
_SPOT = 0.005


@dataclass(frozen=True)
class PhotoOptions:
    """How photos and their loss masks are made ready.

    Attributes:
        crop: "none"; "square" around the object, moved into the photo, and larger than it only
            where the object is (the photo's edge is then repeated); or the object's "box".
        padding: room around the object on each side, as a share of its longer side.
        resolution: sides in pixels. A "square" gets exactly this size. Of other crops the shorter
            side is made this long, but nothing is enlarged. None keeps the photo's own pixels.
        background: "keep", or replace what the mask leaves out by "white", "gray", or a "blur"
            that no pixel of the object takes part in.
        dilate: pixels, at the written size, by which the mask grows. Stray spots of less than half
            a percent of the object stay as they are, and do not widen a crop.
        feather: width in pixels, at the written size, of a ramp around the mask on which the
            weight falls to 0. The object itself keeps its full weight.

    Raises:
        PersamError: a value that cannot be used.
    """

    crop: str = "none"
    padding: float = 0.1
    resolution: int | None = None
    background: str = "keep"
    dilate: float = 0
    feather: float = 0

    def __post_init__(self) -> None:
        for name, known in (("crop", CROPS), ("background", BACKGROUNDS)):
            value = getattr(self, name)
            if value not in known:
                raise PersamError(f"unknown {name} {value!r}: choose from {', '.join(known)}")
        for name, top in (("padding", 10), ("dilate", 1000), ("feather", 1000)):
            object.__setattr__(self, name, as_number(name, getattr(self, name), high=top))
        if self.resolution is not None:
            object.__setattr__(self, "resolution", _side(self.resolution))


@dataclass(frozen=True)
class ConceptPhoto:
    """A photo that is ready.

    Attributes:
        image: (h, w, 3) uint8 RGB.
        mask: (h, w) uint8, the weight of each pixel in the loss: 255 is the object, 0 is ignored.
        box: x0, y0, x1, y1 of the object in ``image``, in pixels.
        crop: x0, y0, x1, y1 of ``image`` in the upright photo, in pixels; may reach beyond it.
    """

    image: Photo
    mask: Photo
    box: Box
    crop: Box


def prepare_photo(
    photo: Photo, mask: NDArray[np.bool_], options: PhotoOptions | None = None
) -> ConceptPhoto:
    """Cut out, resize, and weigh one photo.

    Args:
        photo: (H, W, 3) uint8 RGB, upright.
        mask: (H, W) bool, the object.
        options: see :class:`PhotoOptions`.

    Raises:
        PersamError: the mask is empty, or of another size than the photo.
    """
    options = options or PhotoOptions()
    if mask.shape != photo.shape[:2]:
        raise PersamError(
            f"a mask of {mask.shape[1]} x {mask.shape[0]} pixels does not fit a photo of "
            f"{photo.shape[1]} x {photo.shape[0]}"
        )
    body = _without_spots(mask.astype(np.uint8))
    around = tight_box(body)
    if around is None:
        raise PersamError("the object is absent: its mask is empty")
    crop = _crop_of(around, mask.shape, options)
    image = _cut(photo, crop, cv2.BORDER_REPLICATE)
    inside = _cut(mask.astype(np.uint8), crop, cv2.BORDER_CONSTANT)
    body = _cut(body, crop, cv2.BORDER_CONSTANT)
    size = _size_of(crop, options)
    if size != inside.shape:
        image = np.asarray(Image.fromarray(image).resize(size[::-1], Image.Resampling.LANCZOS))
        inside, body = _resize_mask(inside, size), _resize_mask(body, size)
    weight = np.maximum(_weight(body, options.dilate, options.feather), inside * np.uint8(255))
    return ConceptPhoto(
        image=_with_background(image, inside, weight, options.background),
        mask=weight,
        box=tight_box(body) or (0, 0, 0, 0),
        crop=crop,
    )


# ----------------------------------------------------------------------------------------------


def _side(value: Any) -> int:
    side = as_plain(value)
    whole = isinstance(side, (int, float)) and not isinstance(side, bool) and side == side // 1
    if not whole or not _SMALLEST_SIDE <= side <= _LARGEST_SIDE:
        raise PersamError(
            f"resolution {value!r} cannot be used: give a whole number from {_SMALLEST_SIDE} to "
            f"{_LARGEST_SIDE}, in pixels, or None"
        )
    return int(side)


def _without_spots(mask: Photo) -> Photo:
    count, parts, facts, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
    if count <= 2:
        return mask
    areas = facts[:, cv2.CC_STAT_AREA].copy()
    areas[0] = 0  # the background
    large: NDArray[np.bool_] = areas >= _SPOT * areas.max()
    return large[parts].astype(np.uint8)


def _crop_of(box: Box, size: tuple[int, int], options: PhotoOptions) -> Box:
    height, width = size
    x0, y0, x1, y1 = box
    longer = max(x1 - x0, y1 - y0)
    if options.crop == "none":
        return 0, 0, width, height
    room = round(longer * options.padding)
    if options.crop == "box":
        return max(0, x0 - room), max(0, y0 - room), min(width, x1 + room), min(height, y1 + room)
    # Rather less room than a crop that reaches beyond the photo; the object is never cut.
    side = max(longer, min(longer + 2 * room, height, width))
    left = _place((x0 + x1 - side) / 2, side, width)
    top = _place((y0 + y1 - side) / 2, side, height)
    return left, top, left + side, top + side


def _place(start: float, side: int, length: int) -> int:
    """Where a window begins along one side of the photo: inside it, or centred if longer."""
    if side > length:
        return (length - side) // 2
    return int(min(max(0, round(start)), length - side))


def _cut(pixels: Photo, crop: Box, border: int) -> Photo:
    height, width = pixels.shape[:2]
    x0, y0, x1, y1 = crop
    inner = pixels[max(0, y0) : min(height, y1), max(0, x0) : min(width, x1)]
    beyond = (max(0, -y0), max(0, y1 - height), max(0, -x0), max(0, x1 - width))
    if any(beyond):
        inner = np.asarray(cv2.copyMakeBorder(inner, *beyond, border), dtype=np.uint8)
    return np.ascontiguousarray(inner)


def _size_of(crop: Box, options: PhotoOptions) -> tuple[int, int]:
    height, width = crop[3] - crop[1], crop[2] - crop[0]
    if options.resolution is None:
        return height, width
    if options.crop == "square":
        return options.resolution, options.resolution
    scale = min(1.0, options.resolution / min(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resize_mask(inside: Photo, size: tuple[int, int]) -> Photo:
    smaller = size[0] * size[1] < inside.size
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    share = cv2.resize(inside.astype(np.float32), size[::-1], interpolation=how)
    # A thread that covers less than half of every pixel stays what it is: the object.
    cut = 0.5 if (share >= 0.5).any() else share.max() / 2
    return (share >= cut).astype(np.uint8)


def _weight(inside: Photo, dilate: float, feather: float) -> Photo:
    if not (dilate or feather):
        return inside * np.uint8(255)
    distance = cv2.distanceTransform(1 - inside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    beyond = np.maximum(distance - dilate, 0)
    # Without a ramp a pixel is in or out; 1e-3 is what float32 distances are good for.
    weight = 1 - beyond / feather if feather else beyond < 1e-3
    return np.round(np.clip(weight, 0, 1) * 255).astype(np.uint8)


def _with_background(image: Photo, inside: Photo, weight: Photo, background: str) -> Photo:
    if background == "keep":
        return image
    share = (weight.astype(np.float32) / 255)[..., None]
    behind: NDArray[np.float32] | int = (
        _blurred(image, inside) if background == "blur" else _COLOURS[background]
    )
    return np.round(image * share + behind * (1 - share)).astype(np.uint8)


def _blurred(image: Photo, inside: Photo) -> NDArray[np.float32]:
    """(h, w, 3) blur of the background alone: the object's colours do not run into it."""
    sigma = max(1.0, _BLUR * max(inside.shape))
    outside = (1 - inside).astype(np.float32)
    if not outside.any():
        return image.astype(np.float32)
    colours = cv2.GaussianBlur(image * outside[..., None], (0, 0), sigma)
    amount = cv2.GaussianBlur(outside, (0, 0), sigma)[..., None]
    mean = image[inside == 0].mean(axis=0, dtype=np.float32)
    # Deep inside a large object there is nothing to blur.
    blurred = np.where(amount > 1e-3, colours / np.maximum(amount, 1e-3), mean)
    return np.asarray(blurred, dtype=np.float32)
