"""Scenes for training, composed and augmented as tensors on the device that trains.

`compose` makes pairs: photos ``2 i`` and ``2 i + 1`` of a batch show the same objects under another
view, place, light and company. Two pairs in five are photos with annotated objects, the others are
cut-outs pasted over photos and wallpapers.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from training.bank import Bank
from training.bodies import blocks, patched, shaded
from training.degrade import degrade, relight

OBJECTS = 4  # per photo
ASPECT_CROP = 0.5  # share of the photos that are not square
BLOCKS_SHARE = 0.25  # of the cut-outs, replaced by a body of blocks
PATCHED_SHARE = 0.4  # of the cut-outs, with patches of other material
MIN_COVERAGE = 0.015  # of the scene, for an object that is prompted


@dataclass(frozen=True)
class Scenes:
    """A batch of B photos with K = `OBJECTS` places for objects.

    images: (B, 3, S, S) float 0..255, mid-grey outside the photo.
    valid: (B, S, S) bool, false outside the photo.
    coverage: (B, K, S / 4, S / 4) in 0..1, how much of each cell an object visibly covers.
    present: (B, K) bool, enough of the object is visible.
    """

    images: Tensor
    valid: Tensor
    coverage: Tensor
    present: Tensor


def compose(
    bank: Bank, pairs: int, side: int, generator: torch.Generator, photo_share: float = 0.4
) -> Scenes:
    """A batch of ``2 * pairs`` scenes of ``side`` x ``side`` pixels."""
    images, coverage, valid = [], [], []
    for _ in range(pairs):
        photo_pair = _uniform(generator) < photo_share
        image, alpha, inside = (_photo_pair if photo_pair else _cutout_pair)(bank, side, generator)
        images.append(image)
        coverage.append(alpha)
        valid.append(inside)
    image, alpha, inside = torch.cat(images), torch.cat(coverage), torch.cat(valid)
    image = degrade(image, generator)
    frame = _frames(len(image), side, generator, image.device)
    inside = inside & frame
    image = image * inside[:, None] + 127.0 * ~inside[:, None]
    cells = functional.avg_pool2d(alpha * inside[:, None], 4)
    present = cells.flatten(2).mean(2) > MIN_COVERAGE
    return Scenes(image, inside, cells, present)


def _photo_pair(bank: Bank, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Two views of one annotated photo."""
    chosen = int(torch.multinomial(bank.object_weights, 1, generator=generator))
    photo = int(bank.object_photo[chosen])
    first, last = int(bank.first_object[photo]), int(bank.first_object[photo + 1])
    order = first + torch.randperm(last - first, generator=generator)
    objects = torch.cat([torch.tensor([chosen]), order[order != chosen]])[:OBJECTS].to(bank.device)
    height, width = (int(v) for v in bank.sizes[photo])
    grids = [_photo_grid(height, width, bank.photos.shape[-1], side, generator) for _ in range(2)]
    grid = torch.cat(grids).to(bank.device)
    source = bank.photos[photo].float().expand(2, -1, -1, -1)
    image = functional.grid_sample(source, grid, mode="bilinear", align_corners=False)
    masks = bank.object_ids[objects][:, bank.ids[photo].long()].float()
    alpha = functional.grid_sample(
        masks.expand(2, -1, -1, -1), grid, mode="bilinear", align_corners=False
    )
    limits = torch.tensor([width, height], device=grid.device) / bank.photos.shape[-1] * 2 - 1
    inside = ((grid > -1) & (grid < limits)).all(-1)
    if len(objects) < OBJECTS:
        alpha = functional.pad(alpha, (0, 0, 0, 0, 0, OBJECTS - len(objects)))
    return relight(image, generator, strength=0.5), alpha, inside


