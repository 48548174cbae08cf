"""Objects of a photo by ranking what is in it: proposals, by their likeness to the reference.

A detector proposes things (MobileSAMv2's idea: Zhang et al., arXiv 2312.09579), the model makes a
mask of each, and each mask is judged as presence is: part by part against the reference. Those that
are likely enough to be the object are the objects; where there is none, it is absent. What the
location prior has led to takes part as one candidate among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import PersamError
from ..sam import ImageEmbedding, Prompt, Promptable
from . import prior
from .assembly import ABSENT, prediction_of
from .candidates import Scenes
from .instances import MIN_PRESENCE_SHARE, merge
from .location import ReferenceView
from .prediction import Prediction
from .presence import (
    Evidence,
    gather,
    log_odds,
    probability,
    recognisable,
)
from .threshold import is_absent

PROPOSED = 40
"""Things of a photo that are compared with the object."""
STAGE = "proposal"
# A part of the object is as like it as the whole: of those that are, the larger one counts. Also,
# what the passes have led to has a finer outline than what a box has. Yet where several objects are
# looked for, it may spread over all of them: it counts if a proposal says that it is one thing.
_PER_LOG_AREA, _FIRST, _ONE_THING = 0.05, 0.03, 0.6
_PER_MATCH = 20.0  # log odds of what looks as much more like it as there is between 0 and 1
# What has more than this of its cells, or of the other's, in common with a likelier object is that.
_SAME = 0.5


class RankedProposals:
    """Things that a detector finds, ranked by how much they look like the object."""

    name = "proposals"
    help = "rank the things in a photo by their likeness to the reference; for sam_lite"
    always = True

    def check(self, sam: Promptable) -> None:
        """Raise PersamError for another model than sam_lite: the detector knows its embedding."""
        from ..sam.valid_prompts import knows

        if not knows(sam):
            raise PersamError(
                f"candidates='proposals' needs the embedding of sam_lite, which {sam.name} does "
                "not make: use candidates='repeat'"
            )

    def learn(
        self,
        sam: Promptable,
        views: Sequence[ReferenceView],
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> dict[str, Tensor]:
        """Nothing more than every method does."""
        return {}

    def find(self, scenes: Scenes) -> list[Prediction]:
        """See `CandidateSource.find`."""
        return [_find(scenes, row) for row in range(len(scenes.first))]


def _find(scenes: Scenes, row: int) -> Prediction:
    """The objects of one photo."""
    from ..sam.valid_prompts import boxes_in

    first, embedding = scenes.first[row], scenes.batch.embeddings[row]
    boxes, _ = boxes_in(scenes.sam, embedding, PROPOSED)
    decoded = scenes.sam.decode([Prompt(embedding, box=box) for box in boxes.numpy()])
    own = _as_logits(scenes.sam, first.candidate, embedding)
    logits = torch.stack([own, *(one.logits[0].to(own.device) for one in decoded)])
    scores = [first.score, *(float(one.scores[0]) for one in decoded)]
    evidence = _judge(scenes, row, logits)
    presence = probability(evidence)
    rows, columns = scenes.valid.shape[1:]
    shares = F.adaptive_avg_pool2d((logits > 0).float()[None], (rows, columns))[0]
    shares = shares * scenes.valid[row]
    areas = shares.sum((1, 2))
    worth = (
        log_odds(evidence.columns, evidence.handicap) / _PER_MATCH
        + _PER_LOG_AREA * areas.clamp_min(1).log()
    )
    shared = torch.minimum(shares[1:], shares[:1]).sum((1, 2))
    overlaps = shared / (areas[1:] + areas[0] - shared).clamp_min(1e-6)
    one_thing = scenes.limit == 1 or bool((overlaps >= _ONE_THING).any())
    worth[0] = worth[0] + _FIRST if one_thing else -torch.inf
    kept: list[int] = []
    for index in worth.argsort(descending=True).tolist():
        alike = [float(torch.minimum(shares[index], shares[k]).sum()) for k in kept]
        limits = [_SAME * float(torch.minimum(areas[index], areas[k])) for k in kept]
        fresh = all(a <= b for a, b in zip(alike, limits, strict=True))
        if float(presence[index]) > 0 and fresh:
            kept.append(index)
    if not kept:
        return first
    least = max(scenes.threshold, MIN_PRESENCE_SHARE * max(float(presence[k]) for k in kept))
    objects = [
        _own(first, float(presence[0]), scenes.threshold)
        if k == 0
        else _proposed(scenes, row, logits[k], scores[k], float(presence[k]), boxes[k - 1])
        for k in [k for k in kept if float(presence[k]) >= least][: scenes.limit] or kept[:1]
    ]
    return merge(_apart(objects))


def _apart(objects: Sequence[Prediction]) -> list[Prediction]:
    """Predictions, the likeliest first, without the pixels that a likelier one has."""
    taken = np.zeros_like(objects[0].candidate)
    left = []
    for one in objects:
        left.append(replace(one, mask=one.mask & ~taken, candidate=one.candidate & ~taken))
        taken = taken | one.candidate
    return left


def _judge(scenes: Scenes, row: int, logits: Tensor) -> Evidence:
    """Of (n, hm, wm) masks in one photo."""
    count = len(logits)
    told_by = recognisable([scenes.batch.embeddings[row]], scenes.sam.device)
    return gather(
        told_by.expand(count, -1, -1, -1),
        logits,
        scenes.valid[row][None].expand(count, -1, -1),
        scenes.state.appearance,
        negatives=scenes.negatives,
    )


def _own(first: Prediction, presence: float, threshold: float) -> Prediction:
    """What the passes have led to, judged anew."""
    absent = is_absent(presence, threshold)
    mask = np.zeros_like(first.candidate) if absent else first.candidate
    stage = ABSENT if absent else first.stage
    if first.stage == ABSENT and not absent:
        stage = STAGE
    return replace(first, mask=mask, presence=presence, stage=stage)


def _proposed(
    scenes: Scenes, row: int, logits: Tensor, score: float, presence: float, box: Tensor
) -> Prediction:
    """A proposal, with the place in it that is most like the object as its point."""
    embedding, batch = scenes.batch.embeddings[row], scenes.batch
    mask = (scenes.sam.upscale(logits[None], embedding)[0] > 0).cpu().numpy()
    covered = prior.mask_coverage(scenes.sam, mask, embedding)
    cells = covered >= covered.amax().clamp(max=prior.FOREGROUND_COVERAGE)
    point = prior.aligned_points(
        batch.similarity[row][None],
        (cells & scenes.valid[row])[None],
        [embedding],
        scenes.sam.image_size,
    )[0, :1]
    corners = np.floor(box.numpy()).astype(np.int64)
    corners[2:] = np.clip(corners[2:], None, [mask.shape[1] - 1, mask.shape[0] - 1])
    return prediction_of(
        embedding,
        mask,
        score,
        presence,
        batch.similarity[row].float().cpu().numpy(),
        point,
        np.ones(1, dtype=np.int64),
        corners,
        STAGE,
        1.0,
        scenes.threshold,
    )


def _as_logits(sam: Promptable, mask: npt.NDArray[np.bool_], embedding: ImageEmbedding) -> Tensor:
    """(H, W) bool -> (hm, wm) that is above 0 where the mask is, as a decoder's logits are."""
    full = torch.from_numpy(mask.astype(np.float32))[None, None]
    height, width = embedding.input_size
    inside = F.interpolate(full, (height, width), mode="area")
    square = F.pad(inside, (0, sam.image_size - width, 0, sam.image_size - height))
    share = F.adaptive_avg_pool2d(square, (sam.mask_size, sam.mask_size))[0, 0]
    return (share - 0.5).to(sam.device)
