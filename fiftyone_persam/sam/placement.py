"""A model on the device and in the types that it runs in; the caller's own stays as it was."""

from __future__ import annotations

import copy

import torch
from segment_anything.modeling import Sam

from .fused_attention import fuse_attention, has_slow_attention
from .half_precision import steady_norms, works_in


def encoder_type(sam: Sam, dtype: torch.dtype) -> torch.dtype:
    """The type for its image encoder: float32 where that is too coarse in a half precision."""
    return dtype if works_in(sam.image_encoder, dtype) else torch.float32


def placed(sam: Sam, device: torch.device, dtype: torch.dtype) -> Sam:
    """The model for inference.

    Args:
        sam: the model.
        device: where it runs.
        dtype: of the mask decoder, and of the image encoder where that works in it.

    Returns:
        The model itself if it can stay as it is, else a copy.
    """
    encoder_dtype = encoder_type(sam, dtype)
    heavy = ((sam.image_encoder, encoder_dtype), (sam.mask_decoder, dtype))
    # A CPU keeps the released attention, and with it the released numbers to the last bit.
    fuse = device.type == "cuda" and has_slow_attention(sam.image_encoder)
    changes = (
        sam.training
        or fuse
        or sam.pixel_mean.device != device
        or any(p.dtype != wanted for part, wanted in heavy for p in part.parameters())
    )
    if not changes:
        return sam
    sam = copy.deepcopy(sam).to(device).eval()
    sam.image_encoder.to(encoder_dtype)
    sam.mask_decoder.to(dtype)
    sam.prompt_encoder.float()
    if dtype == torch.float16:
        steady_norms(sam.image_encoder)
        steady_norms(sam.mask_decoder)
    if fuse:
        fuse_attention(sam.image_encoder)
    return sam
