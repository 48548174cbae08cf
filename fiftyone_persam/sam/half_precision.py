"""Float32 where float16 does not reach: islands inside a model in half precision.

float16 ends at 65504 and so does the square of 256. `LayerNorm2d` of the segment_anything package
squares what it is given, in the dtype it is given; here the statistics are taken in float32.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn


class SteadyLayerNorm2d(LayerNorm2d):
    """`LayerNorm2d` with statistics in float32, whatever the dtype of its input."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        wide = x.float()
        apart = wide - wide.mean(1, keepdim=True)
        scaled = apart * torch.rsqrt(apart.square().mean(1, keepdim=True) + self.eps)
        return (self.weight[:, None, None] * scaled + self.bias[:, None, None]).to(x.dtype)


def steady_norms(model: nn.Module) -> None:
    """Make every `LayerNorm2d` in a module a `SteadyLayerNorm2d`, in place."""
    for module in model.modules():
        if type(module) is LayerNorm2d:
            module.__class__ = SteadyLayerNorm2d


def works_in(encoder: nn.Module, dtype: torch.dtype) -> bool:
    """Whether an image encoder is exact enough in a dtype.

    One that is not says so with an attribute: ``half_precision = False``, or the one half precision
    that it works in.
    """
    wanted = getattr(encoder, "half_precision", True)
    return dtype == torch.float32 or wanted is True or wanted == dtype
