"""Scenes for the discovery head, with every object that is known in them, and their targets.

Photos are labelled in part (COCO knows 80 kinds of things, the cats' photos cats alone), so what
is not labelled there is not certainly background: it counts less. What is pasted is known exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fiftyone_persam.sam.discovery import LEVELS, cell_centers
from training import compose
from training.bank import Bank
from training.bodies import patched, shaded
from training.degrade import degrade, relight

PHOTO_SHARE = 0.5  # of the scenes: nothing is pasted on them
MAX_PASTED = 8
MIN_AREA = 0.0008  # of the scene, for what counts as a thing
MIN_VISIBLE = 0.4  # of an object, for it to count where another thing or the frame covers it
UNLABELLED = 0.35  # how much a cell of a photo without a label counts as background
# Longest side in pixels of the things each level finds; between two levels both do.
RANGES = ((0.0, 96.0), (64.0, 224.0), (160.0, math.inf))
CENTRAL = 9  # cells per object and level that say that a thing is centred there


@dataclass(frozen=True)
class Targets:
    """Of N cells, in the order of `Maps`.

    Attributes:
        objectness: (N,) 1 a thing, 0 background.
        weight: (N,) how much that counts; 0 where it is open.
        boxes: (N, 4) of the thing whose cell it is.
        inside: (N,) centerness of the cell in that box, 0 where there is none.
    """

    objectness: Tensor
    weight: Tensor
    boxes: Tensor
    inside: Tensor


def scene(bank: Bank, side: int, generator: torch.Generator) -> tuple[Tensor, Targets]:
    """(3, side, side) float 0..255 and what is in it."""
    photo = int(torch.multinomial(_chances(bank), 1, generator=generator))
    pasted = compose._uniform(generator) >= PHOTO_SHARE
    labelled = int(bank.first_object[photo + 1]) > int(bank.first_object[photo])
    if not labelled:
        pasted = True
    image, alpha, whole, inside = _photo(bank, photo, side, generator)
    weight = UNLABELLED if labelled else 1.0
    if pasted:
        image, alpha, whole = _pasted(bank, image, alpha, whole, side, generator)
    image = degrade(image, generator)
    if pasted:
        inside = inside & compose._frames(1, side, generator, image.device)
    image = image * inside[:, None] + 127.0 * ~inside[:, None]
    visible = alpha * inside
    return image[0], targets(visible > 0.5, whole, weight, side)


def _chances(bank: Bank) -> Tensor:
    """Photos by how much they teach: many objects, or none at all (wallpapers)."""
    objects = (bank.first_object[1:] - bank.first_object[:-1]).double()
    return bank.photo_weights * torch.where(objects > 0, objects.clamp(max=6).sqrt(), 0.8)


def _photo(
    bank: Bank, photo: int, side: int, generator: torch.Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """A view of a photo.

    Returns (1, 3, S, S), the (M, S, S) objects in it, the (M,) pixels that each would have were it
    not cut, and (1, S, S) where the photo is.
    """
    height, width = (int(v) for v in bank.sizes[photo])
    bank_side = bank.photos.shape[-1]
    grid = compose._photo_grid(height, width, bank_side, side, generator).to(bank.device)
    image = functional.grid_sample(
        bank.photos[photo][None].float(), grid, mode="bilinear", align_corners=False
    )
    ids = bank.ids[photo].long()
    tables = _tables(bank, photo, ids)
    masks = tables[:, ids].float()
    alpha = masks
    whole = masks.sum((1, 2))
    if len(masks):
        alpha = functional.grid_sample(masks[None], grid, mode="bilinear", align_corners=False)[0]
        step = (grid[0, 0, 1] - grid[0, 0, 0]).norm() * bank_side / 2
        whole = whole / step**2
    else:
        alpha = torch.zeros(0, side, side, device=bank.device)
    limits = torch.tensor([width, height], device=grid.device) / bank_side * 2 - 1
    inside = ((grid > -1) & (grid < limits)).all(-1)
    return relight(image, generator, strength=0.5), alpha, whole, inside


def _tables(bank: Bank, photo: int, ids: Tensor) -> Tensor:
    """(M, 256) bool: one row per id that is there, whatever its size, and per union of ids."""
    first, last = int(bank.first_object[photo]), int(bank.first_object[photo + 1])
    if first == last:
        return torch.zeros(0, 256, dtype=torch.bool, device=ids.device)
    present = torch.bincount(ids.ravel(), minlength=256) > 0
    present[0] = False
    rows = torch.eye(256, dtype=torch.bool, device=ids.device)[present]
    owned = bank.object_ids[first:last]
    unions = owned[owned.sum(1) > 1]
    return torch.cat([rows, unions[:1]])


def _pasted(
    bank: Bank,
    image: Tensor,
    alpha: Tensor,
    whole: Tensor,
    side: int,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor, Tensor]:
    """One to eight cut-outs over a photo; the photo's own objects as far as they still show."""
    count = int(torch.randint(1, MAX_PASTED + 1, (1,), generator=generator))
    while count > 0:
        group = min(count, compose.OBJECTS)
        chosen = torch.multinomial(bank.cutout_weights, group, generator=generator).tolist()
        view = []
        for index in chosen:
            rgba = bank.cutouts[index].float()
            if compose._uniform(generator) < 0.25:
                own = torch.Generator().manual_seed(index)
                rgba = patched(bank, rgba, own)
            view.append(shaded(rgba, generator) if compose._uniform(generator) < 0.4 else rgba)
        large = compose._uniform(generator) < (0.6 if count <= 4 else 0.2)
        image, placed = compose._paste(bank, image, view, side, large, generator)
        covered = placed[0].sum(0).clamp(max=1)
        alpha = torch.cat([alpha * (1 - covered), placed[0, :group]])
        whole = torch.cat([whole, placed[0, :group].sum((1, 2))])
        count -= group
    return image, alpha, whole


