"""The image encoder's attention in one fused kernel, relative positions included.

``segment_anything.modeling.image_encoder.Attention`` adds to every attention map a bias that is the
sum of one part per row and one per column of the key, each a product of the query with a table
(decomposed relative positions). It materialises the map: 4096 x 4096 per head and photo in the
global blocks. The same sum is a scalar product if the queries are lengthened by their products with
both tables and the keys by one-hot vectors of their row and column:

    [scale q, q.Rh, q.Rw] . [k, onehot(row), onehot(column)] = scale q.k + bias

so that `torch.nn.functional.scaled_dot_product_attention` needs no bias and its memory-saving
kernels apply. Same weights, same names of parameters, same result up to rounding.
"""

from __future__ import annotations

import torch
from segment_anything.modeling.image_encoder import Attention, get_rel_pos
from torch import Tensor, nn
from torch.nn import functional

ALIGNMENT = 8
"""The kernels want heads whose length is a multiple of it."""


class FusedAttention(Attention):
    """An `Attention` with the parameters of another one, for inference.

    Args:
        attention: the module whose parameters are used (not copied).
    """

    def __init__(self, attention: Attention) -> None:
        nn.Module.__init__(self)
        self.num_heads = attention.num_heads
        self.scale = attention.scale
        self.qkv = attention.qkv
        self.proj = attention.proj
        self.use_rel_pos = attention.use_rel_pos
        self.grid = (0, 0)
        if not self.use_rel_pos:
            return
        self.rel_pos_h = attention.rel_pos_h
        self.rel_pos_w = attention.rel_pos_w
        height = (len(attention.rel_pos_h) + 1) // 2
        width = (len(attention.rel_pos_w) + 1) // 2
        self.grid = (height, width)
        with torch.no_grad():
            like = attention.rel_pos_h
            rows = get_rel_pos(height, height, attention.rel_pos_h).contiguous()
            columns = get_rel_pos(width, width, attention.rel_pos_w).contiguous()
            row_of_key = torch.eye(height, device=like.device).repeat_interleave(width, dim=0)
            column_of_key = torch.eye(width, device=like.device).repeat(height, 1)
            places = torch.cat([row_of_key, column_of_key], dim=1).to(like.dtype)
        # Derived from the parameters, hence in no checkpoint; they follow the module's device.
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.register_buffer("places", places, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        batch, height, width, _ = x.shape
        if self.use_rel_pos and (height, width) != self.grid:
            return super().forward(x)  # tables of another size are interpolated there
        heads, count = self.num_heads, height * width
        q, k, v = self.qkv(x).reshape(batch, count, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        length = q.shape[-1]
        if self.use_rel_pos:
            on_grid = q.reshape(batch, heads, height, width, length)
            by_row = torch.einsum("bnhwc,hkc->bnhwk", on_grid, self.rows)
            by_column = torch.einsum("bnhwc,wkc->bnhwk", on_grid, self.columns)
            q = torch.cat([q * self.scale, by_row.flatten(2, 3), by_column.flatten(2, 3)], dim=-1)
            k = torch.cat([k, self.places.expand(batch, heads, -1, -1)], dim=-1)
        else:
            q = q * self.scale
        padding = -q.shape[-1] % ALIGNMENT
        q, k = functional.pad(q, (0, padding)), functional.pad(k, (0, padding))
        # One length for all three: otherwise the fastest kernels do not apply.
        v = functional.pad(v, (0, q.shape[-1] - length))
        attended = functional.scaled_dot_product_attention(q, k, v, scale=1.0)[..., :length]
        return self.proj(attended.transpose(1, 2).reshape(batch, height, width, heads * length))


def has_slow_attention(encoder: nn.Module) -> bool:
    """Whether a module has attention that `fuse_attention` would replace."""
    return any(type(module) is Attention for module in encoder.modules())


def fuse_attention(encoder: nn.Module) -> None:
    """Replace every `Attention` inside a module by its `FusedAttention`, in place.

    Call it when the parameters are in place, on their device and of their dtype.
    """
    for parent in list(encoder.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is Attention:
                setattr(parent, name, FusedAttention(child).train(child.training))
