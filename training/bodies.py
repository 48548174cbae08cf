"""Changes of a cut-out itself: patches of other material, light from one side, bodies of blocks.

Photographed objects with annotations are mostly people and animals of one material. Packaging, toys
and buildings carry print, windows and parts of different colours; a model that has not seen such
objects leaves holes in their masks.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from training.bank import Bank

Box = tuple[float, float, float, float]


def patched(bank: Bank, rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Cover one to three regions of a cut-out (4, Q, Q) with other material; its outline stays."""
    side = rgba.shape[-1]
    colour = rgba[:3]
    for _ in range(1 + int(_uniform(generator) * 3)):
        center = (_uniform(generator, -0.6, 0.6), _uniform(generator, -0.6, 0.6))
        half = (_uniform(generator, 0.08, 0.7), _uniform(generator, 0.08, 0.7))
        box = (center[0] - half[0], center[1] - half[1], center[0] + half[0], center[1] + half[1])
        region = _region(box, side, generator).to(rgba.device)
        strength = _uniform(generator, 0.5, 1.0)
        colour = torch.lerp(colour, _material(bank, side, generator), region * strength)
    return torch.cat([colour, rgba[3:]])


def shaded(rgba: Tensor, generator: torch.Generator) -> Tensor:
    """Light a cut-out (4, Q, Q) from one side, soft or sharp where light meets shadow."""
    axis = torch.linspace(-1, 1, rgba.shape[-1], device=rgba.device)
    angle = _uniform(generator, 0, 2 * math.pi)
    place = math.cos(angle) * axis[None, :] + math.sin(angle) * axis[:, None]
    sharpness = math.exp(_uniform(generator, 0.0, 2.5))
    light = torch.sigmoid(sharpness * 2 * (place - _uniform(generator, -0.5, 0.5)))
    dark = _uniform(generator, 0.35, 0.9)
    return torch.cat([(rgba[:3] * (dark + (1.25 - dark) * light)).clamp(max=255), rgba[3:]])


def blocks(bank: Bank, side: int, generator: torch.Generator) -> Tensor:
    """A body (4, Q, Q) of two to six blocks that hang together, some with rows of windows."""
    device = bank.device
    colour = torch.zeros(3, side, side, device=device)
    alpha = torch.zeros(side, side, device=device)
    shared = _material(bank, side, generator)
    upright = _uniform(generator) < 0.6
    boxes: list[Box] = []
    for _ in range(2 + int(_uniform(generator) * 5)):
        box = _next_box(boxes, upright, generator)
        boxes.append(box)
        region = _region(box, side, generator, upright).to(device)
        own = shared if _uniform(generator) < 0.6 else _material(bank, side, generator)
        colour = torch.lerp(colour, own * _uniform(generator, 0.7, 1.2), region)
        if _uniform(generator) < 0.5:
            holes = _windows(box, side, generator).to(device) * region
            colour = torch.lerp(colour, own * _uniform(generator, 0.2, 0.7), holes)
        alpha = torch.maximum(alpha, region)
    return torch.cat([colour.clamp(0, 255), alpha[None] * 255])


def _next_box(boxes: list[Box], upright: bool, generator: torch.Generator) -> Box:
    """A box in -1..1 that overlaps an earlier one; boxes of an upright body stand on one ground."""
    half = (_uniform(generator, 0.12, 0.5), _uniform(generator, 0.15, 0.8))
    if not boxes:
        center = (0.0, 0.0)
    else:
        last = boxes[int(_uniform(generator) * len(boxes))]
        center = (_uniform(generator, last[0], last[2]), _uniform(generator, last[1], last[3]))
    x0, x1 = max(center[0] - half[0], -0.95), min(center[0] + half[0], 0.95)
    if upright:
        return x0, min(0.9 - 2 * half[1], 0.6), x1, 0.9
    return x0, max(center[1] - half[1], -0.95), x1, min(center[1] + half[1], 0.95)


def _region(box: Box, side: int, generator: torch.Generator, upright: bool = False) -> Tensor:
    """(Q, Q) in 0..1 of a rectangle, an ellipse or a gable that fills ``box``, given in -1..1."""
    axis = torch.linspace(-1, 1, side)
    width, height = max(box[2] - box[0], 0.05), max(box[3] - box[1], 0.05)
    x = (axis[None, :] - (box[0] + box[2]) / 2) / (width / 2)
    y = (axis[:, None] - (box[1] + box[3]) / 2) / (height / 2)
    kind = _uniform(generator)
    if kind < (0.7 if upright else 0.4):
        distance = torch.maximum(x.abs().expand(side, side), y.abs().expand(side, side))
    elif kind < 0.85:
        distance = (x.square() + y.square()).sqrt()
    else:
        # A gable: the upper part narrows to a point.
        distance = torch.maximum(x.abs() - y.clamp(max=0), y.abs().expand(side, side))
    return ((1 - distance) * side * min(width, height) / 4 + 0.5).clamp(0, 1)


def _windows(box: Box, side: int, generator: torch.Generator) -> Tensor:
    """(Q, Q) in 0..1, a grid of small rectangles over ``box``."""
    axis = torch.linspace(-1, 1, side)
    columns, rows = 1 + int(_uniform(generator) * 5), 1 + int(_uniform(generator) * 7)
    share = _uniform(generator, 0.25, 0.7)
    x = (axis - box[0]) / max(box[2] - box[0], 0.05) * columns
    y = (axis - box[1]) / max(box[3] - box[1], 0.05) * rows
    return ((x % 1 - 0.5).abs() < share / 2)[None, :].float() * ((y % 1 - 0.5).abs() < share / 2)[
        :, None
    ].float()


def _material(bank: Bank, side: int, generator: torch.Generator) -> Tensor:
    """(3, Q, Q) a piece of a photo, at random flattened to nearly one colour."""
    photo = int(torch.multinomial(bank.photo_weights, 1, generator=generator))
    height, width = (int(v) for v in bank.sizes[photo])
    span = max(8, int(min(height, width) * _uniform(generator, 0.08, 0.5)))
    top = int(_uniform(generator) * (height - span))
    left = int(_uniform(generator) * (width - span))
    piece = bank.photos[photo, :, top : top + span, left : left + span][None].float()
    if _uniform(generator) < 0.3:
        mean = piece.mean((2, 3), keepdim=True)
        piece = mean + (piece - mean) * _uniform(generator, 0.0, 0.4)
    tint = torch.exp((torch.rand(3, 1, 1, generator=generator) - 0.5) * 0.8).to(piece.device)
    return functional.interpolate(piece, (side, side), mode="bilinear")[0] * tint


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
