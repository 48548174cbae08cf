"""Models that share their weights but for one part, which they may change without the others."""

from __future__ import annotations

import copy

import torch
from segment_anything.modeling import Sam


def with_own_part(sam: Sam, part: str) -> Sam:
    """The model with modules of its own in one of its parts; it shares the others.

    The decoder's own modules hold the same numbers, frozen: a hundred objects, each with a decoder
    that was tuned to it, take the memory of one. The image encoder is copied with its weights.
    """
    changed = copy.copy(sam)
    changed._modules = dict(sam._modules)
    whole = getattr(sam, part)
    if part == "image_encoder":
        changed._modules[part] = copy.deepcopy(whole).requires_grad_(False)
    else:
        changed._modules[part] = _same_weights(whole)
    return changed


def _same_weights(module: torch.nn.Module) -> torch.nn.Module:
    """A module, and modules below it, that can be replaced or hooked; frozen, on shared memory."""
    own = copy.copy(module)
    for name, value in vars(module).items():
        if isinstance(value, dict):  # modules, buffers, hooks: each with a register of its own
            own.__dict__[name] = value.copy()
    for name, weights in own._parameters.items():
        if weights is not None:
            shared = torch.nn.Parameter(weights.detach(), requires_grad=False)
            own._parameters[name] = shared
    for name, child in own._modules.items():
        if child is not None:
            own._modules[name] = _same_weights(child)
    return own
