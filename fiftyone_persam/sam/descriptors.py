"""Descriptors: what some image encoders have, beside an embedding, to tell objects apart by."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class DescribingEncoder(torch.nn.Module):
    """An image encoder that gives its descriptors, too, in one map behind its embedding."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C + D, h, w)."""
        described: Tensor = self.encoder(x, describe=True)
        return described
