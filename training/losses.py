"""Losses of promptable segmentation and of the location prior."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

CROSS_ENTROPY_WEIGHT = 2.0
DICE_WEIGHT = 1.0
TEMPERATURE = 0.07


def mask_losses(logits: Tensor, targets: Tensor) -> Tensor:
    """2 : 1 cross-entropy and dice loss of each mask.

    (n, M, h, w) logits and (n, h, w) coverage in 0..1 -> (n, M). SAM weighs a focal loss 20 : 1
    with dice; with batches as small as here the cross-entropy leaves the first plateau sooner.
    """
    target = targets[:, None].expand_as(logits)
    probability = logits.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(
        logits, target, reduction="none"
    ).mean((2, 3))
    overlap = (probability * target).sum((2, 3))
    dice = 1 - (2 * overlap + 1) / (probability.sum((2, 3)) + target.sum((2, 3)) + 1)
    return CROSS_ENTROPY_WEIGHT * cross_entropy + DICE_WEIGHT * dice


@torch.no_grad()
def mask_ious(logits: Tensor, targets: Tensor) -> Tensor:
    """IoU of each mask with the coverage, both thresholded: (n, M, h, w), (n, h, w) -> (n, M)."""
    masks, truth = logits > 0, (targets > 0.5)[:, None]
    return (masks & truth).sum((2, 3)) / (masks | truth).sum((2, 3)).clamp(min=1)


def decoding_loss(
    logits: Tensor, scores: Tensor, targets: Tensor, ambiguous: bool = True
) -> tuple[Tensor, Tensor]:
    """Loss of one round and the masks' IoU (n, M).

    The single-mask token and the best of the scales learn the mask (min-loss, which keeps part and
    whole apart); the score of every mask learns its IoU. Where the prompt is not ``ambiguous``
    because a mask says what is meant, every scale learns it: refinement must not fall back to a
    part.
    """
    logits, scores = logits.float(), scores.float()
    losses = mask_losses(logits, targets)
    ious = mask_ious(logits, targets)
    scales = losses[:, 1:].amin(1) if ambiguous else losses[:, 1:].mean(1)
    chosen = losses[:, 0] + scales
    return chosen.mean() + functional.mse_loss(scores, ious), ious


def prior_loss(similarity: Tensor, cells: Tensor, valid: Tensor) -> Tensor:
    """Rank the object's cells above every other cell of the photo.

    Args:
        similarity: (n, h * w) cosine between the reference's mean feature and the photo's cells.
        cells: (n, h * w) coverage of each cell by the object.
        valid: (n, h * w) bool, false on padding.

    Returns:
        Mean over photos of the contrastive loss of each covered cell against all uncovered cells.
    """
    scaled = similarity / TEMPERATURE
    positive = (cells > 0.5) & valid
    negative = (cells < 0.05) & valid
    background = torch.logsumexp(scaled.masked_fill(~negative, -torch.inf), dim=1, keepdim=True)
    usable = positive.any(1) & negative.any(1)
    losses = functional.softplus(torch.where(usable[:, None], background, 0) - scaled) * positive
    per_photo = losses.sum(1) / positive.sum(1).clamp(min=1)
    return (per_photo * usable).sum() / usable.sum().clamp(min=1)


def prior_hits(similarity: Tensor, cells: Tensor, valid: Tensor) -> Tensor:
    """(n,) bool: the most similar cell lies on the object."""
    best = similarity.masked_fill(~valid, -torch.inf).argmax(1, keepdim=True)
    return cells.gather(1, best)[:, 0] > 0.25
