"""Several references as one set of parts: what any of them shows of the object counts.

A mean feature blurs what views have not in common; here every reference gives its parts, and a
place is as similar as the parts of all references that are most like it. What the location prior
does for a reference, such as leaving out its background, it does for each of its parts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from . import presence
from .appearance import PARTS, parts_of
from .location import LocationPrior, ReferenceView
from .state import FittedState

SETS = "sets.parts"
"""Names the parts of all references among what is saved."""
NEAREST = 5
"""Parts whose similarities make a place's, as in `PartsPrior`."""


def with_sets(
    state: FittedState, prior: LocationPrior, views: Sequence[ReferenceView]
) -> FittedState:
    """A state that knows the parts of its references, with the similarity levels of their map."""
    parts = torch.stack([parts_of(v.features, v.foreground, PARTS) for v in views])
    known = replace(state, more={**state.more, SETS: parts})
    levels = []
    for view in views:
        found = similarity_to_sets(known, prior, view.features[None], view.valid[None])
        levels.append(presence.calibrate(found[0], view.foreground, view.valid))
    return replace(known, levels=torch.tensor(levels, device=state.levels.device))


def similarity_to_sets(
    state: FittedState, prior: LocationPrior, matching: Tensor, valid: Tensor
) -> Tensor:
    """How much each place looks like the parts of all references that are most like it.

    Args:
        state: from `with_sets`.
        prior: the location prior; of one that keeps something else than a row for each reference,
            the most similar reference counts.
        matching: (B, C, h, w), what objects are compared by.
        valid: (B, h, w) bool.

    Returns:
        (B, h, w) float32, about -1 to 1.
    """
    parts = state.more[SETS]
    count, each = parts.shape[:2]
    fitted: Mapping[str, Tensor] = {
        name: one.repeat_interleave(each, dim=0)
        for name, one in state.prior.items()
        if one.ndim == 2 and len(one) == count
    }
    if len(fitted) < len(state.prior):
        return prior.similarity(matching, valid, state.targets, state.prior).amax(dim=1)
    maps = prior.similarity(matching, valid, parts.flatten(0, 1), fitted)
    return maps.topk(min(NEAREST, maps.shape[1]), dim=1).values.mean(dim=1)
