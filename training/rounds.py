"""Interactive rounds of prompting: points, boxes, and PerSAM's own cascade.

PerSAM's reference is the other photo of a pair.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional

from fiftyone_persam.sam.decoding import decode_batch
from training.compose import Scenes
from training.losses import decoding_loss, mask_ious, prior_hits, prior_loss

KINDS = ("point", "box", "persam", "persam_f")
SHARES = (0.2, 0.25, 0.3, 0.25)
AFFINITY_CELLS = 4  # drawn from each object
LARGE = 0.15  # of the scene: objects above this are all prompted equally often
SHARPNESS = 10.0  # of the weights of the scales in IoU, where PerSAM-F's tuning is imitated


@dataclass(frozen=True)
class Targets:
    """n prompts: ``photo`` (n,) and ``slot`` (n,) name the object, ``masks`` its coverage.

    The masks are (n, S / 4, S / 4) in 0..1.
    """

    photo: Tensor
    slot: Tensor
    masks: Tensor


@dataclass(frozen=True)
class Prior:
    """What PerSAM takes from the reference.

    similarity: (n, h * w) cosine in -1..1 of the photo's cells.
    feature: (n, C) mean of the reference's foreground cells, as they are.
    cells: (n, h * w) coverage in 0..1 of the photo's cells by the object.
    valid: (n, h * w) bool, false on padding.
    """

    similarity: Tensor
    feature: Tensor
    cells: Tensor
    valid: Tensor


def location_prior(embeddings: Tensor, scenes: Scenes, photo: Tensor, slot: Tensor) -> Prior:
    """Find object ``slot`` of each ``photo`` with its mean feature in the pair's other photo."""
    grid = (embeddings.shape[-2], embeddings.shape[-1])
    cells = functional.adaptive_avg_pool2d(scenes.coverage, grid).flatten(2)
    valid = functional.adaptive_avg_pool2d(scenes.valid[:, None].float(), grid).flatten(1) > 0.5
    features = embeddings.float().flatten(2)
    reference = photo ^ 1
    cover = cells[reference, slot]
    threshold = torch.minimum(cover.amax(1, keepdim=True), torch.tensor(0.5, device=cover.device))
    weights = (cover >= threshold).float()
    feature = torch.einsum("nci,ni->nc", features[reference], weights) / weights.sum(
        1, keepdim=True
    )
    directions = functional.normalize(features, dim=1)
    similarity = torch.einsum("nci,nc->ni", directions[photo], functional.normalize(feature, dim=1))
    return Prior(similarity, feature, cells[photo, slot], valid[photo])


def rounds(
    sam: Sam,
    embeddings: Tensor,
    scenes: Scenes,
    prompts: int,
    depth: int,
    generator: torch.Generator,
) -> Iterator[tuple[str, Tensor, Tensor]]:
    """Yield (name, loss, figure in 0..1) of the prior and of each kind and round of prompts.

    There are ``depth`` rounds of each kind. The weights of the losses sum to about one for each
    round, in proportion to each kind's share of the prompts.
    """
    present = scenes.present.nonzero()
    present = present[torch.randperm(len(present), generator=generator).to(present.device)]
    paired = scenes.present[present[:, 0] ^ 1, present[:, 1]]
    both = present[paired]
    if len(both):
        prior = location_prior(embeddings, scenes, both[:, 0], both[:, 1])
        loss = prior_loss(prior.similarity, prior.cells, prior.valid)
        yield (
            "prior",
            0.5 * loss,
            prior_hits(prior.similarity, prior.cells, prior.valid).float().mean(),
        )
    yield affinity(embeddings, scenes, present, generator)
    for kind, share in zip(KINDS, SHARES, strict=True):
        pool = both if kind.startswith("persam") else present
        if len(pool) == 0:
            continue
        # People ask for what fills a good part of a photo more often than for what is small in it.
        areas = scenes.coverage[pool[:, 0], pool[:, 1]].mean((1, 2)).clamp(max=LARGE).cpu()
        count = min(round(share * prompts), len(pool))
        chosen = pool[torch.multinomial(areas, count, generator=generator).to(pool.device)]
        photo, slot = chosen[:, 0], chosen[:, 1]
        targets = Targets(photo, slot, scenes.coverage[photo, slot])
        if kind.startswith("persam"):
            run = _cascade(sam, embeddings, scenes, targets, guided=kind == "persam")
        else:
            run = _interactive(sam, embeddings, targets, kind, generator)
        for index, (loss, ious) in enumerate(islice(run, depth)):
            yield f"{kind}{index + 1}", share * loss, ious


