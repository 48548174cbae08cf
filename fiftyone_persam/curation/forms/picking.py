"""Picking the object in a photo by a click: numbered proposals, a place, and SAM's three scales.

Forms are resolved at every keystroke, so what a photo offers is worked out once and remembered, by
the file and its last change.
"""

from __future__ import annotations

import base64
import io
import math
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cachetools import LRUCache
from PIL import Image, ImageDraw, ImageFont

from ...errors import BadReferenceError, PersamError
from ...sam.photos import load_photo
from ...sam.proposals import Proposal, is_plain

MODEL = "sam_lite"
"""Finds the proposals: it comes with the package and answers at once."""
OFFERED = 40
"""Proposals that a photo offers, at most."""
PAGE = 8
"""Proposals that are shown at once."""
REMEMBERED = 16
SIDE = 420
THUMB = 108

COLOURS = (
    (255, 109, 4),
    (66, 165, 245),
    (102, 187, 106),
    (236, 64, 122),
    (255, 214, 0),
    (171, 71, 188),
    (0, 188, 212),
    (255, 138, 101),
)

_FOUND: LRUCache[tuple[Any, ...], Any] = LRUCache(REMEMBERED)
_LOCK = threading.Lock()


def check_photo(filepath: str) -> None:
    """Raise PersamError for a photo in which nothing can be shown: all of it has one colour.

    Raises:
        PhotoError: the photo cannot be read.
    """
    if _known(filepath)[2]:
        raise PersamError(
            f"there is nothing in {Path(filepath).name}, which has one colour: choose another photo"
        )


def offered(filepath: str) -> list[Proposal]:
    """What can be picked in a photo, best first.

    Raises:
        PhotoError: the photo cannot be read.
    """
    return list(_known(filepath)[1])


def scales_at(
    filepath: str,
    pick: int | None = None,
    point: Sequence[float] | None = None,
    box: Sequence[float] | None = None,
) -> list[Proposal]:
    """Part, larger part and whole of what was picked, the smallest first; what agrees is one.

    Args:
        filepath: the photo.
        pick: number of a proposal, from 1.
        point: x, y from 0 to 1, instead of a number.
        box: x0, y0, x1, y1 from 0 to 1, instead of a number.

    Raises:
        PersamError: nothing was picked, or it is not in the photo.
        PhotoError: the photo cannot be read.
    """
    from ...sam import load_sam
    from ...sam.places import at_place, scales_of

    check_photo(filepath)
    embedding, proposals, _ = _known(filepath)
    sam = load_sam(MODEL)
    height, width = embedding.original_size
    if pick is not None:
        if not 1 <= pick <= len(proposals):
            raise PersamError(
                f"proposal {pick} is not offered: choose one of 1 to {len(proposals)}"
                if proposals
                else "nothing was found in this photo: mark your object with a box or a point"
            )
        chosen = proposals[pick - 1]
        return [chosen, *scales_of(sam, embedding, chosen)]
    if point is not None:
        x, y = point
        return at_place(sam, embedding, point=(x * width, y * height))
    if box is None:
        raise PersamError("nothing was picked: click one of the proposals")
    x0, y0, x1, y1 = box
    return at_place(sam, embedding, box=(x0 * width, y0 * height, x1 * width, y1 * height))


def picked(
    filepath: str,
    pick: int | None = None,
    point: Sequence[float] | None = None,
    scale: int | None = None,
) -> Proposal:
    """The mask that was picked.

    Args:
        filepath: the photo.
        pick: number of a proposal, from 1.
        point: x, y from 0 to 1, instead of a number.
        scale: which of `scales_at`, from 0; the proposal itself, or what is at the point as a
            whole, if None.

    Raises:
        BadReferenceError: there is nothing at this place.
        PersamError: see `scales_at`.
    """
    found = scales_at(filepath, pick, point)
    if not found:
        raise BadReferenceError("there is nothing to segment at this point: click your object")
    if scale is None:
        return found[0] if pick is not None else max(found, key=lambda one: one.score)
    if not 0 <= scale < len(found):
        raise PersamError(f"scale {scale} is not offered: choose one of 0 to {len(found) - 1}")
    return found[scale]


def numbered(filepath: str, proposals: Sequence[Proposal], first: int = 1, side: int = SIDE) -> str:
    """The photo with outlines and numbers of proposals, as a ``data:`` URI.

    Args:
        filepath: the photo.
        proposals: those that are drawn.
        first: number of the first one.
        side: length of the longer side in pixels.
    """
    small = _small(load_photo(filepath), side)
    canvas = np.asarray(small).astype(np.float32)
    # Small things are drawn last, so that large ones do not cover them.
    order = sorted(range(len(proposals)), key=lambda k: -proposals[k].area)
    for k in order:
        inside, edge = _drawn(proposals[k], small.size)
        tint = np.array(_colour(first + k), np.float32)
        canvas[inside] = 0.75 * canvas[inside] + 0.25 * tint
        canvas[edge] = tint
    picture = Image.fromarray(canvas.round().astype(np.uint8))
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    taken = np.zeros(canvas.shape[:2], dtype=np.bool_)
    for k in reversed(order):
        x, y = _label_place(_drawn(proposals[k], small.size)[0], taken)
        text, colour = str(first + k), _colour(first + k)
        half = 6 + 4 * len(text)
        draw.ellipse((x - half, y - 10, x + half, y + 10), fill=(20, 20, 20), outline=colour)
        draw.text((x, y), text, fill=(255, 255, 255), font=font, anchor="mm")
    return _uri(picture)


