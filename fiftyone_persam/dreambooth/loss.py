"""The masked reconstruction loss (PerSAM, section 3.4)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def latent_weights(mask: Tensor, size: tuple[int, int], outside: float = 0.0) -> Tensor:
    """The weight of each latent cell: how much of it the mask covers.

    Args:
        mask: (n, 1, H, W) float in [0, 1], 1 is the object.
        size: (h, w) of the latents.
        outside: the weight where the mask is 0, in [0, 1]. 0 as in the paper: the background is
            not learned. 1 switches the mask off.

    Returns:
        (n, 1, h, w) float, the mask averaged over the area of each cell, raised to ``outside``.
    """
    covered = F.interpolate(mask, size=size, mode="area")
    return covered + (1 - covered) * outside


def weighted_mse(
    prediction: Tensor, target: Tensor, weights: Tensor | None = None, normalize: bool = True
) -> Tensor:
    """Mean squared error in which each latent cell has a weight.

    Cells of weight 0 take no part at all: their gradient is exactly 0.

    Args:
        prediction: (n, c, h, w).
        target: (n, c, h, w).
        weights: (n, 1, h, w), at least 0; None weighs all cells alike.
        normalize: divide by the sum of a photo's weights, so that small and large objects count
            alike; otherwise by the number of cells.

    Returns:
        A scalar, in float32: the mean over the photos.
    """
    prediction, target = prediction.float(), target.float()
    if weights is None:
        return F.mse_loss(prediction, target)
    weights = weights.float()
    # A product with 0 would keep what is infinite in an ignored cell, as NaN.
    prediction = torch.where(weights > 0, prediction, target)
    error = F.mse_loss(prediction, target, reduction="none").mean(dim=1, keepdim=True)
    total = weights.sum(dim=(1, 2, 3)) if normalize else weights[0].numel()
    return ((error * weights).sum(dim=(1, 2, 3)) / total).mean()
