"""Finds things in sam_lite's embedding: a class-agnostic head that gives boxes to prompt with.

MobileSAMv2 (Zhang et al., arXiv 2312.09579) prompts with the boxes of an object-aware detector
instead of a grid of points. The detector here is a small head in the manner of FCOS (Tian et al.,
ICCV 2019, arXiv 1904.01355) on the frozen embedding, so it costs next to nothing once a photo is
encoded: each cell of three levels says whether a thing is centred there, how well its box fits
(as the centerness does in FCOS; here the box's IoU, which needs no negatives), and how far away
the box's four sides are.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .embedding import ImageEmbedding
from .lite import EMBED_DIM, STRIDE

WEIGHTS = Path(__file__).parent / "weights" / "discovery.safetensors"
WIDTH, FINE_WIDTH, BLOCKS = 96, 48, 3
GROUPS = 8  # of the normalisation
LEVELS = (STRIDE // 2, STRIDE, 2 * STRIDE)
"""Strides of the three levels in pixels of the model's input."""
BOX_IOU = 0.8  # boxes that overlap more are one
CANDIDATES = 2000  # cells that are looked at, the best first


@dataclass(frozen=True)
class Maps:
    """What the head says of B photos, N cells of all levels in a row, finest level first.

    Attributes:
        objectness: (B, N) logits: a thing is centred here.
        quality: (B, N) logits: the IoU of the box with the thing's.
        boxes: (B, N, 4) x0, y0, x1, y1 in pixels of the model's input.
    """

    objectness: Tensor
    quality: Tensor
    boxes: Tensor

    @property
    def scores(self) -> Tensor:
        """(B, N) 0 to 1: geometric mean of objectness and quality."""
        return (self.objectness.sigmoid() * self.quality.sigmoid()).sqrt()


class Block(nn.Sequential):
    """Convolution, group normalisation and ReLU: (B, C, h, w) -> (B, C, h, w)."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.GroupNorm(GROUPS, channels),
            nn.ReLU(inplace=True),
        )


class DiscoveryHead(nn.Module):
    """(B, 128, h, w) embeddings of sam_lite -> `Maps` of 4 h w + h w + h w / 4 cells."""

    def __init__(
        self, width: int = WIDTH, fine_width: int = FINE_WIDTH, blocks: int = BLOCKS
    ) -> None:
        super().__init__()
        self.stem = nn.Conv2d(EMBED_DIM, width, 1)
        self.tower = nn.Sequential(*[Block(width) for _ in range(blocks)])
        self.fine = nn.Sequential(nn.ConvTranspose2d(width, fine_width, 2, 2), Block(fine_width))
        self.coarse = nn.Sequential(nn.Conv2d(width, width, 2, 2), Block(width))
        self.out = nn.ModuleList(
            nn.Conv2d(channels, 6, 3, padding=1) for channels in (fine_width, width, width)
        )

    def forward(self, embeddings: Tensor) -> Maps:
        """See the class; the embeddings' height and width are even."""
        middle = self.tower(self.stem(embeddings))
        levels = (self.fine(middle), middle, self.coarse(middle))
        rows = []
        for stride, out, level in zip(LEVELS, self.out, levels, strict=True):
            values = out(level)
            centers = cell_centers(values.shape[-2], values.shape[-1], stride, values.device)
            raw = values.flatten(2).transpose(1, 2)
            distances = 2 * stride * torch.exp(raw[..., 2:].clamp(-6, 6))
            boxes = torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], dim=-1)
            rows.append((raw[..., 0], raw[..., 1], boxes))
        objectness, quality, boxes = (torch.cat(parts, dim=1) for parts in zip(*rows, strict=True))
        return Maps(objectness, quality, boxes)


def cell_centers(height: int, width: int, stride: int, device: torch.device | str) -> Tensor:
    """(height * width, 2) x, y of the cells' centres in pixels of the model's input."""
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return (torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride


@functools.cache
def load_head() -> DiscoveryHead:
    """The trained head that ships with the package, on the CPU; read once."""
    from safetensors.torch import load_file

    head = DiscoveryHead()
    head.load_state_dict({name: t.float() for name, t in load_file(WEIGHTS).items()})
    return head.eval().requires_grad_(False)


@torch.no_grad()
def discover(
    head: DiscoveryHead, embedding: ImageEmbedding, max_boxes: int, min_score: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Boxes of things in a photo, best first; boxes that are nearly the same are one.

    Args:
        head: the head.
        embedding: the photo, encoded by sam_lite.
        max_boxes: how many at most.
        min_score: leave out what scores less.

    Returns:
        (n, 4) x0, y0, x1, y1 in pixels of the photo, on the CPU, and (n,) scores 0 to 1.
    """
    maps = head(embedding.features[None].float().cpu())
    height, width = embedding.input_size
    limit = torch.tensor([width, height, width, height], dtype=torch.float32)
    boxes = maps.boxes[0].clamp(min=0).minimum(limit)
    sides = boxes[:, 2:] - boxes[:, :2]
    scores = maps.scores[0].where((sides > 2).all(dim=1), torch.zeros(()))
    best = scores.topk(min(CANDIDATES, len(scores)))
    kept = best.values > max(min_score, 1e-6)
    order, ranked = best.indices[kept], best.values[kept]
    chosen = suppress(boxes[order], max_boxes, BOX_IOU)
    scale = torch.tensor([*embedding.scale, *embedding.scale], dtype=torch.float32)
    return boxes[order][chosen] / scale, ranked[chosen]


def suppress(boxes: Tensor, count: int, threshold: float) -> Tensor:
    """Indices of the first ``count`` of (n, 4) boxes that do not repeat an earlier one.

    Args:
        boxes: best first.
        count: how many at most.
        threshold: IoU above which a box repeats another.
    """
    left = torch.arange(len(boxes))
    chosen: list[int] = []
    while len(left) and len(chosen) < count:
        first = int(left[0])
        chosen.append(first)
        left = left[1:]
        left = left[box_iou(boxes[left], boxes[first][None]) <= threshold]
    return torch.tensor(chosen, dtype=torch.long)


def box_iou(a: Tensor, b: Tensor) -> Tensor:
    """(...) IoU of (..., 4) boxes, pair by pair."""
    return _overlap(a, b)[0]


def generalized_iou(a: Tensor, b: Tensor) -> Tensor:
    """(...) generalised IoU (Rezatofighi et al., CVPR 2019) of (..., 4) boxes, -1 to 1."""
    iou, union = _overlap(a, b)
    sides = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    hull = sides.prod(dim=-1).clamp(min=1e-6)
    return iou - (hull - union) / hull


def _overlap(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    sides = torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])
    shared = sides.clamp(min=0).prod(dim=-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(dim=-1) for box in (a, b)]
    union = (areas[0] + areas[1] - shared).clamp(min=1e-6)
    return shared / union, union