def _photo_grid(
    height: int, width: int, bank_side: int, side: int, generator: torch.Generator
) -> Tensor:
    """(1, side, side, 2) sampling grid of a view: whole and top left as at test time, or closer."""
    long_side = max(height, width)
    if _uniform(generator) < 0.4:
        scale, center, angle = 1.0, (long_side / 2, long_side / 2), 0.0
    else:
        scale = math.exp(_uniform(generator, math.log(0.35), 0.0))
        span = scale * long_side
        center = (
            _uniform(generator, min(span, width) / 2, width - min(span, width) / 2),
            _uniform(generator, min(span, height) / 2, height - min(span, height) / 2),
        )
        angle = _uniform(generator, -0.25, 0.25) if _uniform(generator) < 0.5 else 0.0
    flip = -1.0 if _uniform(generator) < 0.5 else 1.0
    if flip < 0 and scale == 1.0:
        # A flipped whole photo still starts top left.
        center = (width - long_side / 2, long_side / 2)
    half = scale * long_side / bank_side
    cos, sin = math.cos(angle), math.sin(angle)
    matrix = torch.tensor(
        [
            [flip * cos * half, -sin * half, 2 * center[0] / bank_side - 1],
            [flip * sin * half, cos * half, 2 * center[1] / bank_side - 1],
        ]
    )
    return functional.affine_grid(matrix[None], [1, 1, side, side], align_corners=False)


