"""What photos have in common, before anything is labelled: co-segmentation by proposals.

Photos of one object share that object, and little else. So of the things that a detector finds in a
photo, the one that finds its like in most of the other photos is taken for it.
`benchmarks.reference_choice` prints how well it is found.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding, Promptable
from .appearance import mean_cell, without_direction
from .prior import FOREGROUND_COVERAGE, valid_cells
from .things import things_in

THINGS = 16
"""Things of each photo that are compared."""


@torch.no_grad()
def common_object(sam: Promptable, embeddings: Sequence[ImageEmbedding]) -> list[Tensor]:
    """Where each photo shows what it has in common with the others.

    Args:
        sam: the model that made the embeddings, one that the detector knows: sam_lite.
        embeddings: n photos, two at least.

    Returns:
        n times (h, w) bool, the cells of one thing; all of the photo's where no thing is found.
    """
    cells, looks = [], []
    for embedding in embeddings:
        valid = valid_cells([embedding], sam.device)[0]
        found = things_in(sam, embedding, THINGS) >= FOREGROUND_COVERAGE
        found = found[found.flatten(1).any(dim=1)]
        cells.append(found if len(found) else valid[None])
        looks.append(_looks(embedding.to_recognise.to(sam.device), cells[-1], valid))
    everything, counts = torch.cat(looks), [len(one) for one in looks]
    chosen = []
    for number, (own, things) in enumerate(zip(looks, cells, strict=True)):
        alike = [each.amax(dim=1) for each in (own @ everything.T).split(counts, dim=1)]
        del alike[number]
        chosen.append(things[int(torch.stack(alike).mean(dim=0).argmax())])
    return chosen


def _looks(features: Tensor, things: Tensor, valid: Tensor) -> Tensor:
    """(n, D) what each thing looks like, without what the rest of the photo is like."""
    rows = []
    for cells in things:
        rest = F.normalize(mean_cell(features, valid & ~cells), dim=0)
        rows.append(without_direction(mean_cell(features, cells)[None], rest)[0])
    return torch.stack(rows)
