"""How a method that decodes in passes is set up: its options, and what its kin do otherwise.

The options of `cascade_options` are checked against one another and against the model here. The
hooks that kin change are the target feature, what is tuned in the end, the weights of the mask
scales, the prompt tokens and the decoder.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from ..errors import PersamError
from ..options import check_values
from ..sam import Contrast, Promptable, PromptableSam, load_sam
from . import prior
from .candidates import CandidateSource
from .cascade_options import (
    Candidates,
    GuidedAttention,
    MaxInstances,
    Mode,
    NegativePrior,
    PositivePoints,
    PostRefinement,
    PresenceThreshold,
    PriorName,
    SemanticPrompt,
    SeveralReferences,
)
from .location import LocationPrior, ReferenceView
from .method import Effort, Method
from .registries import LOCATION_PRIORS, source_of
from .session import SequenceSession
from .state import FittedState

MODES = {"corrected": "hypercolumns", "reference": "released"}
"""The location prior of each mode."""
POSITIVE_POINTS = 3
"""Positive points of corrected mode."""
CONTRAST = "contrast"  # names the reference's window of values among what is saved

logger = logging.getLogger(__name__)


def check_together(
    mode: str = "corrected",
    location_prior: str | None = None,
    candidates: str | None = None,
    max_instances: int = 1,
    positive_points: int | None = None,
    **others: Any,
) -> None:
    """Raise PersamError if values that are right by themselves cannot be had together.

    Args:
        mode: as of the methods that decode in passes, and so is the rest.
        location_prior: another one than the mode's.
        candidates: another source than the mode's.
        max_instances: how many to find.
        positive_points: how many to prompt with.
        others: options that go with any other.
    """
    if location_prior is not None and mode == "reference":
        raise PersamError(
            "mode='reference' locates the object as the released code does: use "
            "mode='corrected' for another location prior"
        )
    if candidates not in (None, "repeat") and mode == "reference":
        raise PersamError(
            "mode='reference' finds one object, as the released code: use mode='corrected' for "
            f"candidates={candidates!r}"
        )
    if max_instances > 1 and not LOCATION_PRIORS[location_prior or MODES[mode]].suppresses:
        raise PersamError(
            f"mode={mode!r} finds one object, as the released code: use mode='corrected' for "
            "several instances"
        )
    if positive_points not in (None, 1) and mode == "reference":
        raise PersamError(
            "mode='reference' prompts with one positive point, as the released code: use "
            "mode='corrected' for several"
        )


class CascadeSettings(Method):
    """The settings and hooks of `CascadeMethod`.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: "corrected", or "reference" for exactly what the released code computes.
        negative_prior: also prompt with the least similar cell, as background.
        guided_attention: bias the decoder's attention by the similarity map (eq. 8).
        semantic_prompt: add the target feature to the decoder's tokens (eq. 10).
        post_refinement: run the two further passes.
        presence_threshold: an object whose presence is below it counts as absent and gets an empty
            mask; 0 keeps every mask. None is 0.5 in corrected mode and 0 in reference mode.
        several_references: how several references become one similarity map: "max" takes the most
            similar one at each cell (views that look different), "mean" their mean, "agreement" a
            mean in which a reference counts the more, the more it looks like the others, "parts"
            the parts of all of them that are most like the cell; see `part_sets`.
        max_instances: objects that look the same to find in one photo, at most; corrected mode.
        location_prior: a name in `LOCATION_PRIORS`; the mode's own if None. Corrected mode.
        positive_points: most similar places of one object to prompt with. None is 3 in corrected
            mode; reference mode has 1.
        candidates: a name in `CANDIDATES`, where the objects of a photo come from beside what the
            location prior leads to; None is as `registries.source_of` says. Corrected mode.

    Raises:
        PersamError: an unknown mode or location prior, a threshold outside [0, 1], a wrong number
            of instances, or options that contradict one another.
    """

    takes_negatives = True
    looks_smaller = True
    """Whether `fit` encodes each reference once more, at smaller sizes, for presence's sake; who is
    after masks alone can spare it."""

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        negative_prior: NegativePrior = True,
        guided_attention: GuidedAttention = True,
        semantic_prompt: SemanticPrompt = True,
        post_refinement: PostRefinement = True,
        presence_threshold: PresenceThreshold = None,
        several_references: SeveralReferences = "max",
        max_instances: MaxInstances = 1,
        location_prior: PriorName = None,
        positive_points: PositivePoints = None,
        candidates: Candidates = None,
    ) -> None:
        given = {
            "mode": mode,
            "negative_prior": negative_prior,
            "guided_attention": guided_attention,
            "semantic_prompt": semantic_prompt,
            "post_refinement": post_refinement,
            "presence_threshold": presence_threshold,
            "several_references": several_references,
            "max_instances": max_instances,
            "location_prior": location_prior,
            "positive_points": positive_points,
            "candidates": candidates,
        }
        check_values(self.options(), given)
        check_together(mode, location_prior, candidates, max_instances, positive_points)
        self.prior: LocationPrior = LOCATION_PRIORS[location_prior or MODES[mode]]()
        if presence_threshold is None:
            presence_threshold = self.prior.presence_threshold
        self.sam = load_sam(sam)
        if self.prior.exact and self.sam.dtype != torch.float32:
            logger.warning(
                "mode='reference' on a model in %s is not exactly what the released code computes: "
                "load the model with dtype='float32'",
                str(self.sam.dtype).removeprefix("torch."),
            )
        self.mode = mode
        self.negative_prior = negative_prior
        self.guided_attention = guided_attention
        self.semantic_prompt = semantic_prompt
        self.post_refinement = post_refinement
        self.presence_threshold = float(presence_threshold)
        self.several_references = several_references
        self.max_instances = int(max_instances)
        self.location_prior = location_prior
        self.positive_points = positive_points
        self.candidates = candidates
        self._source: CandidateSource = source_of(candidates, self.sam, self.max_instances)
        self._state: FittedState | None = None

    @property
    def state(self) -> FittedState:
        """What `fit` found.

        Raises:
            PersamError: nothing has been fitted yet.
        """
        if self._state is None:
            raise PersamError(
                f"{type(self).__name__} knows no object yet: call fit(reference) first"
            )
        return self._state

    @property
    def contrast(self) -> Contrast | None:
        """Which values of photos of more than 8 bits become black and white: the reference's."""
        window = None if self._state is None else self._state.more.get(CONTRAST)
        return None if window is None else Contrast(*window.tolist())

    @property
    def parameters(self) -> int:
        """How many numbers fitting tunes."""
        return 0

    @classmethod
    def effort(cls) -> Effort:
        """See `Method.effort`: nothing, unless a kin tunes."""
        return Effort()

    @property
    def positives(self) -> int:
        """Positive points of one object."""
        return self.positive_points or (1 if self.mode == "reference" else POSITIVE_POINTS)

    # What kin do otherwise. -----------------------------------------------------------------------

    @classmethod
    def sequence_session(cls, methods: Mapping[str, Any]) -> SequenceSession:
        """A new session that follows several objects; see `session.sequence_session`.

        Args:
            methods: object -> fitted method of this kind, all in one mode.
        """
        from .video_released import ReleasedSession
        from .video_tracking import TrackingSession

        first = next(iter(methods.values()))
        if first.mode == "reference":
            return ReleasedSession(methods, first.scale_weights() is not None)
        return TrackingSession(methods)

    def target_feature(self, features: Tensor, foreground: Tensor) -> Tensor:
        """(C, h, w) features and (h, w) bool cells -> (C,), to be normalised (eq. 9)."""
        return prior.mean_feature(features, foreground)

    def tune(
        self,
        state: FittedState,
        views: Sequence[ReferenceView],
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> FittedState:
        """The last step of fitting. Gradients are on, and no tensor is of inference mode.

        Args:
            state: found so far; not yet the method's own.
            views: R references.
            masks: (H, W) bool of each, at its photo's own size.
        """
        return state

    def scale_weights(self) -> Tensor | None:
        """(3,) of the mask scales; None for the single-mask token."""
        return None

    def prompt_tokens(self) -> Tensor | None:
        """(T, C) further prompt tokens of the first pass, or None."""
        return None

    def decoder(self) -> Promptable:
        """The model as it decodes photos; with what was tuned, where something of it was."""
        return self.sam
