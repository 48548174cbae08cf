"""From the passes of a batch to a prediction for each photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from ..sam import ImageEmbedding, Promptable
from .cascade import Outcome, PriorBatch
from .prediction import Prediction
from .presence import gather, probability
from .prior import valid_cells
from .threshold import is_absent

ABSENT = "absent"


def assemble(
    sam: Promptable, batch: PriorBatch, outcome: Outcome, levels: Tensor, threshold: float
) -> list[Prediction]:
    """Masks at the photos' own sizes, scores, and whether the object is there at all.

    Args:
        sam: the model.
        batch: B photos and their location priors.
        outcome: their passes.
        levels: (B, 2) similarity of object and background in the reference of each photo.
        threshold: presence below which the object counts as absent.
    """
    valid = valid_cells(batch.embeddings, sam.device)
    overlap = _overlap(outcome.passes[0].logits, outcome.logits, batch.embeddings)
    evidence = gather(
        batch.similarity, outcome.logits, valid, levels, outcome.scores, agreement=overlap
    )
    presences = probability(evidence).cpu().numpy()
    scores = outcome.scores.cpu().numpy()
    agreements = overlap.cpu().numpy()
    maps = batch.similarity.float().cpu().numpy()
    results = []
    for i, embedding in enumerate(batch.embeddings):
        full = sam.upscale(outcome.logits[i][None], embedding)[0]
        candidate = (full > 0).cpu().numpy()
        stage, mask = outcome.stages[i], candidate
        if candidate.any() and is_absent(presences[i], threshold):
            stage, mask = ABSENT, np.zeros_like(candidate)
        rows, columns = embedding.valid_grid
        results.append(
            Prediction(
                mask,
                float(scores[i]),
                float(presences[i]),
                maps[i, :rows, :columns].copy(),
                batch.points[i].copy(),
                batch.labels.copy(),
                outcome.boxes[i],
                stage,
                float(agreements[i]),
                candidate,
            )
        )
    return results


def _overlap(first: Tensor, last: Tensor, photos: Sequence[ImageEmbedding]) -> Tensor:
    """(B, hm, wm) logits twice -> (B,) IoU of the masks inside the photos; 1 if both are empty."""
    device = first.device
    sizes = torch.tensor([photo.input_size for photo in photos], device=device)
    rows, columns = (
        # A row belongs to the photo if its centre does.
        (torch.arange(side, device=device) + 0.5) * photos[0].image_size / side
        < sizes[:, axis, None]
        for axis, side in enumerate(first.shape[-2:])
    )
    inside = rows[:, :, None] & columns[:, None, :]
    a, b = (first > 0) & inside, (last > 0) & inside
    union = (a | b).sum(dim=(1, 2))
    both = (a & b).sum(dim=(1, 2))
    return torch.where(union > 0, both / union.clamp_min(1), 1.0)
