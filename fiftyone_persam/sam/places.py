"""What is at a place of a photo: a click or a box, at SAM's three scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import PersamError
from .embedding import ImageEmbedding, Prompt
from .promptable import Promptable
from .proposals import SAME_MASK, SMALLEST, Proposal, mask_iou
from .valid_prompts import proposal_of


def at_place(
    sam: Promptable,
    embedding: ImageEmbedding,
    *,
    point: Sequence[float] | None = None,
    box: Sequence[float] | None = None,
) -> list[Proposal]:
    """What is at a place of a photo, at SAM's three scales: part, larger part, whole.

    Args:
        sam: the model.
        embedding: the photo.
        point: x, y in pixels of the photo.
        box: x0, y0, x1, y1 in pixels of the photo, instead of or beside the point.

    Returns:
        Up to three proposals, the smallest first, with `Decoded.sureness` as score; scales that
        agree are one.

    Raises:
        PersamError: neither was given, or one of them is not inside the photo.
    """
    height, width = embedding.original_size
    if point is None and box is None:
        raise PersamError("neither a point nor a box was given: give x, y or x0, y0, x1, y1")
    if point is not None:
        point = check_point(point, (height, width))
    if box is not None:
        box = check_box(box, (height, width))
    points = None if point is None else np.array([point])
    decoded = sam.decode([Prompt(embedding, points=points, box=box)])[0]
    found: list[Proposal] = []
    sureness = decoded.sureness[1:].clamp(0, 1)
    for index in torch.argsort(-sureness).tolist():
        score = float(sureness[index])
        one = proposal_of(embedding, decoded.logits[1 + index], score)
        if one is None or one.area < SMALLEST:
            continue
        if all(mask_iou(one, other) <= SAME_MASK for other in found):
            found.append(one)
    return sorted(found, key=lambda one: one.area)


def scales_of(sam: Promptable, embedding: ImageEmbedding, proposal: Proposal) -> list[Proposal]:
    """A proposal's part, larger part and whole: what its innermost point stands for."""
    return at_place(sam, embedding, point=innermost(proposal))


def innermost(proposal: Proposal) -> tuple[float, float]:
    """x, y of the pixel's centre that is farthest from the mask's outline."""
    from scipy.ndimage import distance_transform_edt

    depth = distance_transform_edt(np.pad(proposal.crop, 1))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(proposal.box[0] + x) + 0.5, float(proposal.box[1] + y) + 0.5


def check_point(point: Any, size: tuple[int, int]) -> tuple[float, float]:
    """x, y; PersamError unless it is inside a photo of this height and width."""
    try:
        x, y = (float(value) for value in point)
    except (TypeError, ValueError):
        raise PersamError(f"point {point!r} is not a point: give x, y in pixels") from None
    height, width = size
    if not (0 <= x <= width and 0 <= y <= height):  # NaN is not, either
        raise PersamError(
            f"point ({x:g}, {y:g}) is outside the photo of {width} x {height} pixels: "
            "give one inside it"
        )
    return x, y


def check_box(box: Any, size: tuple[int, int]) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1; PersamError unless it is a box inside a photo of this height and width."""
    try:
        x0, y0, x1, y1 = (float(value) for value in box)
    except (TypeError, ValueError):
        raise PersamError(f"box {box!r} is not a box: give x0, y0, x1, y1 in pixels") from None
    height, width = size
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise PersamError(
            f"box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is empty or not inside the photo of {width} x "
            f"{height} pixels: give x0 < x1 and y0 < y1 inside it"
        )
    return x0, y0, x1, y1
