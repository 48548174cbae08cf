"""Proposals from a detector's boxes instead of a grid of points: MobileSAMv2's idea."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import PersamError
from .boxes import tight_box
from .discovery import discover, load_head
from .embedding import Decoded, ImageEmbedding, Prompt
from .lite import EMBED_DIM
from .photos import Photo
from .promptable import Promptable
from .proposals import SAME_MASK, Proposal

PROMPTS_EACH = 2
"""Prompts for each proposal that is asked for: about half of the masks repeat a better one."""


class DiscoveryProposer:
    """A detector's boxes as prompts, as in MobileSAMv2 (Zhang et al., arXiv 2312.09579).

    The boxes are found in sam_lite's embedding (see `discovery`) and decoded, each with the point
    at its centre, by the model that is given, which may be sam_lite itself; masks that repeat a
    better one are left out.
    """

    name = "discovery"
    help = "boxes of a small detector, one prompt each: many times faster than a grid of points"

    def propose(self, sam: Promptable, photo: Photo, max_proposals: int) -> list[Proposal]:
        """See `Proposer.propose`; for any model that decodes boxes."""
        own = sam.encode([photo])[0]
        finder = own if knows(sam) else None
        return self.from_embedding(sam, own, max_proposals, photo=photo, finder=finder)

    def from_embedding(
        self,
        sam: Promptable,
        embedding: ImageEmbedding,
        max_proposals: int,
        photo: Photo | None = None,
        finder: ImageEmbedding | None = None,
    ) -> list[Proposal]:
        """The same for a photo that is encoded already.

        Args:
            sam: the model that made the embedding, and decodes.
            embedding: the photo.
            max_proposals: how many, at most.
            photo: its pixels; needed where ``finder`` is not given.
            finder: the photo's embedding by sam_lite.

        Raises:
            PersamError: neither ``photo`` nor ``finder`` was given.
        """
        if finder is None:
            if photo is None:
                raise PersamError("the photo is needed to find things in it: give its pixels")
            finder = _sam_lite(str(sam.device)).encode([photo])[0]
        boxes, found = discover(load_head(), finder, PROMPTS_EACH * max_proposals)
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        prompts = [
            Prompt(embedding, points=[center], box=box)
            for center, box in zip(centers.numpy(), boxes.numpy(), strict=True)
        ]
        return distinct(sam, embedding, sam.decode(prompts), found, max_proposals)


def distinct(
    sam: Promptable,
    embedding: ImageEmbedding,
    decoded: Sequence[Decoded],
    scores: Tensor,
    count: int,
) -> list[Proposal]:
    """Each prompt's single mask as a proposal, best first, repeated ones left out.

    Args:
        sam: the model that decoded.
        embedding: the photo.
        decoded: one per prompt.
        scores: (n,) of the prompts, 0 to 1; the geometric mean with the model's predicted IoU
            becomes the proposal's.
        count: how many proposals, at most.
    """
    if not decoded:
        return []
    logits = torch.stack([one.logits[0] for one in decoded])
    predicted = torch.stack([one.scores[0] for one in decoded]).float().cpu().clamp(0, 1)
    total = (scores.float().cpu() * predicted).sqrt()
    side = logits.shape[-1] / embedding.image_size
    rows, columns = (max(1, round(v * side)) for v in embedding.input_size)
    masks = (logits[:, :rows, :columns] > 0).flatten(1).float()
    areas = masks.sum(1)
    order = torch.argsort(-total.to(areas.device), stable=True)
    order = order[areas[order] > 0]
    shared = masks[order] @ masks[order].T
    union = areas[order][:, None] + areas[order][None] - shared
    alike = ((shared / union) > SAME_MASK).cpu().numpy()
    proposals: list[Proposal] = []
    dropped = np.zeros(len(order), dtype=np.bool_)
    for place, index in enumerate(order.tolist()):
        if len(proposals) == count:
            break
        if dropped[place]:
            continue
        dropped |= alike[place]
        one = proposal_of(embedding, logits[index], float(total[index]))
        if one is not None:
            proposals.append(one)
    return proposals


def proposal_of(embedding: ImageEmbedding, logits: Tensor, score: float) -> Proposal | None:
    """A mask at the photo's size, from (hm, wm) logits of the model's square input.

    The values are those of `Promptable.upscale`, worked out where the mask is and nowhere else: a
    hundred masks of a photo of 12 megapixels would be a gigabyte.
    """
    size = embedding.image_size
    height, width = embedding.original_size
    full = F.interpolate(logits[None, None], (size, size), mode="bilinear", align_corners=False)
    full = full[..., : embedding.input_size[0], : embedding.input_size[1]]
    inside = tight_box((full[0, 0] > 0).cpu().numpy())
    if inside is None:
        return None
    scale_x, scale_y = embedding.scale
    x0 = max(0, int((inside[0] - 1) / scale_x) - 1)
    y0 = max(0, int((inside[1] - 1) / scale_y) - 1)
    x1 = min(width, int((inside[2] + 1) / scale_x) + 2)
    y1 = min(height, int((inside[3] + 1) / scale_y) + 2)
    y = (torch.arange(y0, y1, device=full.device) + 0.5) / height * 2 - 1
    x = (torch.arange(x0, x1, device=full.device) + 0.5) / width * 2 - 1
    grid = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)[None]
    values = F.grid_sample(full, grid, mode="bilinear", padding_mode="border", align_corners=False)
    mask = (values[0, 0] > 0).cpu().numpy()
    return Proposal.of(mask, score, (x0, y0), (height, width))


def boxes_in(sam: Promptable, embedding: ImageEmbedding, count: int) -> tuple[Tensor, Tensor]:
    """Boxes of things in a photo that sam_lite has encoded, best first, and their scores.

    Args:
        sam: the model that made the embedding.
        embedding: the photo.
        count: how many at most.

    Returns:
        (n, 4) x0, y0, x1, y1 in pixels of the photo and (n,); none for another model than sam_lite,
        whose embedding the detector does not know.
    """
    if not knows(sam):
        return torch.zeros(0, 4), torch.zeros(0)
    return discover(load_head(), embedding, count)


def knows(sam: Promptable) -> bool:
    """Whether the detector knows a model's embedding: whether its image encoder is sam_lite's."""
    if sam.embed_dim != EMBED_DIM:
        return False
    # Another backbone beside it, to match by, leaves the embedding as it is.
    own = sam.encoder_identity.split("+")[0]
    adapted = any(one.part == "image_encoder" for one in getattr(sam, "adapters", ()))
    return own == _sam_lite("cpu").encoder_identity and not adapted


@functools.cache
def _sam_lite(device: str) -> Any:
    from .registry import BUNDLED, load_sam

    return load_sam(BUNDLED, device)
