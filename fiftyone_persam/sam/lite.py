"""The small promptable model that ships with the package.

An EfficientNet-Lite0 trunk (batch norms folded into the convolutions) over the photo at full,
three-quarter and half size, a neck that fuses strides 8, 16 and 32 into one stride-16 embedding,
and `segment_anything`'s own prompt encoder and mask decoder. Whatever works on a
``segment_anything.modeling.Sam`` works on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn
from torch.nn import functional

IMAGE_SIZE = 512
EMBED_DIM = 128
DESCRIPTOR_DIM = 360
STRIDE = 16
VIEWS = (1.0, 0.75, 0.5)
# EfficientNet-Lite0: (kernel, stride, expansion, channels, repeats) per stage.
STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, which the trunk was trained with.

    An odd number of padding pixels puts the odd one right and at the bottom.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, h, w) -> (B, c_out, ceil(h / stride), ceil(w / stride))."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        pad_h = max((-(-x.shape[-2] // stride) - 1) * stride + kernel - x.shape[-2], 0)
        pad_w = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
        if pad_h % 2 == 0 and pad_w % 2 == 0:
            return functional.conv2d(
                x, self.weight, self.bias, self.stride, (pad_h // 2, pad_w // 2), 1, self.groups
            )
        x = functional.pad(x, (pad_w // 2, pad_w - pad_w // 2, pad_h // 2, pad_h - pad_h // 2))
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


class InvertedResidual(nn.Module):
    """Mobile inverted bottleneck: (B, c_in, h, w) -> (B, c_out, h / stride, w / stride)."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = c_in * expansion
        self.expand = nn.Conv2d(c_in, hidden, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(hidden, hidden, kernel, stride, groups=hidden)
        self.project = nn.Conv2d(hidden, c_out, 1)
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        """Expand, filter each channel, project; shapes as in the class."""
        y = x if self.expand is None else functional.relu6(self.expand(x), inplace=True)
        y = self.project(functional.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


class Trunk(nn.Module):
    """EfficientNet-Lite0 without its classifier: (B, 3, H, W) to strides 8, 16 and 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, 32, 3, 2)
        self.stages = nn.ModuleList()
        c_in = 32
        for kernel, stride, expansion, channels, repeats in STAGES:
            blocks = []
            for index in range(repeats):
                blocks.append(
                    InvertedResidual(c_in, channels, kernel, stride if index == 0 else 1, expansion)
                )
                c_in = channels
            self.stages.append(nn.Sequential(*blocks))

    def low(self, x: Tensor) -> Tensor:
        """The stem and the first three stages: (B, 3, H, W) -> (B, 40, H / 8, W / 8)."""
        x = functional.relu6(self.stem(x), inplace=True)
        for stage in self.stages[:3]:
            x = stage(x)
        return x

    def high(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The other stages on `low`'s features.

        (B, 40, H / 8, W / 8) -> (B, 112, H / 16, W / 16) and (B, 320, H / 32, W / 32).
        """
        middle = self.stages[4](self.stages[3](x))
        return middle, self.stages[6](self.stages[5](middle))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`low` and both of `high`."""
        low = self.low(x)
        return low, *self.high(low)


class ConvNeXtBlock(nn.Module):
    """Residual block of a wide depthwise convolution and an MLP: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int, kernel: int = 7, expansion: int = 2) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.norm = LayerNorm2d(channels)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, channels * expansion, 1),
            nn.GELU(),
            nn.Conv2d(channels * expansion, channels, 1),
        )
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 0.1))

    def forward(self, x: Tensor) -> Tensor:
        """Filter each channel, mix the channels, add; shapes as in the class."""
        return x + self.scale * self.mlp(self.norm(self.depthwise(x)))


