"""Proposals from a grid of point prompts, as Segment Anything has it."""

from __future__ import annotations

from typing import ClassVar

from ..errors import PersamError
from .photos import Photo
from .promptable import Promptable
from .proposals import Proposal
from .valid_prompts import knows


class GridProposer:
    """SAM's own: a grid of points, each decoded, filtered by score and stability."""

    name = "grid"
    help = "a grid of point prompts, as Segment Anything has it"
    points_per_side = 32
    lite_filters: ClassVar[dict[str, float]] = {
        "pred_iou_thresh": 0.0,
        "stability_score_thresh": 0.6,
    }
    """What suits sam_lite, which never predicts as much as Segment Anything asks for (0.88, 0.95):
    of its grid's masks these keep the best AR on photos kept out of the training."""

    def propose(self, sam: Promptable, photo: Photo, max_proposals: int) -> list[Proposal]:
        """See `Proposer.propose`; for models around a ``Sam``."""
        from segment_anything import SamAutomaticMaskGenerator

        module = getattr(sam, "sam", None)
        if module is None:
            raise PersamError(
                f"model {sam.name} has no grid of point prompts: choose another proposer"
            )
        filters = self.lite_filters if knows(sam) else {}
        made = SamAutomaticMaskGenerator(module, points_per_side=self.points_per_side, **filters)
        found = []
        for one in made.generate(photo):
            proposal = Proposal.of(one["segmentation"], float(one["predicted_iou"]))
            if proposal is not None:
                found.append(proposal)
        return sorted(found, key=lambda one: -one.score)[:max_proposals]
