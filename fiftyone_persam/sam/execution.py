"""How a model's image encoder is run: by which kernels, compiled or not, recorded or not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any, Literal, TypeAlias

import torch
from segment_anything.modeling import ImageEncoderViT
from torch import Tensor, nn

from ..errors import PersamError
from . import fast_vit
from .graphs import Graphs

Switch: TypeAlias = 'bool | Literal["auto"]'
AUTO: Literal["auto"] = "auto"


@dataclass(frozen=True)
class Speed:
    """What may be done to be fast, each "auto" (where it helps), True or False.

    Nothing of it changes what a CPU computes, unless it is asked for.

    Attributes:
        compile: compile the image encoder with ``torch.compile``. It takes seconds to minutes, so
            "auto" does it for jobs alone that are long enough to earn that.
        kernels: attention of ViTs by Triton kernels; "auto" on CUDA, if Triton is there.
        graphs: record the encoder and the decoder's passes as CUDA graphs; "auto" on CUDA.
        passes: run all passes without asking the host between them; "auto" on CUDA.
        resize: resize photos on the device; "auto" on CUDA.
    """

    compile: Switch = AUTO
    kernels: Switch = AUTO
    graphs: Switch = AUTO
    passes: Switch = AUTO
    resize: Switch = AUTO

    def __post_init__(self) -> None:
        for field in fields(self):
            check_switch(field.name, getattr(self, field.name))

    def on(self, name: str, device: torch.device) -> bool:
        """Whether one of them is on for a device; "auto" is for a CUDA device."""
        value = getattr(self, name)
        return device.type == "cuda" if value == AUTO else bool(value)


def check_switch(name: str, value: Any) -> Any:
    """Raise PersamError unless a value is "auto", True or False."""
    if isinstance(value, bool) or (isinstance(value, str) and value == AUTO):
        return value
    raise PersamError(f"{name} {value!r} is not known: give 'auto', True or False")


def can_compile(device: torch.device) -> bool:
    """Whether ``torch.compile`` has what it needs for a device.

    That is Triton for CUDA and a C++ compiler for a CPU.
    """
    if not hasattr(torch, "compile") or not torch._dynamo.is_dynamo_supported():
        return False
    if device.type == "cuda":
        return fast_vit.kernels_available()
    return device.type == "cpu" and any(shutil.which(name) for name in ("c++", "g++", "clang++"))


class Execution:
    """Runs one model's image encoder, and keeps what was compiled or recorded for that.

    Args:
        speed: what may be done.
    """

    def __init__(self, speed: Speed | None = None) -> None:
        self.speed = speed or Speed()
        self.graphs = Graphs()
        self._compiled: Callable[[Tensor], Tensor] | None = None
        self._compiled_of: nn.Module | None = None

    def with_speed(self, **changes: Any) -> Execution:
        """Another one, with other switches; it has compiled nothing yet."""
        return Execution(replace(self.speed, **changes))

    def __deepcopy__(self, memo: Any) -> Execution:
        return Execution(self.speed)

    def __reduce__(self) -> Any:
        return Execution, (self.speed,)

    def encode(self, encoder: nn.Module, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> what the encoder gives; differentiable where gradients are on."""
        if torch.is_grad_enabled():
            return encoder(pixels)  # type: ignore[no-any-return]
        device, speed = pixels.device, self.speed
        function: Callable[[Tensor], Tensor] = encoder
        if speed.compile is True:
            function = self._compile(encoder, device)
        elif (
            speed.on("kernels", device)
            and fast_vit.kernels_available()
            and fast_vit.applies(encoder)
        ):
            function = partial(fast_vit.encode, encoder)  # type: ignore[arg-type]
        if not speed.on("graphs", device):
            return function(pixels)
        (found,) = self.graphs(("encode", id(encoder)), lambda x: (function(x),), [pixels])
        return found.clone()

    def _compile(self, encoder: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
        if self._compiled is None or self._compiled_of is not encoder:
            if not can_compile(device):
                raise PersamError(
                    f"compile=True needs a compiler for {device.type}, which is not there: install "
                    f"{'triton' if device.type == 'cuda' else 'a C++ compiler'}, or use "
                    "compile='auto'"
                )
            self._compiled = compiled(encoder)
            self._compiled_of = encoder
        return self._compiled


def compiled(encoder: Any) -> Callable[[Tensor], Tensor]:
    """An encoder compiled for the shapes that it is given; the module itself stays as it is.

    One graph serves all blocks of a ViT that are of one kind, so its blocks are compiled, not the
    whole of it.
    """
    if type(encoder) is not ImageEncoderViT:
        return torch.compile(encoder, dynamic=False)
    blocks = [torch.compile(block, dynamic=False) for block in encoder.blocks]

    def run(pixels: Tensor) -> Tensor:
        x = encoder.patch_embed(pixels)
        if encoder.pos_embed is not None:
            x = x + encoder.pos_embed
        for block in blocks:
            x = block(x)
        return encoder.neck(x.permute(0, 3, 1, 2))  # type: ignore[no-any-return]

    return run
