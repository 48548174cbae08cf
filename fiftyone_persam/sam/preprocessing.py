"""Photos as the input of an image encoder: normalised, on the device, in one square."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..errors import PersamError
from .photos import Photo
from .raw_photos import RawPhoto, resize_raw
from .transfers import send


def padded_batch(
    resized: Sequence[Photo | RawPhoto],
    size: int,
    mean: Tensor,
    std: Tensor,
    device: torch.device,
) -> Tensor:
    """Normalise photos, then pad them with 0.

    Args:
        resized: (h, w, 3) uint8 inside the square, or raw ones, which the device resizes.
        size: side of the square in pixels.
        mean: (3, 1, 1), of the model's training.
        std: (3, 1, 1).
        device: of the result.

    Returns:
        (B, 3, size, size) float32.

    Raises:
        PersamError: a photo is larger than the square.
    """
    batch = torch.zeros((len(resized), 3, size, size), device=device)
    raw = [one for one in resized if isinstance(one, RawPhoto)]
    if raw and len(raw) == len(resized) and len({one.shape for one in raw}) == 1:
        pixels = torch.stack(resize_raw(raw, device))
        height, width = raw[0].shape[:2]
        batch[:, :, :height, :width] = (pixels - mean) / std
        return batch
    sent = iter(resize_raw(raw, device))
    for slot, photo in zip(batch, resized, strict=True):
        height, width = photo.shape[:2]
        if max(height, width) > size:
            raise PersamError(
                f"a resized photo of {height} x {width} does not fit into {size} x {size}: "
                "use load_and_resize"
            )
        if isinstance(photo, RawPhoto):
            pixels = next(sent)
        else:
            # torch cannot share read-only memory, which PIL hands out.
            pixels = torch.from_numpy(photo if photo.flags.writeable else photo.copy())
            pixels = send(pixels, device).permute(2, 0, 1).float()
        slot[:, :height, :width] = (pixels - mean) / std
    return batch
