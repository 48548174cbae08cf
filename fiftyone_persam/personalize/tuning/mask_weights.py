"""Three weights of the mask scales, each free (paper, table 5, mask weights)."""

from __future__ import annotations

from typing import Any, cast

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from ...sam import PromptableSam
from ..cascade_options import Mode
from .method import LearningRate, Steps, TunedMethod
from .parts import Part

SCALES = 3


class MaskWeights(Part):
    """Weights of the three mask scales; 1/3 each at the start. They need not sum to 1."""

    constant = True

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((SCALES,), 1 / SCALES))

    def read(self, logits: Tensor) -> Tensor:
        """The weighted sum of the scales."""
        return torch.einsum("s,bshw->bhw", self.weights, logits[:, 1:])


class MaskWeights3(TunedMethod):
    """PerSAM with the decoder's three mask scales weighted by three free numbers.

    Unlike PerSAM-F's two they also say how steep the mask's logits are.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: as in `PerSAM`.
        steps: optimiser steps at most.
        lr: learning rate of the first step.
        options: as in `TunedMethod` and `PerSAM`.

    Raises:
        PersamError: an option out of its range.
    """

    name = "mask_weights_3"
    title = "Three mask weights"
    decodes_once = True
    help = "weighs a part against the whole by three free numbers, PerSAM-F without its sum of 1"

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        steps: Steps = 300,
        lr: LearningRate = 3e-3,
        **options: Any,
    ) -> None:
        super().__init__(sam, mode, steps=steps, lr=lr, **options)

    def part(self, generator: torch.Generator) -> MaskWeights:
        """The three weights."""
        return MaskWeights()

    def scale_weights(self) -> Tensor | None:
        """The tuned ones."""
        return cast(MaskWeights, self.tuned_part()).weights
