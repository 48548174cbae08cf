"""SAMs whose every weight depends on its name and shape alone, as the recorded numbers need."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

Array = npt.NDArray[Any]


def seeded_sam() -> Sam:
    """The small SAM whose every weight depends on its name and shape alone."""
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=2,
            embed_dim=64,
            img_size=1024,
            mlp_ratio=4,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=2,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=14,
            out_chans=256,
        ),
        prompt_encoder=PromptEncoder(256, (64, 64), (1024, 1024), mask_in_chans=16),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in sam.state_dict().items()}
    sam.load_state_dict({name: torch.from_numpy(w) for name, w in seeded_weights(shapes)})
    return sam.eval()


def small_sam(image_size: int = 256) -> Sam:
    """A quick one with a grid of ``image_size / 16``, whose attention is smooth.

    Its weights follow the same rule under other names, so that no output hangs on the last bit of
    an input.
    """
    grid = image_size // 16
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=1,
            embed_dim=32,
            img_size=image_size,
            num_heads=2,
            patch_size=16,
            use_rel_pos=True,
            global_attn_indexes=(0,),
            out_chans=32,
        ),
        prompt_encoder=PromptEncoder(32, (grid, grid), (image_size, image_size), mask_in_chans=8),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=32, mlp_dim=64, num_heads=4),
            transformer_dim=32,
            iou_head_depth=3,
            iou_head_hidden_dim=32,
        ),
    )
    # The rule looks at names, and "token" in an attention's name is what makes it hard.
    state = sam.state_dict()
    renamed = {n.replace("attn_token", "attn").replace("to_token", "to"): n for n in state}
    shapes = {short: tuple(state[name].shape) for short, name in renamed.items()}
    sam.load_state_dict({renamed[n]: torch.from_numpy(w) for n, w in seeded_weights(shapes)})
    return sam.eval()


def seeded_weights(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Array]]:
    """The rule of the recorded numbers' README, for each name and shape."""
    for name, shape in shapes.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        w = generator.standard_normal(shape).astype(np.float32)
        if name.endswith("num_batches_tracked"):
            yield name, np.zeros(shape, np.int64)
        elif name.endswith("running_var"):
            yield name, 1 + 0.02 * np.abs(w)
        elif len(shape) <= 1:
            yield name, (w * 0.02 + float(name.endswith("weight"))).astype(np.float32)
        elif "gaussian" in name:
            yield name, w
        elif "attention_biases" in name:
            yield name, w * np.float32(0.1)
        elif any(part in name for part in ("embedding", "token", "pos_embed", "rel_pos")):
            yield name, w * np.float32(0.5)
        else:
            yield name, w / np.float32(np.sqrt(np.prod(shape[1:])))
