"""SAM's ViT image encoder without the bytes that no formula asks for, on CUDA.

The released encoder copies every photo's tokens into windows and back, pads them, permutes queries,
keys and values, and reads the residual stream once to add to it and once more to normalise it. Here
tokens stay where they are: the kernels of `attention_kernels` address windows and heads in place,
and one kernel adds a branch to the stream and normalises it. The same modules do the products, so
weights, their names and adapters in them stay what they are.

Half precision has float32 where the published ViT-H needs it: the residual stream, which grows from
block to block beyond what float16 holds, and the statistics of every norm.
"""

from __future__ import annotations

import importlib.util
from typing import Any

import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Block
from torch import Tensor, nn
from torch.nn import functional

from .fused_attention import FusedAttention

HALVES = (torch.float16, torch.bfloat16)
LARGEST_HALF = 65504.0
SHRINK = 1 / 16
"""Of the residual stream when it leaves float32: float16 then reaches to a million."""
SHORTEST_HEAD = 16


def kernels_available() -> bool:
    """Whether Triton is there."""
    return importlib.util.find_spec("triton") is not None


def applies(encoder: Any) -> bool:
    """Whether `encode` can stand in for an encoder's own forward.

    It can for SAM's ViT with fused attention in half precision, as long as nobody listens: modules
    with hooks of their own are called as they are.
    """
    if type(encoder) is not ImageEncoderViT or encoder.pos_embed is None:
        return False
    if encoder.neck[0].bias is not None:
        return False
    if encoder.pos_embed.dtype not in HALVES:
        return False
    return all(_plain(block) for block in encoder.blocks) and _stepped_over(encoder)


def encode(encoder: Any, pixels: Tensor) -> Tensor:
    """(B, 3, S, S) normalised photos -> (B, C, h, w), as the encoder itself to within rounding."""
    if pixels.device.type != "cuda":
        return _encode(encoder, pixels)
    with torch.cuda.device(pixels.device):  # Triton launches on the current device
        return _encode(encoder, pixels)


def _encode(encoder: Any, pixels: Tensor) -> Tensor:
    from . import attention_kernels as kernels

    dtype = pixels.dtype
    x = _patches(encoder.patch_embed, pixels) + encoder.pos_embed
    batch, height, width, channels = x.shape
    stream = x.float().reshape(-1, channels).contiguous()
    branch: Tensor | None = None

    def normed(norm: Any) -> Tensor:
        nonlocal stream
        stream, found = kernels.add_norm(stream, branch, norm.weight, norm.bias, norm.eps, dtype)
        return found

    for block in encoder.blocks:
        attention = block.attn
        qkv = attention.qkv(normed(block.norm1)).view(batch, height, width, 3 * channels)
        attended = kernels.attend(
            qkv,
            attention.qkv.bias,
            attention.rows,
            attention.columns,
            attention.num_heads,
            block.window_size,
        )
        branch = attention.proj(attended.view(-1, channels))
        branch = _mlp(block.mlp, normed(block.norm2))
    if branch is not None:
        stream = stream + branch
    return _neck(encoder.neck, stream.view(batch, height, width, channels), dtype)


def _patches(layer: Any, pixels: Tensor) -> Tensor:
    """The patch embedding as one product: a convolution of three channels is slow."""
    if not _bare(layer) or not _bare(layer.proj) or layer.proj.kernel_size != layer.proj.stride:
        return layer(pixels)  # type: ignore[no-any-return]
    convolution = layer.proj
    high, wide = convolution.kernel_size
    batch, channels, height, width = pixels.shape
    grid = pixels.view(batch, channels, height // high, high, width // wide, wide)
    rows = grid.permute(0, 2, 4, 1, 3, 5).flatten(3)
    return functional.linear(rows, convolution.weight.flatten(1), convolution.bias)


def _mlp(mlp: Any, x: Tensor) -> Tensor:
    """SAM's ``MLPBlock``; the activation inside the first product, where nobody listens to it."""
    first = mlp.lin1
    if type(first) is not nn.Linear or type(mlp.act) is not nn.GELU or first.bias is None:
        return mlp(x)  # type: ignore[no-any-return]
    if not all(_bare(module) for module in (mlp, first, mlp.act)) or x.device.type != "cuda":
        return mlp(x)  # type: ignore[no-any-return]
    # By tanh instead of erf: 5e-4 at most, which is what float16 itself rounds by.
    x = torch._addmm_activation(first.bias, x, first.weight.t(), use_gelu=True)
    return mlp.lin2(x)  # type: ignore[no-any-return]


def _neck(neck: Any, x: Tensor, dtype: torch.dtype) -> Tensor:
    """The released neck, with the channels last and the norms' statistics in float32."""
    first, norm, second, last = neck
    x = x.mul(SHRINK).clamp_(-LARGEST_HALF, LARGEST_HALF).to(dtype)
    x = functional.linear(x, first.weight.flatten(1))
    # The norm undoes any factor before it.
    x = functional.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps * SHRINK**2)
    x = second(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    x = functional.layer_norm(x, x.shape[-1:], last.weight, last.bias, last.eps)
    return x.permute(0, 3, 1, 2).contiguous()


def _plain(block: Any) -> bool:
    if type(block) is not Block or type(block.attn) is not FusedAttention:
        return False
    attention = block.attn
    if not attention.use_rel_pos:
        return False
    length = int(attention.rel_pos_h.shape[1])
    side = block.window_size
    return length >= SHORTEST_HEAD and (not side or attention.grid == (side, side))


def _bare(module: nn.Module) -> bool:
    """Whether a module has no hooks, which a call around it would miss."""
    return not (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


def _stepped_over(encoder: Any) -> bool:
    """Whether all modules that `encode` does not call have no hooks."""
    modules = [encoder, *encoder.neck]
    for block in encoder.blocks:
        modules += [block, block.attn, block.norm1, block.norm2]
    return all(_bare(module) for module in modules)
