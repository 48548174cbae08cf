"""LoRA: low-rank changes of the decoder's q and v projections (paper, table 5; Hu et al. 2021)."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.transformer import Attention
from torch import Tensor, nn
from torch.nn import functional as F

from ...options import Option, check_values
from ...sam import Promptable, PromptableSam, hash_tensors
from ..cascade_options import Mode
from .method import LearningRate, TunedMethod
from .parts import Part

Rank = Annotated[
    int, Option("rank of the change of each projection", low=1, high=1024, advice="give 1 to 1024")
]


class LowRank(nn.Module):
    """Adds b a x to what a projection gives; nothing at the start, because b is 0 then."""

    def __init__(self, layer: nn.Linear, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        first = torch.randn(rank, layer.in_features, generator=generator)
        self.a = nn.Parameter(first / layer.in_features**0.5)
        self.b = nn.Parameter(torch.zeros(layer.out_features, rank))

    def forward(self, x: Tensor, found: Tensor) -> Tensor:
        """(..., in) and (..., out), the projection's -> (..., out)."""
        return found + F.linear(F.linear(x, self.a.to(x.dtype)), self.b.to(x.dtype))


class LowRanks(Part):
    """Low-rank changes of q and v in every attention of the decoder, the final one included.

    Hooks rather than `peft`, whose layers take the place of the model's own, and which asks for
    transformers: the sums are the same, as a test shows.

    Args:
        decoder: whose attentions are changed.
        rank: of each change.
        generator: of the first values.
    """

    part: Literal["image_encoder", "mask_decoder"] = "mask_decoder"

    def __init__(self, decoder: nn.Module, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.changes = nn.ModuleList(
            LowRank(layer, rank, generator) for layer in projections(decoder)
        )

    @property
    def identity(self) -> str:
        """Names the values."""
        return f"lora {hash_tensors(self.state_dict())}"

    def attach(self, sam: Sam) -> None:
        """Hook them to the projections; the projections stay as they are."""
        for layer, change in zip(projections(sam.mask_decoder), self.changes, strict=True):
            layer.register_forward_hook(
                lambda _, given, found, change=change: change(given[0], found)
            )

    def decoder(self, sam: PromptableSam) -> Promptable:
        """The model with the changes in its decoder."""
        return sam.adapted(self)


def projections(decoder: nn.Module) -> list[nn.Linear]:
    """The q and v projections of every attention of a mask decoder."""
    attentions = [layer for layer in decoder.modules() if isinstance(layer, Attention)]
    return [end for layer in attentions for end in (layer.q_proj, layer.v_proj)]


class LoRA(TunedMethod):
    """PerSAM with low-rank changes of the decoder's attention.

    With the default rank of 50 that is 294,400 numbers in SAM's decoder (293K in the paper's table,
    which no whole rank gives).

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: as in `PerSAM`.
        rank: of each change.
        lr: learning rate of the first step.
        options: as in `TunedMethod` and `PerSAM`.

    Raises:
        PersamError: an option out of its range.
    """

    name = "lora"
    title = "LoRA"
    help = "learns low-rank changes of how the decoder's attention asks and answers"

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        rank: Rank = 50,
        lr: LearningRate = 1e-3,
        **options: Any,
    ) -> None:
        check_values(self.options(), {"rank": rank})
        super().__init__(sam, mode, lr=lr, **options)
        self.rank = int(rank)

    def part(self, generator: torch.Generator) -> LowRanks:
        """The changes."""
        return LowRanks(self.sam.sam.mask_decoder, self.rank, generator)