class GlobalBlock(nn.Module):
    """Self-attention over the whole grid: (B, C, h, w) -> (B, C, h, w).

    A depthwise convolution tells each cell its place, so that any grid size works.
    """

    def __init__(self, channels: int, heads: int = 8) -> None:
        super().__init__()
        self.place = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.norm1 = nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.project = nn.Linear(channels, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(
            nn.Linear(channels, 2 * channels), nn.GELU(), nn.Linear(2 * channels, channels)
        )
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        """Place, attend, mix; shapes as in the class."""
        _, channels, height, width = x.shape
        tokens = (x + self.place(x)).flatten(2).transpose(1, 2)
        qkv = self.qkv(self.norm1(tokens)).unflatten(2, (3, self.heads, channels // self.heads))
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attended = functional.scaled_dot_product_attention(q, k, v)
        tokens = tokens + self.project(attended.transpose(1, 2).flatten(2))
        tokens = tokens + self.mlp(self.norm2(tokens))
        return tokens.transpose(1, 2).unflatten(2, (height, width))


class Neck(nn.Module):
    """Strides 8, 16 and 32 -> the (B, EMBED_DIM, H / 16, W / 16) embedding."""

    def __init__(
        self, width: int = 256, coarse_width: int = 256, blocks: int = 4, global_blocks: int = 2
    ) -> None:
        super().__init__()
        self.coarse = nn.Sequential(
            nn.Conv2d(STAGES[6][3], coarse_width, 1),
            *[GlobalBlock(coarse_width) for _ in range(global_blocks)],
        )
        self.coarse_out = nn.Conv2d(coarse_width, width, 1)
        self.middle = nn.Conv2d(STAGES[4][3], width, 1)
        # A 2 x 2 convolution of stride 2 keeps where inside a cell an edge lies, which the decoder
        # needs for fine masks.
        self.fine = nn.Conv2d(STAGES[2][3], width, 2, 2)
        self.blocks = nn.Sequential(
            LayerNorm2d(width), *[ConvNeXtBlock(width) for _ in range(blocks)]
        )
        self.out = nn.Sequential(
            nn.Conv2d(width, EMBED_DIM, 1, bias=False),
            LayerNorm2d(EMBED_DIM),
            nn.Conv2d(EMBED_DIM, EMBED_DIM, 3, padding=1, bias=False),
            LayerNorm2d(EMBED_DIM),
        )

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        """Fuse the trunk's three maps at the middle one's size."""
        context = self.coarse_out(self.coarse(coarse))
        context = functional.interpolate(
            context, middle.shape[-2:], mode="bilinear", align_corners=False
        )
        return cast(Tensor, self.out(self.blocks(self.fine(fine) + self.middle(middle) + context)))


class SamLiteEncoder(nn.Module):
    """Normalised and padded photos to embeddings, S a multiple of 32.

    (B, 3, S, S) -> (B, EMBED_DIM, S / 16, S / 16). The photo is seen at several sizes by the same
    weights and the embeddings are averaged: the small views take in a large object as a whole,
    the full view its outline.
    """

    # Eight bits of mantissa through forty layers without normalisation move the masks' edges.
    half_precision = False

    def __init__(self, img_size: int = IMAGE_SIZE) -> None:
        super().__init__()
        self.img_size = img_size
        self.trunk = Trunk()
        self.neck = Neck()

    def forward(self, x: Tensor, describe: bool = False) -> Tensor:
        """Shapes as in the class; with ``describe``, what tells objects apart comes behind.

        The neck has learned to outline things, and forgets for that what kind of thing they are.
        The trunk's own maps of the full view have not: the finest (what it is made of) and the
        coarsest (what it is) count as much as one another, each has length 1 in every cell.

        (B, 3, S, S) -> (B, EMBED_DIM + DESCRIPTOR_DIM, S / 16, S / 16) with ``describe``.
        """
        maps = [self.trunk(view) for view in self.views(x)]
        embedding = self.fuse([self.neck(*one) for one in maps])
        if not describe:
            return embedding
        fine, _, coarse = maps[0]
        told_by = (functional.avg_pool2d(fine, 2), _resize(coarse, embedding.shape[-2:]))
        parts = [embedding, *[functional.normalize(one, dim=1) for one in told_by]]
        return torch.cat(parts, dim=1)

    @property
    def descriptor_dim(self) -> int:
        """Channels that come behind the embedding's with ``describe``."""
        return DESCRIPTOR_DIM

    def views(self, x: Tensor) -> list[Tensor]:
        """(B, 3, S, S) -> the photo at each of `VIEWS`, sides rounded to multiples of 32."""
        sides = [max(1, round(x.shape[-1] * scale / 32)) * 32 for scale in VIEWS]
        return [_resize(x, (side, side)) for side in sides]

    def fuse(self, embeddings: list[Tensor]) -> Tensor:
        """Average the views' embeddings at the first one's size."""
        size = embeddings[0].shape[-2:]
        return torch.stack([_resize(embedding, size) for embedding in embeddings]).mean(dim=0)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return functional.interpolate(x, tuple(size), mode="bilinear", align_corners=False)


def build_sam_lite(image_size: int = IMAGE_SIZE) -> Sam:
    """The sam_lite architecture with random weights.

    Args:
        image_size: side of the square input in pixels, a multiple of 32.

    Raises:
        ValueError: the side is not a positive multiple of 32.
    """
    if image_size <= 0 or image_size % 32:
        raise ValueError(
            f"image_size {image_size} is not a positive multiple of 32: choose 512, 640, ..."
        )
    grid = image_size // STRIDE
    transformer = TwoWayTransformer(depth=2, embedding_dim=EMBED_DIM, mlp_dim=512, num_heads=8)
    sam = Sam(
        image_encoder=SamLiteEncoder(image_size),  # type: ignore[arg-type]
        prompt_encoder=PromptEncoder(
            EMBED_DIM, (grid, grid), (image_size, image_size), mask_in_chans=16
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=transformer,
            transformer_dim=EMBED_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=128,
        ),
        pixel_mean=[127.0, 127.0, 127.0],
        pixel_std=[128.0, 128.0, 128.0],
    )
    return sam.eval()
