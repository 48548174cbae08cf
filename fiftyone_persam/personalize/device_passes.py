"""The three decoder passes without a word to the host: every photo takes every pass.

`cascade.run_cascade` asks the host after each pass which photos go on, and where their boxes are.
Here boxes are computed where the masks are, each pass is for all photos, and what a photo had no
use for is left out afterwards. So the passes are one chain of kernels, which can be recorded as one
CUDA graph. The numbers are those of `run_cascade` without ``exact``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding, Promptable
from ..sam.transfers import send
from .cascade import EMPTY, FIRST, SECOND, THIRD, _spans

STAGE_NAMES = (EMPTY, FIRST, SECOND, THIRD)
"""What the numbers in `Passes.stage` mean."""


class Places(NamedTuple):
    """Where B photos lie in the model's input, on the device.

    Attributes:
        sizes: (B, 2) int64 height and width inside the model's input.
        scales: (B, 2) float64 x and y factors from photo pixels to pixels of the model's input.
        limits: (B, 2) float64 largest x and y in photo pixels.
    """

    sizes: Tensor
    scales: Tensor
    limits: Tensor


class Passes(NamedTuple):
    """What B photos have after the passes, all on the device.

    Attributes:
        logits: (B, hm, wm) of the last mask that was not empty, else of the first.
        scores: (B,) its predicted IoU.
        first: (B, hm, wm) logits of the first pass.
        stage: (B,) int64, an index into `STAGE_NAMES`.
        boxes: (B, 4) int64 in photo pixels, what prompted that stage; -1 where nothing did.
        again: (B,) bool, photos for which pass 2 would have had no box while others had one: they
            have to go through `run_cascade`.
    """

    logits: Tensor
    scores: Tensor
    first: Tensor
    stage: Tensor
    boxes: Tensor
    again: Tensor


@dataclass(frozen=True, eq=False)
class Chain:
    """The passes of one method on one model, as a function of tensors alone.

    Attributes:
        sam: the model.
        refine: run passes 2 and 3.
    """

    sam: Promptable
    refine: bool

    def __call__(
        self,
        weights: Tensor | None,
        features: Tensor,
        points: Tensor,
        labels: Tensor,
        attention_bias: Tensor | None,
        token_offset: Tensor | None,
        tokens: Tensor | None,
        *places: Tensor,
    ) -> Passes:
        """Run the passes.

        Args:
            weights: (3,) float32, see `run_cascade`; None for the single-mask token.
            features: (B, C, h, w).
            points: (B, n, 2) float32 in pixels of the model's input.
            labels: (B, n) float32.
            attention_bias: see `PriorBatch`.
            token_offset: see `PriorBatch`.
            tokens: see `PriorBatch`.
            places: the fields of `Places`.
        """
        where = Places(*places)
        logits, scores = self.sam.decode_tensors(
            features,
            points,
            labels,
            attention_bias=attention_bias,
            token_offset=token_offset,
            tokens=tokens,
        )
        if weights is None:
            chosen, score = logits[:, 0], scores[:, 0]
        else:
            chosen = (logits[:, 1:] * weights[:, None, None]).sum(dim=1)
            score = (scores[:, 1:] * weights).sum(dim=1)
        first = chosen
        filled, boxes = measure(self.sam, chosen, where)
        stage = filled.long()
        none = torch.full_like(boxes, -1)
        if not self.refine:
            return Passes(chosen, score, first, stage, none, torch.zeros_like(filled))
        boxed = weights is not None
        again = ~filled if boxed else torch.zeros_like(filled)
        second, second_score = self._refine(
            features, points, labels, chosen, boxes if boxed else None, where
        )
        given = boxes if boxed else none
        found, boxes = measure(self.sam, second, where)
        third, third_score = self._refine(features, points, labels, second, boxes, where)
        last, _ = measure(self.sam, third, where)
        last &= found

        def pick(old: Tensor, two: Tensor, three: Tensor) -> Tensor:
            shape = (-1, *[1] * (old.ndim - 1))
            return torch.where(last.view(shape), three, torch.where(found.view(shape), two, old))

        return Passes(
            pick(chosen, second, third),
            pick(score, second_score, third_score),
            first,
            pick(stage, torch.full_like(stage, 2), torch.full_like(stage, 3)),
            pick(none, given, boxes),
            again,
        )

    def _refine(
        self,
        features: Tensor,
        points: Tensor,
        labels: Tensor,
        mask: Tensor,
        boxes: Tensor | None,
        where: Places,
    ) -> tuple[Tensor, Tensor]:
        corners = None
        if boxes is not None:  # an empty mask's box is nobody's, but must be somewhere
            corners = (boxes.clamp_min(0) * where.scales.repeat(1, 2)).float()
        logits, scores = self.sam.decode_tensors(
            features, points, labels, boxes=corners, masks=mask[:, None]
        )
        best = scores[:, 1:].argmax(dim=1) + 1
        rows = torch.arange(len(best), device=best.device)
        return logits[rows, best], scores[rows, best]


def places_of(embeddings: Sequence[ImageEmbedding], device: torch.device) -> Places:
    """Where photos lie in the model's input, sent to the device without waiting."""
    columns = (
        torch.tensor([one.input_size for one in embeddings]),
        torch.tensor([one.scale for one in embeddings], dtype=torch.float64),
        torch.tensor(
            [(one.original_size[1] - 1, one.original_size[0] - 1) for one in embeddings],
            dtype=torch.float64,
        ),
    )
    return Places(*(send(column, device) for column in columns))


def measure(sam: Promptable, logits: Tensor, where: Places) -> tuple[Tensor, Tensor]:
    """(B,) bool whether each mask has a pixel, and (B, 4) int64 its box in photo pixels."""
    side = sam.image_size
    masks = F.interpolate(logits[None], (side, side), mode="bilinear", align_corners=False)[0] > 0
    steps = torch.arange(side, device=masks.device)
    masks &= (steps < where.sizes[:, :1])[:, :, None] & (steps < where.sizes[:, 1:])[:, None, :]
    spans = _spans(masks)
    low = torch.floor(spans[:, :2] / where.scales)
    high = torch.ceil((spans[:, 2:] + 1) / where.scales) - 1
    low = torch.minimum(low, where.limits)
    high = torch.minimum(torch.maximum(high, low), where.limits)
    return spans[:, 0] >= 0, torch.cat([low, high], dim=1).long()
