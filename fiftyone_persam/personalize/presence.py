"""Is the object in the photo at all? SAM segments something either way.

A method gathers `Evidence`, and `probability` alone says what it is worth. The reference calibrates
the answer: its own object cells say how similar to the target "the object" is, its own background
cells how similar "something else" is. Presence places the region that was segmented in a new photo
between the two. `threshold.is_absent` compares it with the threshold.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Safe with every model; `benchmarks.presence` measures what a higher one would find and lose.
DEFAULT_THRESHOLD = 0.1
_MIN_GAP = 0.05


@dataclass(frozen=True, eq=False)
class Evidence:
    """What speaks for the object's being in each of B photos.

    Attributes:
        level: (B,) mean similarity inside the mask; 0 where that is empty.
        covered: (B,) cells that the mask covers.
        inside: (B,) similarity of the object's own cells in the reference.
        outside: (B,) similarity of all other cells in the reference; below ``inside``.
        scores: (B,) predicted IoU of the mask, if there is one.
        agreement: (B,) IoU of the first pass's mask and the last one's, if there are passes.
    """

    level: Tensor
    covered: Tensor
    inside: Tensor
    outside: Tensor
    scores: Tensor | None = None
    agreement: Tensor | None = None


def gather(
    similarity: Tensor,
    logits: Tensor,
    valid: Tensor,
    levels: Tensor,
    scores: Tensor | None = None,
    agreement: Tensor | None = None,
) -> Evidence:
    """The evidence that similarity maps and masks give.

    Args:
        similarity: (B, h, w) of the photos.
        logits: (B, hm, wm) of their masks.
        valid: (B, h, w) bool, the photos' cells.
        levels: (B, 2) object and background level of the reference that each is compared with.
        scores: see `Evidence`.
        agreement: see `Evidence`.
    """
    size = (similarity.shape[-2], similarity.shape[-1])
    share = F.adaptive_avg_pool2d((logits > 0).float()[None], size)[0] * valid
    covered = share.sum(dim=(1, 2))
    level = (similarity * share).sum(dim=(1, 2)) / covered.clamp_min(1e-6)
    inside, outside = levels.unbind(dim=1)
    return Evidence(level, covered, inside, outside, scores, agreement)


def probability(evidence: Evidence) -> Tensor:
    """(B,) in [0, 1], how certainly the object is in each photo; 0 for an empty mask."""
    relative = (evidence.level - evidence.outside) / (evidence.inside - evidence.outside)
    return torch.where(evidence.covered > 0, relative.clamp(0, 1), 0.0)


def calibrate(similarity: Tensor, foreground: Tensor, valid: Tensor) -> tuple[float, float]:
    """Similarity levels of the object and of the rest, in the reference.

    Args:
        similarity: (h, w) of the reference to its own target.
        foreground: (h, w) bool, the object's cells.
        valid: (h, w) bool, the photo's cells.

    Returns:
        Mean over the object's cells and mean over all others.
    """
    rest = valid & ~foreground
    inside = float(similarity[foreground].mean())
    # A photo that is all object says nothing of anything else.
    outside = float(similarity[rest].mean()) if rest.any() else 0.0
    return inside, min(outside, inside - _MIN_GAP)


def presence(similarity: Tensor, logits: Tensor, valid: Tensor, levels: Tensor) -> Tensor:
    """How much the segmented regions look like the object: `probability` of `gather`'s evidence.

    Returns:
        (B,) in [0, 1]; 0 for an empty mask.
    """
    return probability(gather(similarity, logits, valid, levels))
