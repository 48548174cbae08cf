"""The things in a photo, cell by cell: what a detector proposes, decoded."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding, Prompt, Promptable
from .prior import valid_cells


def things_in(sam: Promptable, embedding: ImageEmbedding, count: int) -> Tensor:
    """How much of each cell each thing in a photo covers.

    Args:
        sam: the model that made the embedding.
        embedding: the photo.
        count: things, at most.

    Returns:
        (n, h, w) float32, 0 to 1, the likeliest thing first; none for another model than sam_lite,
        whose embedding the detector does not know.
    """
    from ..sam.valid_prompts import boxes_in

    valid = valid_cells([embedding], sam.device)[0]
    size = (valid.shape[0], valid.shape[1])
    boxes, _ = boxes_in(sam, embedding, count)
    if not len(boxes):
        return torch.zeros((0, *size), device=sam.device)
    decoded = sam.decode([Prompt(embedding, box=box) for box in boxes.numpy()])
    masks = torch.stack([one.logits[0] > 0 for one in decoded]).float()
    return F.adaptive_avg_pool2d(masks[None], size)[0] * valid
