"""Adapters: bottleneck MLPs in every block of the decoder (paper, table 5; Houlsby et al. 2019)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn
from torch.nn import functional as F

from ...options import Option, check_values
from ...sam import Promptable, PromptableSam, hash_tensors
from ..cascade_options import Mode
from .method import LearningRate, TunedMethod
from .parts import Part

Width = Annotated[
    int, Option("channels of each adapter's bottleneck", low=1, high=1024, advice="give 1 to 1024")
]


class Bottleneck(nn.Module):
    """x + up(relu(down(x))); nothing at the start, because ``up`` is 0 then."""

    def __init__(self, channels: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        first = torch.randn(width, channels, generator=generator)
        self.down = nn.Parameter(first / channels**0.5)
        self.up = nn.Parameter(torch.zeros(channels, width))

    def forward(self, x: Tensor) -> Tensor:
        """(..., C) -> the same."""
        inner = F.relu(F.linear(x, self.down.to(x.dtype)))
        return x + F.linear(inner, self.up.to(x.dtype))


class Adapters(Part):
    """Adapters of the decoder's tokens: after both attentions and the MLP of each block.

    Args:
        blocks: of the decoder.
        channels: of a token.
        width: of the bottleneck.
        generator: of the first values.
    """

    part: Literal["image_encoder", "mask_decoder"] = "mask_decoder"

    def __init__(self, blocks: int, channels: int, width: int, generator: torch.Generator) -> None:
        super().__init__()
        self.places = nn.ModuleList(
            nn.ModuleList(Bottleneck(channels, width, generator) for _ in range(3))
            for _ in range(blocks)
        )

    @property
    def identity(self) -> str:
        """Names the values."""
        return f"adapters {hash_tensors(self.state_dict())}"

    def attach(self, sam: Sam) -> None:
        """Hook them behind the layers; the layers stay as they are."""
        for block, adapters in zip(sam.mask_decoder.transformer.layers, self.places, strict=True):
            layers = (block.self_attn, block.cross_attn_token_to_image)
            # What an attention gives is what its last projection gives: also with a bias, where the
            # attention itself is not called.
            ends = (*(layer.out_proj for layer in layers), block.mlp)
            for end, adapter in zip(ends, adapters, strict=True):  # type: ignore[call-overload]
                end.register_forward_hook(lambda _, given, found, adapter=adapter: adapter(found))

    def decoder(self, sam: PromptableSam) -> Promptable:
        """The model with the adapters in its decoder."""
        return sam.adapted(self)


class AdapterTuning(TunedMethod):
    """PerSAM with small MLPs behind the attentions and the MLP of every decoder block.

    With the default width of 64 that is 196,608 numbers in SAM's decoder (196K in the paper's
    table): six adapters without biases.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: as in `PerSAM`.
        width: of the bottlenecks.
        lr: learning rate of the first step.
        options: as in `TunedMethod` and `PerSAM`.

    Raises:
        PersamError: an option out of its range.
    """

    name = "adapter"
    title = "Adapter"
    help = "learns small layers behind the attentions and the MLP of every block of the decoder"

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        width: Width = 64,
        lr: LearningRate = 1e-3,
        **options: Any,
    ) -> None:
        check_values(self.options(), {"width": width})
        super().__init__(sam, mode, lr=lr, **options)
        self.width = int(width)

    def part(self, generator: torch.Generator) -> Adapters:
        """The adapters."""
        blocks = len(self.sam.sam.mask_decoder.transformer.layers)
        return Adapters(blocks, self.sam.embed_dim, self.width, generator)