def cut_out(filepath: str, proposal: Proposal, number: int | None = None, side: int = THUMB) -> str:
    """A proposal alone, with a little of what is around it, as a ``data:`` URI.

    Args:
        filepath: the photo.
        proposal: what is shown.
        number: written into the corner.
        side: of the square in pixels.
    """
    photo = load_photo(filepath)
    x0, y0, x1, y1 = (int(v) for v in proposal.box)
    span = max(x1 - x0, y1 - y0) + 1
    pad = max(2, span // 12)
    left, top = max(0, x0 - pad), max(0, y0 - pad)
    right, bottom = min(photo.shape[1], x1 + pad + 1), min(photo.shape[0], y1 + pad + 1)
    part = Image.fromarray(photo[top:bottom, left:right])
    whole = np.zeros((bottom - top, right - left), np.uint8)
    whole[y0 - top : y1 + 1 - top, x0 - left : x1 + 1 - left] = proposal.crop * np.uint8(255)
    scale = side / max(part.size)
    size = (max(1, round(part.width * scale)), max(1, round(part.height * scale)))
    part, mask = part.resize(size), Image.fromarray(whole).resize(size)
    dark = Image.blend(part, Image.new("RGB", size, (24, 24, 24)), 0.8)
    canvas = Image.new("RGB", (side, side), (24, 24, 24))
    place = ((side - size[0]) // 2, (side - size[1]) // 2)
    canvas.paste(Image.composite(part, dark, mask), place)
    if number is not None:
        draw = ImageDraw.Draw(canvas)
        half = 7 + 4 * len(str(number))
        draw.ellipse((1, 1, 1 + 2 * half, 21), fill=(20, 20, 20), outline=_colour(number))
        font = ImageFont.load_default(14)
        draw.text((1 + half, 11), str(number), fill=(255, 255, 255), font=font, anchor="mm")
    return _uri(canvas)


def pointed(filepath: str, point: Sequence[float], side: int = SIDE) -> str:
    """The photo with a point, x and y from 0 to 1, as a ``data:`` URI."""
    picture = _small(load_photo(filepath), side)
    x, y = point[0] * picture.width, point[1] * picture.height
    draw = ImageDraw.Draw(picture)
    for radius, colour in ((8, (255, 255, 255)), (6, COLOURS[0])):
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return _uri(picture)


def picture_size(filepath: str, side: int = SIDE) -> tuple[int, int]:
    """Width and height of the pictures that are made here of a photo, in pixels."""
    height, width = _known(filepath)[0].original_size
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def photo_thumbnail(filepath: str, side: int = THUMB) -> str:
    """The photo alone, as a ``data:`` URI."""
    return _uri(_small(load_photo(filepath), side))


def _known(filepath: str) -> tuple[Any, list[Proposal], bool]:
    """A photo's embedding, its proposals, and whether it is plain: once per state of its file."""
    from ...sam import load_sam
    from ...sam.valid_prompts import DiscoveryProposer

    path = Path(filepath)
    state = path.stat() if path.is_file() else None
    key = (filepath, state and state.st_mtime_ns, state and state.st_size)
    with _LOCK:
        if key not in _FOUND:
            sam = load_sam(MODEL)
            photo = load_photo(filepath)
            embedding, plain = sam.encode([photo])[0], is_plain(photo)
            found = []
            if not plain:
                proposer = DiscoveryProposer()
                found = proposer.from_embedding(sam, embedding, OFFERED, finder=embedding)
            _FOUND[key] = (embedding, found, plain)
        known: tuple[Any, list[Proposal], bool] = _FOUND[key]
    return known


def _small(photo: npt.NDArray[np.uint8], side: int) -> Image.Image:
    scale = side / max(photo.shape[:2])
    size = (max(1, round(photo.shape[1] * scale)), max(1, round(photo.shape[0] * scale)))
    return Image.fromarray(photo).resize(size)


def _drawn(
    proposal: Proposal, size: tuple[int, int]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Where a proposal is in a picture of this (width, height), and its outline."""
    from scipy.ndimage import binary_erosion

    scale = (size[0] / proposal.size[1], size[1] / proposal.size[0])
    x0, y0 = (int(v * s) for v, s in zip(proposal.box[:2], scale, strict=True))
    x1, y1 = (math.ceil((v + 1) * s) for v, s in zip(proposal.box[2:], scale, strict=True))
    crop = Image.fromarray(proposal.crop.astype(np.uint8) * np.uint8(255))
    inside = np.zeros((size[1], size[0]), dtype=np.bool_)
    part = np.asarray(crop.resize((x1 - x0, y1 - y0))) > 127
    inside[y0:y1, x0:x1] = part[: size[1] - y0, : size[0] - x0]
    return inside, inside & ~binary_erosion(inside, iterations=2)


def _label_place(
    inside: npt.NDArray[np.bool_], taken: npt.NDArray[np.bool_]
) -> tuple[float, float]:
    """x, y of a number: as deep in the mask as can be, and off the numbers before it."""
    from scipy.ndimage import distance_transform_edt

    free = inside & ~taken
    depth = distance_transform_edt(np.pad(free if free.any() else inside, 1))[1:-1, 1:-1]
    y, x = (int(v) for v in np.unravel_index(int(depth.argmax()), depth.shape))
    taken[max(0, y - 22) : y + 22, max(0, x - 22) : x + 22] = True
    return float(x), float(y)


def _colour(number: int) -> tuple[int, int, int]:
    return COLOURS[(number - 1) % len(COLOURS)]


def _uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
