"""Three decoder passes over a batch of photos, each pass one call for all of them.

Pass 1 starts from the location prior. Pass 2 gets pass 1's logits as mask prompt, pass 3 the box
of pass 2's mask besides (paper, section 3.2, cascaded post-refinement). An empty mask leaves a
photo with its last stage that was not empty. The released code crashes where the box of an empty
mask is asked for (after pass 2, and in PerSAM-F after pass 1), and keeps an empty pass 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding, Promptable

FIRST, SECOND, THIRD = STAGES = ("location_prior", "refinement_1", "refinement_2")
EMPTY = "empty"


@dataclass(frozen=True, eq=False)
class PriorBatch:
    """B photos and the location prior of each: what the cascade starts from.

    Attributes:
        embeddings: the photos.
        features: (B, C, h, w), their features.
        similarity: (B, h, w), padding included.
        points: (B, n, 2) int64 x, y in photo pixels.
        labels: (n,) int64, 1 or 0.
        attention_bias: (B, h * w) or None.
        token_offset: (B, C) or None.
        tokens: (T, C) or (B, T, C), further prompt tokens of the first pass, or None.
    """

    embeddings: Sequence[ImageEmbedding]
    features: Tensor
    similarity: Tensor
    points: npt.NDArray[np.int64]
    labels: npt.NDArray[np.int64]
    attention_bias: Tensor | None
    token_offset: Tensor | None
    tokens: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Pass:
    """One decoder pass.

    Attributes:
        stage: its name.
        index: (n,) positions in the batch of the photos that took part.
        logits: (n, hm, wm) of the chosen mask.
        scores: (n, m) predicted IoU of the masks there were to choose from.
        boxes: (n, 4) int64 prompt boxes in photo pixels, or None.
    """

    stage: str
    index: npt.NDArray[np.int64]
    logits: Tensor
    scores: Tensor
    boxes: npt.NDArray[np.int64] | None


@dataclass(eq=False)
class Outcome:
    """What a batch of B photos has after some passes.

    Attributes:
        logits: (B, hm, wm) of the last mask that was not empty, else of the first.
        scores: (B,) predicted IoU of each.
        stages: what each came from.
        boxes: per photo the box that prompted it, (4,) int64 or None.
        passes: all passes, in order.
    """

    logits: Tensor
    scores: Tensor
    stages: list[str]
    boxes: list[npt.NDArray[np.int64] | None]
    passes: list[Pass] = field(default_factory=list)


def run_cascade(
    sam: Promptable,
    batch: PriorBatch,
    weights: Tensor | None = None,
    refine: bool = True,
    exact: bool = False,
) -> Outcome:
    """Segment a batch of photos from their location priors.

    Args:
        sam: the model.
        batch: the photos.
        weights: (3,), or (B, 3), of the mask scales: pass 1 is their weighted sum, and pass 2 gets
            its box (PerSAM-F). None takes the single-mask token, and pass 2 gets no box (PerSAM).
        refine: run passes 2 and 3.
        exact: measure boxes on masks at the photo's own size and keep an empty mask of pass 3, as
            released; otherwise boxes are measured at the size inside the model's input, which costs
            the same for every photo.
    """
    return _Cascade(sam, batch, weights, exact).run(refine)


class _Cascade:
    def __init__(
        self, sam: Promptable, batch: PriorBatch, weights: Tensor | None, exact: bool
    ) -> None:
        self.sam = sam
        self.batch = batch
        self.weights = weights
        self.exact = exact
        self.scales = np.array([e.scale for e in batch.embeddings])
        self.points = self._to_input(batch.points)
        signs = torch.as_tensor(batch.labels, dtype=torch.float32, device=sam.device)
        self.labels = signs.expand(len(batch.embeddings), -1)

    def run(self, refine: bool) -> Outcome:
        outcome = self._first()
        if not refine:
            return outcome
        current = outcome.logits.clone()
        everyone = np.arange(len(self.batch.embeddings))
        filled, boxes = self._measure(current)
        # The mask prompt is worth having even where pass 1 found nothing; a box needs a mask.
        boxed = filled if self.weights is not None else np.zeros_like(filled)
        self._refine(SECOND, everyone[boxed], boxes, current, outcome)
        self._refine(SECOND, everyone[~boxed], None, current, outcome)
        filled, boxes = self._measure(current)
        self._refine(THIRD, everyone[filled], boxes, current, outcome)
        return outcome

    def _first(self) -> Outcome:
        batch = self.batch
        logits, scores = self.sam.decode_tensors(
            batch.features,
            self.points,
            self.labels,
            attention_bias=batch.attention_bias,
            token_offset=batch.token_offset,
            tokens=batch.tokens,
        )
        if self.weights is None:
            chosen, score = logits[:, 0], scores[:, 0]
        else:
            weights = self.weights.to(logits.dtype).to(logits.device)
            chosen = (logits[:, 1:] * weights[..., None, None]).sum(dim=1)
            score = (scores[:, 1:] * weights).sum(dim=1)
        filled, _ = self._measure(chosen)
        return Outcome(
            chosen,
            score,
            [FIRST if yes else EMPTY for yes in filled],
            [None] * len(filled),
            [Pass(FIRST, np.arange(len(filled)), chosen, scores, None)],
        )

    def _refine(
        self,
        stage: str,
        index: npt.NDArray[np.int64],
        boxes: npt.NDArray[np.int64] | None,
        current: Tensor,
        outcome: Outcome,
    ) -> None:
        """One pass over the photos ``index``; updates ``current`` and ``outcome``."""
        if len(index) == 0:
            return
        rows = torch.as_tensor(index, device=self.sam.device)
        prompt_boxes = None if boxes is None else self._to_input(boxes.reshape(-1, 2, 2))[rows]
        logits, scores = self.sam.decode_tensors(
            self.batch.features[rows],
            self.points[rows],
            self.labels[rows],
            boxes=None if prompt_boxes is None else prompt_boxes.flatten(1),
            masks=current[rows][:, None],
        )
        scores = scores[:, 1:]
        best = scores.argmax(dim=1)
        slots = torch.arange(len(index), device=self.sam.device)
        chosen = logits[:, 1:][slots, best]
        given = None if boxes is None else boxes[index]
        outcome.passes.append(Pass(stage, index, chosen, scores, given))
        current[rows] = chosen
        filled, _ = self._measure(chosen, index)
        if self.exact and stage == THIRD:
            for slot in np.flatnonzero(~filled):
                outcome.stages[index[slot]] = EMPTY
                outcome.boxes[index[slot]] = None if given is None else given[slot]
            accepted = np.ones_like(filled)
        else:
            accepted = filled
        kept = torch.as_tensor(accepted, device=self.sam.device)
        outcome.logits = outcome.logits.index_copy(0, rows[kept], chosen[kept])
        outcome.scores = outcome.scores.index_copy(0, rows[kept], scores[slots, best][kept])
        for slot in np.flatnonzero(filled):
            outcome.stages[index[slot]] = stage
            outcome.boxes[index[slot]] = None if given is None else given[slot]

    def _measure(
        self, logits: Tensor, index: npt.NDArray[np.int64] | None = None
    ) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.int64]]:
        """Whether each mask has a pixel, and its tight box (n, 4) in photo pixels."""
        photos = self.batch.embeddings
        chosen = photos if index is None else [photos[i] for i in index]
        if self.exact:
            spans = (
                torch.stack(
                    [
                        _spans(self.sam.upscale(row[None], e) > 0)[0]
                        for row, e in zip(logits, chosen, strict=True)
                    ]
                )
                .cpu()
                .numpy()
            )
            return spans[:, 0] >= 0, spans
        size = (self.sam.image_size, self.sam.image_size)
        masks = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0] > 0
        limits = torch.tensor([e.input_size for e in chosen], device=masks.device)
        steps = torch.arange(self.sam.image_size, device=masks.device)
        masks &= (steps < limits[:, :1])[:, :, None] & (steps < limits[:, 1:])[:, None, :]
        spans = _spans(masks).cpu().numpy()
        scales = np.array([e.scale for e in chosen])
        low = np.floor(spans[:, :2] / scales)
        high = np.ceil((spans[:, 2:] + 1) / scales) - 1
        limit = np.array([(e.original_size[1] - 1, e.original_size[0] - 1) for e in chosen])
        boxes = np.concatenate([np.minimum(low, limit), np.clip(high, low, limit)], axis=1)
        return spans[:, 0] >= 0, boxes.astype(np.int64)

    def _to_input(self, xy: npt.NDArray[np.int64]) -> Tensor:
        """(B, n, 2) photo pixels -> the same in pixels of the model's input, on its device."""
        scaled = xy * self.scales[:, None]
        return torch.as_tensor(scaled, dtype=torch.float32, device=self.sam.device)


def _spans(masks: Tensor) -> Tensor:
    """(n, H, W) bool -> (n, 4) int64 x0, y0, x1, y1 of the true pixels, -1 where there are none."""
    sides = []
    for axis in (1, 2):  # over rows: columns remain, x; over columns: y
        line = masks.any(dim=axis)
        steps = torch.arange(line.shape[1], device=masks.device)
        first = torch.where(line, steps, line.shape[1]).amin(dim=1)
        last = torch.where(line, steps, -1).amax(dim=1)
        sides += [torch.where(last < 0, -1, first), last]
    x0, x1, y0, y1 = sides
    return torch.stack([x0, y0, x1, y1], dim=1)
