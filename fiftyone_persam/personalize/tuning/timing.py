"""How long a method takes to learn on this machine, judged by a few passes of a decoder."""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

from ...sam import MODELS, PromptableSam, load_sam, resolve_device
from ..registries import METHODS

BUNDLED = "sam_lite"
_GRID, _CHANNELS = 64, 256  # of the published models, which all have SAM's own decoder


@dataclass(frozen=True)
class LearningTime:
    """Seconds that fitting takes at most, beside encoding; and how many photos it encodes."""

    seconds: float
    photos: int

    def __str__(self) -> str:
        if self.seconds < 1 and not self.photos:
            return "learns at once" if self.seconds < 0.1 else "learns in under a second"
        text = f"learns in about {max(1, round(self.seconds))} s"
        return f"{text} and {self.photos} more photos" if self.photos else text


def learning_time(method: str, model: str = BUNDLED, device: str = "auto") -> LearningTime | None:
    """How long a method takes to learn one object from one encoded photo, by default options.

    The decoder's speed is measured once in a process, for the bundled model and for all others,
    whose decoders are alike. No checkpoint is read but the bundled one.

    Returns:
        None for a method that does not say what it does, or a model that is not known.
    """
    effort = getattr(METHODS[method], "effort", lambda: None)()
    if effort is None or model not in MODELS:
        return None
    step = plain = 0.0
    if effort.steps or effort.passes:
        step, plain = _decoder_seconds(model == BUNDLED, str(resolve_device(device)))
    seconds = effort.steps * step + effort.passes * plain + effort.seconds
    return LearningTime(seconds, effort.photos)


@lru_cache(maxsize=8)
def _decoder_seconds(bundled: bool, device: str) -> tuple[float, float]:
    """Seconds of a decoder pass with its gradient, and without one."""
    sam = load_sam(BUNDLED, device=device) if bundled else PromptableSam(_decoder(), device=device)
    sam = sam.frozen()
    side = (sam.grid_size, sam.grid_size)
    features = torch.zeros(1, sam.embed_dim, *side, device=sam.device)
    token = torch.zeros(1, sam.embed_dim, device=sam.device, requires_grad=True)

    def passed(gradient: bool) -> float:
        started = time.perf_counter()
        with torch.set_grad_enabled(gradient):
            logits, _ = sam.decode_tensors(features, tokens=token)
            if gradient:
                logits.sum().backward()
        if sam.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    passed(True)
    return min(passed(True), passed(True)), min(passed(False), passed(False))


class _NoEncoder(nn.Module):
    img_size = 16 * _GRID


def _decoder() -> Sam:
    transformer = TwoWayTransformer(depth=2, embedding_dim=_CHANNELS, mlp_dim=2048, num_heads=8)
    size = (16 * _GRID, 16 * _GRID)
    return Sam(
        image_encoder=_NoEncoder(),  # type: ignore[arg-type]
        prompt_encoder=PromptEncoder(_CHANNELS, (_GRID, _GRID), size, mask_in_chans=16),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3, transformer=transformer, transformer_dim=_CHANNELS
        ),
    ).eval()