def affinity(
    embeddings: Tensor, scenes: Scenes, objects: Tensor, generator: torch.Generator
) -> tuple[str, Tensor, Tensor]:
    """Let any cell of an object find the object's other cells in its photo: (name, loss, figure).

    The prior compares photos by mean features alone; this makes an object one thing from edge to
    edge, which the decoder needs to fill it.
    """
    grid = (embeddings.shape[-2], embeddings.shape[-1])
    photo = objects[:, 0]
    cells = functional.adaptive_avg_pool2d(scenes.coverage, grid).flatten(2)[photo, objects[:, 1]]
    valid = functional.adaptive_avg_pool2d(scenes.valid[:, None].float(), grid).flatten(1) > 0.5
    drawn = torch.multinomial(
        cells.cpu() ** 4 + 1e-9, AFFINITY_CELLS, replacement=True, generator=generator
    )
    directions = functional.normalize(embeddings.float().flatten(2), dim=1)[photo]
    anchors = directions.gather(
        2, drawn.to(cells.device)[:, None].expand(-1, directions.shape[1], -1)
    )
    similarity = torch.einsum("nca,nci->nai", anchors, directions).flatten(0, 1)
    cells = cells.repeat_interleave(AFFINITY_CELLS, 0)
    valid = valid[photo].repeat_interleave(AFFINITY_CELLS, 0)
    weak = similarity.detach().masked_fill(cells < 0.5, torch.inf).amin(1)
    strong = similarity.detach().masked_fill((cells > 0.05) | ~valid, -torch.inf).amax(1)
    return "affinity", prior_loss(similarity, cells, valid), (strong < weak).float().mean()