def _cutout_pair(
    bank: Bank, side: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """The same cut-outs over two different backgrounds, among other things of their kind."""
    count = int(torch.randint(1, OBJECTS + 1, (1,), generator=generator))
    chosen = torch.multinomial(bank.cutout_weights, count, generator=generator).tolist()
    # A lookalike of the first object: a cut-out that stands near it in its source, where names are
    # sorted by theme.
    if _uniform(generator) < 0.5:
        near = chosen[0] + int(torch.randint(-3, 4, (1,), generator=generator))
        if (
            0 <= near < len(bank.cutouts)
            and bank.cutout_groups[near] == bank.cutout_groups[chosen[0]]
        ):
            chosen = [chosen[0], near, *chosen[1:]][:OBJECTS]
    large = _uniform(generator) < 0.65
    # What makes an object its own is drawn once for both photos; views and light differ.
    changes = [_uniform(generator) for _ in chosen]
    seeds = [int(torch.randint(2**31, (1,), generator=generator)) for _ in chosen]
    images, alphas = [], []
    for _ in range(2):
        view = []
        for index, change, seed in zip(chosen, changes, seeds, strict=True):
            options = bank.cutout_views[index]
            option = options[int(torch.randint(len(options), (1,), generator=generator))]
            rgba = bank.cutouts[option].float()
            own = torch.Generator().manual_seed(seed)
            if change < BLOCKS_SHARE:
                rgba = blocks(bank, rgba.shape[-1], own)
            elif change < BLOCKS_SHARE + PATCHED_SHARE:
                rgba = patched(bank, rgba, own)
            view.append(shaded(rgba, generator) if _uniform(generator) < 0.4 else rgba)
        background = _background(bank, side, generator)
        image, alpha = _paste(bank, background, view, side, large, generator)
        images.append(image)
        alphas.append(alpha)
    inside = torch.ones(2, side, side, dtype=torch.bool, device=bank.device)
    return torch.cat(images), torch.cat(alphas), inside


def _background(bank: Bank, side: int, generator: torch.Generator) -> Tensor:
    photo = int(torch.multinomial(bank.photo_weights, 1, generator=generator))
    height, width = (int(v) for v in bank.sizes[photo])
    span = min(height, width) * _uniform(generator, 0.5, 1.0)
    x, y = (
        _uniform(generator, span / 2, width - span / 2),
        _uniform(generator, span / 2, height - span / 2),
    )
    bank_side = bank.photos.shape[-1]
    flip = -1.0 if _uniform(generator) < 0.5 else 1.0
    matrix = torch.tensor(
        [
            [flip * span / bank_side, 0, 2 * x / bank_side - 1],
            [0, span / bank_side, 2 * y / bank_side - 1],
        ]
    )
    grid = functional.affine_grid(matrix[None], [1, 1, side, side], align_corners=False).to(
        bank.device
    )
    image = functional.grid_sample(
        bank.photos[photo][None].float(), grid, mode="bilinear", align_corners=False
    )
    return relight(image, generator, strength=0.7)


def _paste(
    bank: Bank,
    background: Tensor,
    view: list[Tensor],
    side: int,
    large: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Paste cut-outs (4, Q, Q), the first one lowest or highest at random.

    Returns the image and the alphas (1, K, S, S) that are visible.
    """
    image = background
    visible = torch.zeros(1, OBJECTS, side, side, device=bank.device)
    order = list(range(len(view)))
    if _uniform(generator) < 0.5:
        order.reverse()
    for slot in order:
        rgba = view[slot][None]
        low = 0.45 if large and slot == 0 else 0.15
        size = math.exp(_uniform(generator, math.log(low), math.log(1.05 if slot == 0 else 0.6)))
        if size * side < rgba.shape[-1] / 2:
            rgba = functional.avg_pool2d(_premultiplied(rgba), 2)
        else:
            rgba = _premultiplied(rgba)
        placed = functional.grid_sample(
            rgba, _cutout_grid(size, side, generator).to(rgba.device), align_corners=False
        )
        alpha = placed[:, 3:] / 255
        colour = relight(placed[:, :3], generator, strength=0.5, alpha=alpha)
        if _uniform(generator) < 0.4:
            image = image * (1 - _shadow(alpha, side, generator))
        image = colour + (1 - alpha) * image
        visible = visible * (1 - alpha)
        visible[:, slot] = alpha[:, 0]
    return image, visible


def _premultiplied(rgba: Tensor) -> Tensor:
    return torch.cat([rgba[:, :3] * rgba[:, 3:] / 255, rgba[:, 3:]], dim=1)


def _cutout_grid(size: float, side: int, generator: torch.Generator) -> Tensor:
    angle = (
        _uniform(generator, -0.4, 0.4)
        if _uniform(generator) < 0.7
        else _uniform(generator, -3.1, 3.1)
    )
    if _uniform(generator) < 0.3:
        angle = 0.0
    flip = -1.0 if _uniform(generator) < 0.5 else 1.0
    aspect = math.exp(_uniform(generator, -0.15, 0.15))
    margin = max(0.0, 1 - 0.7 * size)
    x, y = _uniform(generator, -margin, margin), _uniform(generator, -margin, margin)
    cos, sin, shear = math.cos(angle), math.sin(angle), _uniform(generator, -0.1, 0.1)
    linear = torch.tensor([[cos * flip * aspect, sin + shear], [-sin * flip, cos / aspect]]) / size
    offset = -linear @ torch.tensor([x, y])
    return functional.affine_grid(
        torch.cat([linear, offset[:, None]], 1)[None], [1, 1, side, side], align_corners=False
    )


def _shadow(alpha: Tensor, side: int, generator: torch.Generator) -> Tensor:
    small = functional.avg_pool2d(alpha, 8)
    for _ in range(2):
        small = functional.avg_pool2d(small, 3, 1, 1)
    shift = (
        int(_uniform(generator, -0.03, 0.06) * side / 8),
        int(_uniform(generator, -0.05, 0.05) * side / 8),
    )
    small = torch.roll(small, shift, (2, 3))
    return _uniform(generator, 0.2, 0.6) * functional.interpolate(
        small, size=(side, side), mode="bilinear"
    )


def _frames(count: int, side: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """(B, S, S) bool: photos that are not square leave the input's right or lower part empty."""
    frames = torch.ones(count, side, side, dtype=torch.bool)
    for frame in frames:
        if _uniform(generator) < ASPECT_CROP:
            cut = int(side * _uniform(generator, 0.55, 0.95))
            if _uniform(generator) < 0.6:
                frame[cut:] = False
            else:
                frame[:, cut:] = False
    return frames.to(device)


def _uniform(generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
