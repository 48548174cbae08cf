"""Prompt tuning: learned tokens in every block of the decoder (paper, table 5; Jia et al. 2022)."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any

import torch
from segment_anything.modeling import Sam
from torch import nn

from ...options import Option, check_values
from ...sam import Promptable, PromptableSam
from ..cascade_options import Mode
from .method import LearningRate, TunedMethod
from .parts import Part, decoding_with

Tokens = Annotated[
    int,
    Option("learned tokens in each block of the decoder", low=1, high=256, advice="give 1 to 256"),
]
_SPREAD = 0.02


class BlockTokens(Part):
    """Tokens beside the queries of each decoder block, new ones in each (deep prompts).

    Args:
        blocks: of the decoder.
        tokens: in each block.
        channels: of a token.
        generator: of their first values.
    """

    def __init__(self, blocks: int, tokens: int, channels: int, generator: torch.Generator) -> None:
        super().__init__()
        first = torch.randn(blocks, tokens, channels, generator=generator)
        self.tokens = nn.Parameter(first * _SPREAD)

    def decoder(self, sam: PromptableSam) -> Promptable:
        """The model with the tokens in every pass."""
        return decoding_with(sam, partial(sam.decode_tensors, block_tokens=self.tokens))


class PromptTuning(TunedMethod):
    """PerSAM with learned tokens in every block of the decoder.

    With the default 24 tokens that is 12,288 numbers in SAM's decoder (12K in the paper's table).

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: as in `PerSAM`.
        tokens: in each block.
        lr: learning rate of the first step.
        options: as in `TunedMethod` and `PerSAM`.

    Raises:
        PersamError: an option out of its range.
    """

    name = "prompt_tuning"
    title = "Prompt tuning"
    help = "learns further prompt tokens for every block of the decoder"

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        tokens: Tokens = 24,
        lr: LearningRate = 1e-2,
        **options: Any,
    ) -> None:
        check_values(self.options(), {"tokens": tokens})
        super().__init__(sam, mode, lr=lr, **options)
        self.tokens = int(tokens)

    def part(self, generator: torch.Generator) -> BlockTokens:
        """The tokens."""
        blocks = len(self.sam.sam.mask_decoder.transformer.layers)
        return BlockTokens(blocks, self.tokens, self.sam.embed_dim, generator)
