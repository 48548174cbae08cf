"""Which photo, labelled, would serve the other photos best as a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional as F

from ..errors import PersamError
from ..sam import ImageEmbedding, Promptable
from .appearance import mean_cell, without_direction
from .prior import aligned_foreground, valid_cells


@torch.no_grad()
def rank_references(
    sam: Promptable,
    embeddings: Sequence[ImageEmbedding],
    masks: Sequence[npt.NDArray[np.bool_] | None] | None = None,
) -> npt.NDArray[np.float64]:
    """How typical each photo is of all: the medoid has the highest number.

    Args:
        sam: the model that made the embeddings.
        embeddings: n photos.
        masks: (H, W) bool of the object in each, for the masked region to be compared instead of
            the whole photo; None for a photo without it, which then cannot be suggested.

    Returns:
        (n,) mean cosine similarity to all the others, -inf for photos that cannot be suggested.

    Raises:
        PersamError: there are fewer than two photos to compare, or masks of another number.
    """
    given = [None] * len(embeddings) if masks is None else list(masks)
    if len(given) != len(embeddings):
        raise PersamError(f"{len(embeddings)} photos need as many masks, not {len(given)}")
    usable = [
        k
        for k, mask in enumerate(given)
        if masks is None or (mask is not None and np.asarray(mask).any())
    ]
    if len(usable) < 2:
        raise PersamError(
            f"{len(usable)} photos can be compared, and a suggestion needs two or more: give more "
            "photos, or a field with labels in more of them"
        )
    rows = []
    for k in usable:
        embedding, mask = embeddings[k], given[k]
        features = embedding.to_match.to(sam.device)
        valid = valid_cells([embedding], sam.device)[0]
        if mask is None:
            rows.append(mean_cell(features, valid))
            continue
        cells = aligned_foreground(sam, mask, embedding) & valid
        rest = F.normalize(mean_cell(features, valid & ~cells), dim=0)
        rows.append(without_direction(mean_cell(features, cells)[None], rest)[0])
    vectors = torch.stack(rows)
    if masks is None:  # what all photos share would make all of them alike
        vectors = vectors - vectors.mean(dim=0)
    vectors = F.normalize(vectors, dim=1)
    alike = (vectors @ vectors.T).double().cpu().numpy()
    scores = np.full(len(embeddings), -np.inf)
    scores[usable] = (alike.sum(axis=1) - alike.diagonal()) / (len(usable) - 1)
    return scores
