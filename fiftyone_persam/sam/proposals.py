"""Masks of whatever is in a photo, without a prompt: candidates for a reference or an object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import PersamError
from ..registry import Registry
from .photos import Photo
from .promptable import Promptable


@dataclass(frozen=True, eq=False)
class Proposal:
    """One thing in a photo.

    Attributes:
        mask: (H, W) bool at the photo's own size.
        score: 0 to 1, how good a mask of a thing it is.
        box: (4,) int64 x0, y0, x1, y1, last pixel included.
    """

    mask: npt.NDArray[np.bool_]
    score: float
    box: npt.NDArray[np.int64]


class Proposer(Protocol):
    """Finds things in a photo.

    Attributes:
        name: what it is called.
        help: one sentence, without a full stop.
    """

    name: ClassVar[str]
    help: ClassVar[str]

    def propose(self, sam: Promptable, photo: Photo, max_proposals: int) -> list[Proposal]:
        """The best proposals, best first.

        Args:
            sam: the model.
            photo: (H, W, 3) uint8 RGB.
            max_proposals: how many, at most.
        """
        ...


class GridProposer:
    """SAM's own: a grid of points, each decoded, filtered by score and stability."""

    name = "grid"
    help = "a grid of point prompts, as Segment Anything has it"
    points_per_side = 32

    def propose(self, sam: Promptable, photo: Photo, max_proposals: int) -> list[Proposal]:
        """See `Proposer.propose`; for models around a ``Sam``."""
        from segment_anything import SamAutomaticMaskGenerator

        module = getattr(sam, "sam", None)
        if module is None:
            raise PersamError(
                f"model {sam.name} has no grid of point prompts: choose another proposer"
            )
        made = SamAutomaticMaskGenerator(module, points_per_side=self.points_per_side)
        found = []
        for one in made.generate(photo):
            mask = one["segmentation"]
            if mask.any():
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                box = np.array([columns[0], rows[0], columns[-1], rows[-1]], np.int64)
                found.append(Proposal(mask, float(one["predicted_iou"]), box))
        return sorted(found, key=lambda one: -one.score)[:max_proposals]


PROPOSERS: Registry[type[Proposer]] = Registry(
    "proposer",
    {"grid": f"{__name__}:GridProposer"},
    required=("name", "help", "propose"),
)