def _interactive(
    sam: Sam, embeddings: Tensor, targets: Targets, kind: str, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """A first point or box, then two rounds of a corrective point and the mask so far."""
    images = embeddings[targets.photo]
    boxes, points, labels, mask = None, None, None, None
    if kind == "box":
        noise = float(torch.rand((), generator=generator)) * 0.08
        boxes = _boxes(targets.masks, noise, generator)
    else:
        points, labels = (
            _sampled(targets.masks, generator)[:, None],
            torch.ones(len(images), 1, device=images.device),
        )
    for _ in range(3):
        logits, scores = decode_batch(sam, images, points, labels, boxes, mask)
        loss, ious = decoding_loss(logits, scores, targets.masks, ambiguous=mask is None)
        yield loss, _chosen_iou(ious, scores)
        mask = _best(logits, scores)
        point, label = _corrective(mask[:, 0], targets.masks, generator)
        points = point if points is None else torch.cat([points, point], 1)
        labels = label if labels is None else torch.cat([labels, label], 1)


def _cascade(
    sam: Sam, embeddings: Tensor, scenes: Scenes, targets: Targets, guided: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """PerSAM's three passes (guided), or PerSAM-F's, from the location prior of the other photo."""
    prior = location_prior(embeddings, scenes, targets.photo, targets.slot)
    images = embeddings[targets.photo]
    count = 2 if guided else 1
    points = _prior_points(prior, embeddings.shape[-1], sam.image_encoder.img_size)[:, :count]
    labels = torch.tensor([[1.0, 0.0][:count]], device=points.device).expand(len(points), -1)
    bias = _attention_bias(prior) if guided else None
    offset = prior.feature.to(images.dtype) if guided else None
    logits, scores = decode_batch(
        sam, images, points, labels, attention_bias=bias, token_offset=offset
    )
    loss, ious = decoding_loss(logits, scores, targets.masks)
    if guided:
        yield loss, ious[:, 0].mean()
        mask, boxes = logits[:, :1].detach().float(), None
    else:
        yield loss, _chosen_iou(ious, scores)
        weights = _scale_weights(sam, embeddings, scenes, targets)
        mask = (logits[:, 1:].detach().float() * weights[:, :, None, None]).sum(1, keepdim=True)
        boxes = _mask_boxes(mask, targets.masks)
    for _ in range(2):
        logits, scores = decode_batch(sam, images, points, labels, boxes, mask)
        loss, ious = decoding_loss(logits, scores, targets.masks, ambiguous=False)
        yield loss, _chosen_iou(ious, scores)
        mask = _best(logits, scores)
        boxes = _mask_boxes(mask, targets.masks)


@torch.no_grad()
def _scale_weights(sam: Sam, embeddings: Tensor, scenes: Scenes, targets: Targets) -> Tensor:
    """(n, 3) weights of the scales as PerSAM-F's tuning would find them on the reference photo."""
    reference = targets.photo ^ 1
    truth = scenes.coverage[reference, targets.slot]
    prior = location_prior(embeddings, scenes, reference, targets.slot)
    points = _prior_points(prior, embeddings.shape[-1], sam.image_encoder.img_size)[:, :1]
    labels = torch.ones(len(points), 1, device=points.device)
    logits, _ = decode_batch(sam, embeddings[reference], points, labels)
    return torch.softmax(SHARPNESS * mask_ious(logits.float()[:, 1:], truth), dim=1)


def _attention_bias(prior: Prior) -> Tensor:
    """(n, h * w) sigmoid of the similarity, standardised over the photo; 0 on padding."""
    spread = prior.similarity.detach().masked_fill(~prior.valid, torch.nan)
    mean = spread.nanmean(1, keepdim=True)
    deviation = (spread - mean).square().nanmean(1, keepdim=True).sqrt().clamp(min=1e-6)
    return torch.sigmoid((prior.similarity - mean) / deviation) * prior.valid


def _mask_boxes(logits: Tensor, targets: Tensor) -> Tensor:
    """(n, 4) boxes around masks (n, 1, h, w); around the target where a mask is empty."""
    masks = logits[:, 0] > 0
    return _boxes(torch.where(masks.flatten(1).any(1)[:, None, None], masks.float(), targets))


def _prior_points(prior: Prior, grid: int, side: int) -> Tensor:
    """(n, 2, 2) centres in pixels of the most and the least similar valid cell."""
    best = prior.similarity.masked_fill(~prior.valid, -torch.inf).argmax(1)
    worst = prior.similarity.masked_fill(~prior.valid, torch.inf).argmin(1)
    index = torch.stack([best, worst], 1)
    return torch.stack([index % grid, index // grid], -1) * (side / grid) + side / grid / 2


def _sampled(weights: Tensor, generator: torch.Generator) -> Tensor:
    """(n, 2) x, y in input pixels, drawn from maps (n, S / 4, S / 4) of weights."""
    flat = (weights.float() ** 2).flatten(1).cpu() + 1e-9
    index = torch.multinomial(flat, 1, generator=generator)[:, 0]
    width = weights.shape[-1]
    jitter = torch.rand(len(index), 2, generator=generator)
    return ((torch.stack([index % width, index // width], -1) + jitter) * 4).to(weights.device)


def _corrective(
    logits: Tensor, targets: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """A point (n, 1, 2) inside the error region of each mask and its label (n, 1)."""
    masks, truth = logits > 0, targets > 0.5
    errors = (masks ^ truth).float()
    errors = torch.where(errors.flatten(1).any(1)[:, None, None], errors, truth.float())
    points = _sampled(errors, generator)
    cell = (points / 4).long().clamp(0, targets.shape[-1] - 1)
    rows = torch.arange(len(points), device=points.device)
    return points[:, None], truth[rows, cell[:, 1], cell[:, 0]].float()[:, None]


def _boxes(masks: Tensor, noise: float = 0.0, generator: torch.Generator | None = None) -> Tensor:
    """(n, 4) boxes in input pixels around masks (n, S / 4, S / 4).

    Each side is moved by ``noise`` times the box's size.
    """
    inside = masks > 0.5
    inside = torch.where(
        inside.flatten(1).any(1)[:, None, None], inside, masks >= masks.amax((1, 2), keepdim=True)
    )
    columns, rows = inside.any(1), inside.any(2)

    def ends(line: Tensor) -> tuple[Tensor, Tensor]:
        return line.int().argmax(1), line.shape[1] - line.flip(1).int().argmax(1)

    (x0, x1), (y0, y1) = ends(columns), ends(rows)
    boxes = torch.stack([x0, y0, x1, y1], 1).float() * 4
    if noise:
        sizes = torch.cat([boxes[:, 2:] - boxes[:, :2]] * 2, 1)
        boxes = (
            boxes + (torch.randn(boxes.shape, generator=generator).to(boxes.device) * noise) * sizes
        )
    return boxes


def _best(logits: Tensor, scores: Tensor) -> Tensor:
    """(n, 1, h, w) logits of the scale with the highest predicted IoU, detached."""
    index = 1 + scores[:, 1:].argmax(1)
    return logits[torch.arange(len(logits), device=logits.device), index][:, None].detach().float()


def _chosen_iou(ious: Tensor, scores: Tensor) -> Tensor:
    return ious[:, 1:].gather(1, scores[:, 1:].argmax(1, keepdim=True)).mean()
