"""Is the object in the photo at all? SAM segments something either way.

The reference calibrates the answer: its own object cells say how similar to the target "the
object" is, its own background cells how similar "something else" is. Presence places the region
that was segmented in a new photo between the two.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Safe with every model; `benchmarks.presence` measures what a higher one would find and lose.
DEFAULT_THRESHOLD = 0.1
_MIN_GAP = 0.05


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
    """How much the segmented regions look like the object.

    Args:
        similarity: (B, h, w) of the photos.
        logits: (B, hm, wm) of their masks.
        valid: (B, h, w) bool, the photos' cells.
        levels: (B, 2) object and background level of the reference that each is compared with.

    Returns:
        (B,) in [0, 1]; 0 for an empty mask.
    """
    size = (similarity.shape[-2], similarity.shape[-1])
    share = F.adaptive_avg_pool2d((logits > 0).float()[None], size)[0] * valid
    covered = share.sum(dim=(1, 2))
    level = (similarity * share).sum(dim=(1, 2)) / covered.clamp_min(1e-6)
    inside, outside = levels.unbind(dim=1)
    relative = (level - outside) / (inside - outside)
    return torch.where(covered > 0, relative.clamp(0, 1), 0.0)
