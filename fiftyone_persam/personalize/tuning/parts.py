"""What is tuned: a few parameters, and how they take part in decoding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from ...sam import Promptable, PromptableSam
from ..state import FittedState
from .examples import Examples

Decode = Callable[..., tuple[Tensor, Tensor]]


class Part(nn.Module):
    """Base of what is tuned. Its parameters are all that a tuning changes.

    A subclass says in `decoder` how the model decodes with them, and, where its first values
    depend on the object, in `start`. Random first values come from the generator it is given, so
    that the same seed gives the same part.
    """

    constant = False
    """Whether decoding itself does not depend on the parameters, so that once is enough."""

    def start(self, sam: PromptableSam, examples: Examples, state: FittedState) -> None:
        """Set the first values for an object, before the first step."""

    def decoder(self, sam: PromptableSam) -> Promptable:
        """The model as it decodes with this part; ``sam`` itself stays as it is."""
        return sam

    def read(self, logits: Tensor) -> Tensor:
        """(B, M, hm, wm) logits -> (B, hm, wm), those of the mask that counts."""
        return logits[:, 0]

    @property
    def size(self) -> int:
        """How many numbers are tuned."""
        return sum(one.numel() for one in self.parameters())


def decoding_with(sam: Promptable, decode: Decode) -> Promptable:
    """The model with another way to decode; everything else is the model's own.

    Args:
        sam: the model.
        decode: as `Promptable.decode_tensors`.
    """
    return cast(Promptable, _Decoding(sam, decode))


class _Decoding:
    def __init__(self, sam: Promptable, decode: Decode) -> None:
        self._sam = sam
        self.decode_tensors = decode

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sam, name)
