"""Changes of light and camera noise on batches of images, (B, 3, S, S) float in 0..255."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)


def relight(
    images: Tensor, generator: torch.Generator, strength: float, alpha: Tensor | None = None
) -> Tensor:
    """Change brightness, contrast, saturation and temperature of each image; light it unevenly.

    Args:
        images: colours, multiplied by ``alpha`` where alpha is given.
        generator: where chance comes from.
        strength: 0 leaves the images alone, 1 is strong.
        alpha: (B, 1, S, S) in 0..1, so that an added brightness stays inside the object.
    """
    count, device = len(images), images.device

    def draw(scale: float, *shape: int) -> Tensor:
        return ((torch.rand(count, *shape, generator=generator) * 2 - 1) * scale * strength).to(
            device
        )

    weight = torch.tensor(LUMA, device=device)[:, None, None]
    grey = (images * weight).sum(1, keepdim=True)
    saturation = torch.exp(draw(0.6, 1, 1, 1))
    images = grey + (images - grey) * saturation
    gain = torch.exp(draw(0.5, 1, 1, 1) + draw(0.15, 3, 1, 1))
    bias = draw(35.0, 1, 1, 1)
    ramp = torch.linspace(-1, 1, images.shape[-1], device=device)
    slope = (
        draw(0.35, 1, 1, 1) * ramp[None, None, None, :]
        + draw(0.35, 1, 1, 1) * ramp[None, None, :, None]
    )
    images = images * gain * (1 + slope) + bias * (1.0 if alpha is None else alpha)
    limit = 255.0 if alpha is None else 255.0 * alpha
    return torch.minimum(images.clamp(min=0), torch.as_tensor(limit, device=device))


def degrade(images: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, noise and JPEG blocks, each on a share of the images."""
    count, device = len(images), images.device

    def some(share: float) -> Tensor:
        return (torch.rand(count, generator=generator) < share).to(device)

    images = relight(images, generator, strength=0.4)
    chosen = some(0.3)
    if chosen.any():
        sigma = float(torch.rand((), generator=generator)) * 1.6 + 0.4
        images = torch.where(chosen[:, None, None, None], _blurred(images, sigma), images)
    chosen = some(0.3)
    if chosen.any():
        level = float(torch.rand((), generator=generator)) * 12
        noise = torch.randn(images.shape, generator=generator).to(device) * level
        images = torch.where(chosen[:, None, None, None], images + noise, images)
    chosen = some(0.3)
    if chosen.any():
        quality = float(torch.rand((), generator=generator)) * 60 + 25
        images = torch.where(chosen[:, None, None, None], _jpeg(images, quality), images)
    return images.clamp(0, 255)


def _blurred(images: Tensor, sigma: float) -> Tensor:
    radius = math.ceil(2.5 * sigma)
    steps = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = (kernel / kernel.sum()).expand(3, 1, -1)
    padded = functional.pad(images, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel[:, :, None, :], groups=3)
    return functional.conv2d(rows, kernel[:, :, :, None], groups=3)


def _jpeg(images: Tensor, quality: float) -> Tensor:
    """Quantise 8 x 8 blocks of cosine coefficients, coarser where the frequency is higher."""
    index = torch.arange(8, device=images.device)
    basis = torch.cos((2 * index[None] + 1) * index[:, None] * math.pi / 16) * math.sqrt(0.25)
    basis[0] = math.sqrt(0.125)
    height, width = images.shape[-2:]
    blocks = (
        (images - 128).unflatten(3, (width // 8, 8)).unflatten(2, (height // 8, 8))
    )  # B 3 h 8 w 8
    coefficients = torch.einsum("bchiwj,ui,vj->bchuwv", blocks, basis, basis)
    coarseness = (5000 / quality if quality < 50 else 200 - 2 * quality) / 100
    step = (coarseness * (12 + 9 * (index[:, None] + index[None])).float()).clamp(min=1)[:, None, :]
    coefficients = torch.round(coefficients / step) * step
    blocks = torch.einsum("bchuwv,ui,vj->bchiwj", coefficients, basis, basis)
    return blocks.flatten(4).flatten(2, 3) + 128
