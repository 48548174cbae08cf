"""A location prior that looks at things instead of places: proposals, ranked by likeness.

The strongest cell of a similarity map may lie on anything. Here the photo's proposals are compared
as a whole with the object, and the points are those of the thing that is most like it: the idea of
prompting with valid things only (MobileSAMv2, Zhang et al., arXiv 2312.09579), with the reference
to choose among them. `benchmarks.priors` measures it against the others.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..sam import ImageEmbedding, Promptable
from .location import Guide
from .stronger_priors import BackgroundRemovedPrior
from .things import things_in

CANDIDATES = 24
"""Things of a photo that are compared with the object."""
MIN_SHARE = 0.4  # of a cell, to belong to a thing
_AWAY = 2.0  # what cells off the chosen thing fall behind by: more than any two cosines differ


class ProposalsPrior(BackgroundRemovedPrior):
    """Points on the proposal whose cells are most like the object, and least like what is around.

    Proposals come from the detector that knows sam_lite's embedding; with another model this is
    `BackgroundRemovedPrior`.
    """

    name = "proposals"
    help = "the thing in the photo that is most like the object as a whole; for sam_lite"

    def guide(
        self,
        sam: Promptable,
        similarity: Tensor,
        valid: Tensor,
        embeddings: Sequence[ImageEmbedding],
        positives: int = 1,
    ) -> Guide:
        """See `LocationPrior.guide`; the attention bias is that of the whole map."""
        whole = super().guide(sam, similarity, valid, embeddings, positives)
        chosen = similarity.clone()
        for row, embedding in enumerate(embeddings):
            cells = most_alike(sam, embedding, similarity[row], valid[row])
            if cells is not None:
                chosen[row] = similarity[row] - _AWAY * (~cells).float()
        points = super().guide(sam, chosen, valid, embeddings, positives).points
        points[:, -1] = whole.points[:, -1]  # what is least like it is so in the whole photo
        return Guide(points, whole.attention_bias)


def most_alike(
    sam: Promptable, embedding: ImageEmbedding, similarity: Tensor, valid: Tensor
) -> Tensor | None:
    """(h, w) bool cells of the proposal that is most like the object; None without proposals.

    Args:
        sam: the model.
        embedding: the photo.
        similarity: (h, w) of its cells to the object.
        valid: (h, w) bool, the cells that count.
    """
    share = things_in(sam, embedding, CANDIDATES) * valid
    if not len(share):
        return None
    inside = (share >= MIN_SHARE).float()
    around = F.max_pool2d(inside, 5, 1, 2) * (share <= 0) * valid
    scores = _mean(similarity, inside) - _mean(similarity, around) / 2
    # A sliver of the object is as like it as the whole: of those that are, the larger one counts.
    scores = scores + 0.05 * inside.sum((1, 2)).clamp_min(1).log()
    scores = scores.masked_fill(inside.sum((1, 2)) < 1, -torch.inf)
    best = int(scores.argmax())
    return None if scores[best] == -torch.inf else inside[best] > 0


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum((1, 2)) / weights.sum((1, 2)).clamp_min(1e-6)
