"""References looked at once more, where the object is smaller than in the photo that was given.

An encoder sees a small thing otherwise than a large one, and in other photos the object is mostly
smaller than in the one that somebody has chosen to label. A photo at 0.6 and at 0.35 of its size
fits into one picture beside itself, so one more picture is encoded for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
from torch import Tensor

from ..sam import ImageEmbedding, Photo, Promptable
from . import prior
from .appearance import Appearance, describe, together
from .location import ReferenceView

SIZES = (0.6, 0.35)
"""Of the reference photo, at which it is looked at besides; together at most 1."""
SMALLEST = 0.1  # longer side of the object, as a share of the photo's, that still tells something
MOST = 2
"""References that are looked at so: each look is compared with every photo, and more references
mostly show more sizes by themselves."""
_INSIDE = 0.9  # of a cell in the smaller photo, to be one of its cells

Mask = npt.NDArray[np.bool_]
Encode = Callable[[Sequence[Photo]], Sequence[ImageEmbedding]]


def look_smaller(
    sam: Promptable,
    views: Sequence[ReferenceView],
    masks: Sequence[Mask],
    encode: Encode | None = None,
) -> Appearance | None:
    """How the object looks where it is smaller, in each reference and at each size.

    Args:
        sam: the model.
        views: references; one without its photo is left out, and so are all after the first `MOST`.
        masks: (H, W) of each.
        encode: encodes pictures, such as one that remembers them; the model's own if None.

    Returns:
        Up to two rows for each; None where no reference has a photo in which enough is left of the
        object.
    """
    pictures: list[Photo] = []
    sizes: list[list[tuple[Mask, Mask]]] = []
    for view, mask in zip(views, masks, strict=True):
        made = None if view.photo is None else side_by_side(view.photo, mask)
        if made is not None and made[1] and len(pictures) < MOST:
            pictures.append(made[0])
            sizes.append(made[1])
    found: list[Appearance] = []
    embeddings = (encode or sam.encode)(pictures) if pictures else ()
    for embedding, smaller in zip(embeddings, sizes, strict=True):
        features = embedding.to_recognise.to(sam.device)
        found += described(sam, embedding, features, smaller)
    return together(found) if found else None


def described(
    sam: Promptable,
    embedding: ImageEmbedding,
    features: Tensor,
    smaller: Sequence[tuple[Mask, Mask]],
) -> list[Appearance]:
    """The appearance of each smaller object in one picture.

    Args:
        sam: the model.
        embedding: of the picture from `side_by_side`.
        features: (D, h, w) of it, to tell objects by.
        smaller: the masks from `side_by_side`.
    """
    found = []
    for mask, inside in smaller:
        cells = prior.aligned_foreground(sam, mask, embedding)
        valid = prior.mask_coverage(sam, inside, embedding) > _INSIDE
        side = cells.sum().sqrt()[None]
        found.append(replace(describe(features, cells, valid), sides=side))
    return found


def side_by_side(photo: Photo, mask: Mask) -> tuple[Photo, list[tuple[Mask, Mask]]]:
    """A photo at the smaller sizes in one picture, in corners that face each other.

    Args:
        photo: (H, W, 3) uint8.
        mask: (H, W) bool.

    Returns:
        The picture (H, W, 3), and for each size at which enough is left of the object its mask and
        the smaller photo's own pixels, both (H, W) bool.
    """
    height, width = mask.shape
    picture = np.empty_like(photo)
    picture[:] = photo.reshape(-1, 3).mean(0).round().astype(np.uint8)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    longest = max(rows[-1] - rows[0], columns[-1] - columns[0]) + 1
    shown = []
    for number, size in enumerate(SIZES):
        h, w = max(1, round(height * size)), max(1, round(width * size))
        y, x = (0, 0) if number == 0 else (height - h, width - w)
        place = slice(y, y + h), slice(x, x + w)
        picture[place] = cv2.resize(photo, (w, h), interpolation=cv2.INTER_AREA)
        share = cv2.resize(mask.astype(np.float32), (w, h), interpolation=cv2.INTER_AREA)
        small, inside = np.zeros_like(mask), np.zeros_like(mask)
        small[place], inside[place] = share > 0.5, True
        if small.any() and longest * size >= SMALLEST * max(height, width):
            shown.append((small, inside))
    return picture, shown
