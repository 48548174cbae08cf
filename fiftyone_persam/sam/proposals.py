"""Masks of whatever is in a photo, without a prompt: candidates for a reference or an object."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from ..errors import PersamError
from ..registry import Registry
from .boxes import tight_box
from .photos import Photo, PhotoSource, load_photo
from .promptable import Promptable

DEFAULT_PROPOSER = "discovery"
DEFAULT_COUNT = 100
MAX_COUNT = 1000
SAME_MASK = 0.8  # mask IoU above which the worse of two masks repeats the better one
SMALLEST = 16  # pixels of a photo
PLAIN = 3  # levels of 255 that the pixels of a photo with nothing in it differ by, at most


@dataclass(frozen=True, eq=False)
class Proposal:
    """One thing in a photo.

    Attributes:
        crop: (h, w) bool, the mask inside its box.
        score: 0 to 1, how good a mask of a thing it is.
        box: (4,) int64 x0, y0, x1, y1, last pixel included.
        size: (H, W) of the photo.
    """

    crop: npt.NDArray[np.bool_]
    score: float
    box: npt.NDArray[np.int64]
    size: tuple[int, int]

    @property
    def mask(self) -> npt.NDArray[np.bool_]:
        """(H, W) bool at the photo's own size; made anew each time."""
        whole = np.zeros(self.size, dtype=np.bool_)
        x0, y0, x1, y1 = self.box
        whole[y0 : y1 + 1, x0 : x1 + 1] = self.crop
        return whole

    @property
    def area(self) -> int:
        """Pixels of the photo."""
        return int(np.count_nonzero(self.crop))

    @classmethod
    def of(
        cls,
        mask: npt.NDArray[np.bool_],
        score: float,
        offset: tuple[int, int] = (0, 0),
        size: tuple[int, int] | None = None,
    ) -> Proposal | None:
        """A mask as a proposal; None where it is empty.

        Args:
            mask: (h, w) bool.
            score: of the proposal.
            offset: x, y of the mask's first pixel in the photo.
            size: (H, W) of the photo; the mask's own if None.
        """
        tight = tight_box(mask)
        if tight is None:
            return None
        x0, y0, x1, y1 = tight
        box = np.array([x0, y0, x1 - 1, y1 - 1], np.int64) + np.array([*offset, *offset], np.int64)
        crop = np.ascontiguousarray(mask[y0:y1, x0:x1])
        shape = mask.shape if size is None else size
        return cls(crop, float(score), box, (int(shape[0]), int(shape[1])))


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


PROPOSERS: Registry[type[Proposer]] = Registry(
    "proposer",
    {
        "discovery": f"{__package__}.valid_prompts:DiscoveryProposer",
        "grid": f"{__package__}.grid:GridProposer",
    },
    required=("name", "help", "propose"),
)


def propose_in(
    image: PhotoSource,
    model: Any = "sam_lite",
    max_proposals: int = DEFAULT_COUNT,
    proposer: str = DEFAULT_PROPOSER,
    device: Any = "auto",
) -> list[Proposal]:
    """Masks of things in one photo, best first.

    Args:
        image: a path, PIL image or array; see `load_photo`.
        model: a model's name, or a model.
        max_proposals: how many, 1 to 1,000.
        proposer: "discovery" or "grid", or another of `PROPOSERS`.
        device: see `load_sam`.

    Returns:
        Proposals; none where nothing was found.

    Raises:
        PersamError: something that was given is wrong.
        PhotoError: the photo cannot be read.
        CheckpointError: the model's checkpoint is not there.
    """
    from .registry import load_sam

    check_count(max_proposals)
    chosen = PROPOSERS[proposer]()
    photo = load_photo(image)
    return found_in(chosen, load_sam(model, device), photo, max_proposals)


def found_in(proposer: Proposer, sam: Promptable, photo: Photo, count: int) -> list[Proposal]:
    """A proposer's ``count`` best proposals; none in a photo of one colour, whatever it says.

    A model finds things in plain white as well.
    """
    return [] if is_plain(photo) else proposer.propose(sam, photo, count)


def is_plain(photo: Photo) -> bool:
    """Whether a photo has nothing in it: its pixels are all of one colour."""
    values = photo.reshape(-1, photo.shape[-1])
    # Most photos are told by a few of their pixels, which costs nothing.
    return all(
        bool((np.ptp(some, axis=0) <= PLAIN).all())
        for some in (values[:: len(values) // 64 + 1], values)
    )


def mask_iou(a: Proposal, b: Proposal) -> float:
    """IoU of two proposals of one photo."""
    x0, y0 = np.maximum(a.box[:2], b.box[:2])
    x1, y1 = np.minimum(a.box[2:], b.box[2:])
    if x1 < x0 or y1 < y0:
        return 0.0
    parts = [
        one.crop[y0 - one.box[1] : y1 - one.box[1] + 1, x0 - one.box[0] : x1 - one.box[0] + 1]
        for one in (a, b)
    ]
    shared = int(np.count_nonzero(parts[0] & parts[1]))
    return shared / (a.area + b.area - shared)


def check_count(value: Any) -> int:
    """The number of proposals; PersamError unless it is 1 to `MAX_COUNT`."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or not 1 <= value <= MAX_COUNT:
        raise PersamError(
            f"max_proposals {value!r} is not a number of proposals: give 1 to {MAX_COUNT}"
        )
    return int(value)
