"""Between host and device without waiting: pinned memory, one copy for many tensors, bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

_ALIGNED = 16  # bytes: the start of each tensor in a common buffer


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor of the host on a device, without waiting for what a CUDA device has still to do."""
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


class Download:
    """Tensors on their way from a device to the host: copied as one, and waited for when needed.

    Args:
        tensors: by name, all on one device.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._layout: list[tuple[str, int, int, torch.dtype, tuple[int, ...]]] = []
        parts: list[Tensor] = []
        start = 0
        for name, tensor in tensors.items():
            flat = tensor.contiguous().reshape(-1)
            if flat.stride(0) != 1:  # a single number may have any stride
                flat = flat.clone(memory_format=torch.contiguous_format)
            content = flat.view(torch.uint8)
            size = content.numel()
            self._layout.append((name, start, size, tensor.dtype, tuple(tensor.shape)))
            gap = -size % _ALIGNED
            parts.append(functional.pad(content, (0, gap)) if gap else content)
            start += size + gap
        joined = torch.cat(parts)
        self._event: torch.cuda.Event | None = None
        if joined.device.type == "cuda":
            self._host = torch.empty(joined.shape, dtype=torch.uint8, pin_memory=True)
            self._host.copy_(joined, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record(torch.cuda.current_stream(joined.device))
        else:
            self._host = joined.cpu()

    def wait(self) -> dict[str, npt.NDArray[Any]]:
        """The arrays by name; waits for this copy alone, not for later work."""
        if self._event is not None:
            self._event.synchronize()
        return {
            name: self._host[start : start + size].view(dtype).view(shape).numpy()
            for name, start, size, dtype, shape in self._layout
        }


def pack_bits(masks: Tensor) -> Tensor:
    """(n, H, W) bool -> (n, H, ceil(W / 8)) uint8, as ``numpy.packbits`` along the last axis."""
    padded = functional.pad(masks.to(torch.uint8), (0, -masks.shape[-1] % 8))
    eights = padded.view(*padded.shape[:-1], -1, 8)
    packed = eights[..., 0]
    for bit in range(1, 8):
        packed = (packed << 1) | eights[..., bit]
    return packed


def unpack_bits(packed: npt.NDArray[np.uint8], width: int) -> npt.NDArray[np.bool_]:
    """(..., ceil(W / 8)) uint8 -> (..., W) bool."""
    return np.unpackbits(packed, axis=-1, count=width).view(np.bool_)