def targets(masks: Tensor, whole: Tensor, background: float, side: int) -> Targets:
    """What the head is to say of a scene.

    Args:
        masks: (M, S, S) bool, the visible part of each object.
        whole: (M,) pixels of each object were it not cut.
        background: how much cells that are no object's count.
        side: S.
    """
    areas = masks.sum((1, 2))
    counted = (areas >= MIN_AREA * side * side) & (areas >= MIN_VISIBLE * whole)
    boxes = torch.stack([_box(mask) for mask in masks]) if len(masks) else masks.new_zeros(0, 4)
    boxes = boxes.float()
    order = torch.argsort(-areas)  # the smaller of two things that share a cell has it
    parts = []
    for stride, (low, high) in zip(LEVELS, RANGES, strict=True):
        cells = side // stride
        centers = cell_centers(cells, cells, stride, masks.device)
        objectness = torch.zeros(len(centers), device=masks.device)
        weight = torch.full((len(centers),), background, device=masks.device)
        own = torch.zeros(len(centers), 4, device=masks.device)
        inside = torch.zeros(len(centers), device=masks.device)
        for index in order.tolist():
            box = boxes[index]
            shares = functional.avg_pool2d(masks[index][None].float(), stride)[0].ravel()
            if not counted[index]:
                weight[shares > 0.2] = 0.0
                continue
            longest = float((box[2:] - box[:2]).max())
            if not low <= longest < high:
                # Another level finds it: its centre here is open, the rest of it is background.
                weight[shares > 0.5] = 0.0
                continue
            distances = torch.cat([centers - box[:2], box[2:] - centers], dim=1)
            within = (distances > 0).all(1)
            pairs = distances.clamp(min=0).reshape(-1, 2, 2)
            ratio = pairs.amin(1) / pairs.amax(1).clamp(min=1e-6)
            centerness = ratio.prod(1).sqrt() * within
            held = shares > 0.5
            if not bool((held & within).any()):
                nearest = (centers - (box[:2] + box[2:]) / 2).norm(dim=1).argmin()
                held = torch.zeros_like(held)
                held[nearest] = True
                centerness[nearest] = centerness[nearest].clamp(min=0.5)
            held = held & (centerness > 0)
            if not bool(held.any()):
                continue
            weight[held] = 0.0
            objectness[held] = 0.0
            own[held] = box
            inside[held] = centerness[held].clamp(min=0.05)
            values = torch.where(held, centerness, torch.zeros_like(centerness))
            best = values.topk(min(CENTRAL, int(held.sum()))).indices
            best = best[values[best] >= 0.4 * values.max()]
            weight[best] = 1.0
            objectness[best] = 1.0
        parts.append((objectness, weight, own, inside))
    return Targets(*(torch.cat(part) for part in zip(*parts, strict=True)))


def _box(mask: Tensor) -> Tensor:
    rows, columns = mask.any(1).nonzero()[:, 0], mask.any(0).nonzero()[:, 0]
    if not len(rows):
        return torch.zeros(4, device=mask.device)
    edges = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    return torch.stack(edges)
