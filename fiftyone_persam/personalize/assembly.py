"""From the passes of a batch to a prediction for each photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..sam import ImageEmbedding, Promptable
from ..sam.transfers import send
from .appearance import Appearance
from .cascade import Outcome, PriorBatch
from .prediction import Prediction
from .presence import gather, probability, recognisable
from .prior import valid_cells
from .threshold import is_absent

ABSENT = "absent"


def assemble(
    sam: Promptable,
    batch: PriorBatch,
    outcome: Outcome,
    appearance: Appearance,
    threshold: float,
    negatives: Appearance | None = None,
) -> list[Prediction]:
    """Masks at the photos' own sizes, scores, and whether the object is there at all.

    Args:
        sam: the model.
        batch: B photos and their location priors.
        outcome: their passes.
        appearance: of the object in its references.
        threshold: presence below which the object counts as absent.
        negatives: appearance of what the object is not.
    """
    valid = valid_cells(batch.embeddings, sam.device)
    overlap = _overlap(outcome.passes[0].logits, outcome.logits, batch.embeddings)
    told_by = recognisable(batch.embeddings, sam.device)
    evidence = gather(
        told_by, outcome.logits, valid, appearance, outcome.scores, overlap, negatives
    )
    presences = probability(evidence).cpu().numpy()
    scores = outcome.scores.cpu().numpy()
    agreements = overlap.cpu().numpy()
    maps = batch.similarity.float().cpu().numpy()
    results = []
    for i, embedding in enumerate(batch.embeddings):
        full = sam.upscale(outcome.logits[i][None], embedding)[0]
        results.append(
            prediction_of(
                embedding,
                (full > 0).cpu().numpy(),
                float(scores[i]),
                float(presences[i]),
                maps[i],
                batch.points[i],
                batch.labels,
                outcome.boxes[i],
                outcome.stages[i],
                float(agreements[i]),
                threshold,
            )
        )
    return results


def prediction_of(
    embedding: ImageEmbedding,
    candidate: npt.NDArray[np.bool_],
    score: float,
    presence: float,
    similarity: npt.NDArray[np.float32],
    points: npt.NDArray[np.int64],
    labels: npt.NDArray[np.int64],
    box: npt.NDArray[np.int64] | None,
    stage: str,
    agreement: float,
    threshold: float,
) -> Prediction:
    """One photo's prediction; the mask is emptied where the presence is below the threshold."""
    mask = candidate
    if candidate.any() and is_absent(presence, threshold):
        stage, mask = ABSENT, np.zeros_like(candidate)
    rows, columns = embedding.valid_grid
    shown = _distinct(points)
    return Prediction(
        mask,
        score,
        presence,
        similarity[:rows, :columns].copy(),
        points[shown],
        labels[shown],
        box,
        stage,
        agreement,
        candidate,
    )


def _distinct(points: npt.NDArray[np.int64]) -> list[int]:
    """Where each of (n, 2) points stands first; a location prior may repeat its best one."""
    seen = [tuple(point) for point in points.tolist()]
    return [k for k, point in enumerate(seen) if point not in seen[:k]]


def _overlap(first: Tensor, last: Tensor, photos: Sequence[ImageEmbedding]) -> Tensor:
    """(B, hm, wm) logits twice -> (B,) IoU of the masks inside the photos; 1 if both are empty."""
    device = first.device
    sizes = send(torch.tensor([photo.input_size for photo in photos]), device)
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
