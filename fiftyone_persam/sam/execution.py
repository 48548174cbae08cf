"""How a model's image encoder is run: by which kernels, compiled or not, recorded or not."""

from __future__ import annotations

import logging
import shutil
import time
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
LARGEST_ERROR = 0.1
"""Of the kernels against the encoder itself, relative: bfloat16 alone makes one of 0.01."""
PHOTOS_WORTH_COMPILING = 5000
"""Photos of a job whose encoder ``compile="auto"`` compiles: seconds to a minute for one part in
three or more of what each photo takes (ViT-B, H100: 12 s, and 286 photos/s instead of 159)."""

logger = logging.getLogger(__name__)


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


def for_job(sam: Any, compile: Switch, photos: int) -> Any:
    """A model as a job of so many photos is to run it: its encoder compiled, or not.

    Args:
        sam: any `Promptable`.
        compile: "auto" decides by `earns_compiling`, unless the model's own switch is set.
        photos: of the job.

    Raises:
        PersamError: another value of ``compile``, or True where it cannot be done.
    """
    check_switch("compile", compile)
    execution = getattr(sam, "execution", None)
    if execution is None:
        if compile is True:
            raise PersamError(
                f"compile=True: model {sam.name} cannot be compiled: use compile='auto'"
            )
        return sam
    chosen: Switch = execution.speed.compile if compile == AUTO else compile
    if chosen == AUTO:
        chosen = earns_compiling(sam, photos)
    if chosen and not can_compile(sam.device):
        raise PersamError(_no_compiler(sam.device))
    return sam if chosen == execution.speed.compile else sam.with_speed(compile=chosen)


def compiles(sam: Any) -> bool:
    """Whether a model's encoder is compiled."""
    execution = getattr(sam, "execution", None)
    return execution is not None and execution.speed.compile is True


def _no_compiler(device: torch.device) -> str:
    missing = "triton" if device.type == "cuda" else "a C++ compiler"
    return (
        f"compile=True needs a compiler for {device.type}, which is not there: install {missing}, "
        "or use compile='auto'"
    )


def earns_compiling(sam: Any, photos: int) -> bool:
    """Whether ``compile="auto"`` compiles a model's encoder for a job of so many photos.

    It does for a long job on CUDA, where a compiler is there and the kernels, which are faster, do
    not apply: for ViTs in float32, MobileSAM and other models.
    """
    execution = getattr(sam, "execution", None)
    if execution is None or photos < PHOTOS_WORTH_COMPILING or sam.device.type != "cuda":
        return False
    if execution.uses_kernels(sam.sam.image_encoder, sam.device):
        return False
    return can_compile(sam.device)


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
        self._trusted: tuple[nn.Module, bool] | None = None
        self._shapes: set[torch.Size] = set()
        self.compiling = 0.0
        """Seconds that compiling has taken."""

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
            function = self._timed(self._compile(encoder, device))
        elif self.uses_kernels(encoder, device) and self._agrees(encoder, pixels):
            function = partial(fast_vit.encode, encoder)
        if not speed.on("graphs", device):
            return function(pixels)
        (found,) = self.graphs(("encode", id(encoder)), lambda x: (function(x),), [pixels])
        return found

    def uses_kernels(self, encoder: nn.Module, device: torch.device) -> bool:
        """Whether an encoder's attention is computed by the Triton kernels on a device."""
        wanted = self.speed.on("kernels", device) and fast_vit.kernels_available()
        return wanted and fast_vit.applies(encoder)

    def _agrees(self, encoder: nn.Module, pixels: Tensor) -> bool:
        """Whether the kernels agree with the encoder itself: asked once, with the first photo.

        They are compiled on the machine that they run on, by whichever Triton is there.
        """
        if self._trusted is None or self._trusted[0] is not encoder:
            try:
                found = fast_vit.encode(encoder, pixels[:1]).float()
                wanted = encoder(pixels[:1]).float()
                error = float((found - wanted).norm() / wanted.norm().clamp_min(1e-6))
                good = error < LARGEST_ERROR or not bool(wanted.isfinite().all())
                reason = f"they differ by {error:.2g}"
            except torch.cuda.OutOfMemoryError:
                raise
            except Exception as failure:  # whatever a compiler raises
                good, reason = False, " ".join(str(failure).split())[:200]
            if not good:
                logger.warning("The attention kernels are not used on this machine: %s", reason)
            self._trusted = (encoder, good)
        return self._trusted[1]

    def _compile(self, encoder: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
        if self._compiled is None or self._compiled_of is not encoder:
            if not can_compile(device):
                raise PersamError(_no_compiler(device))
            self._compiled = compiled(encoder)
            self._compiled_of = encoder
            self._shapes.clear()
        return self._compiled

    def _timed(self, function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """A compiled function that adds to `compiling` what its first call for a shape takes."""

        def call(pixels: Tensor) -> Tensor:
            count = len(pixels)
            larger = [shape for shape in self._shapes if shape[1:] == pixels.shape[1:]]
            if pixels.shape in self._shapes:
                return function(pixels)
            if larger and max(larger)[0] > count:  # a job's last batch: compiling takes longer
                gap = torch.zeros((max(larger)[0] - count, *pixels.shape[1:])).to(pixels)
                return function(torch.cat([pixels, gap]))[:count]
            started = time.perf_counter()
            found = function(pixels)
            self._shapes.add(pixels.shape)
            self.compiling += time.perf_counter() - started
            return found

        return call


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
