"""PerSAM-F: ten seconds of tuning, two numbers (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from ..errors import PersamError
from ..options import Option, check_values
from ..sam import PromptableSam
from . import prior
from .cascade_method import CascadeMethod
from .cascade_options import GuidedAttention, Mode, NegativePrior, SemanticPrompt
from .location import ReferenceView
from .method import Effort
from .state import FittedState
from .tuning.examples import Examples, located, other_views
from .tuning.harness import Course, course_of, losses_of, remember
from .tuning.method import LearningRate, Seed, Steps, Views
from .tuning.scales import Tuning, tune_scales

ScaleTuning = Annotated[bool, Option("tune the weights of the mask scales, else all three are 1/3")]
_SECONDS = 0.2  # of 1000 steps
_EVERY = 25  # steps between two judgements by other views


class PerSAMF(CascadeMethod):
    """PerSAM with the decoder's three mask scales weighted as the reference tells.

    In the paper the weights come on top of PerSAM's guidance. The released code drops guided
    attention, semantic prompt and negative point instead, and its target feature is half mean, half
    maximum: that is ``mode="reference"``. ``mode="corrected"`` keeps what is better on both albums
    that it was measured on (`benchmarks/TUNING.md`): the mean as target feature, and the semantic
    prompt.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: "corrected", or "reference" for exactly what the released code computes.
        scale_tuning: tune the weights; otherwise all three stay 1/3.
        steps: optimiser steps.
        lr: learning rate of the first step.
        views: other views of each reference by which the best of the steps is chosen; 0 takes the
            last.
        seed: of the views.
        negative_prior, guided_attention: as in `PerSAM`.
        semantic_prompt: as in `PerSAM`; None is True in corrected mode and False in reference mode.
        options: as in `PerSAM`.

    Raises:
        PersamError: an unknown mode, or a number out of its range.
    """

    name = "persam_f"
    title = "PerSAM-F"
    help = (
        "learns from your mask whether a part or the whole is meant, once; ahead in the paper with "
        "SAM's large models"
    )

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        scale_tuning: ScaleTuning = True,
        steps: Steps = 1000,
        lr: LearningRate = 1e-3,
        views: Views = 0,
        seed: Seed = 0,
        negative_prior: NegativePrior = False,
        guided_attention: GuidedAttention = False,
        semantic_prompt: SemanticPrompt | None = None,
        **options: Any,
    ) -> None:
        given = {
            "scale_tuning": scale_tuning,
            "steps": steps,
            "lr": lr,
            "views": views,
            "seed": seed,
            "semantic_prompt": semantic_prompt,
        }
        check_values(self.options(), given)
        super().__init__(
            sam,
            mode,
            negative_prior=negative_prior,
            guided_attention=guided_attention,
            semantic_prompt=mode != "reference" if semantic_prompt is None else semantic_prompt,
            **options,
        )
        self.scale_tuning = scale_tuning
        self.steps = int(steps)
        self.lr = float(lr)
        self.views = int(views)
        self.seed = int(seed)

    @property
    def tuning(self) -> Tuning:
        """Tuned weights of the scales and the losses on the way there."""
        state = self.state
        weights, losses = state.weights, state.losses
        if weights is None or losses is None:
            raise PersamError("the fitted state has no weights of the mask scales: fit again")
        w0, w1, w2 = (float(w) for w in weights.double())
        rows = [(int(step), dice, focal) for step, dice, focal in losses.tolist()]
        return Tuning((w0, w1, w2), tuple(rows))

    @property
    def course(self) -> Course:
        """How the tuning went."""
        return course_of(self.state)

    @property
    def parameters(self) -> int:
        """Two: the third weight is what they leave of 1."""
        return 2

    @classmethod
    def effort(cls) -> Effort:
        """One pass of the decoder; all steps are taken on its output."""
        return Effort(passes=1, seconds=_SECONDS)

    def target_feature(self, features: Tensor, foreground: Tensor) -> Tensor:
        """The mean (eq. 9); in reference mode half maximum, half mean, as released."""
        if self.prior.exact:
            return prior.peak_mean_feature(features, foreground)
        return prior.mean_feature(features, foreground)

    @torch.no_grad()
    def tune(
        self,
        state: FittedState,
        views: Sequence[ReferenceView],
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> FittedState:
        """Tune on every reference's own decoding, from its own similarity map's best point."""
        maps, targets = [], []
        for number, (view, mask) in enumerate(zip(views, masks, strict=True)):
            seen = located(self, state, [view.embedding], [mask], [number])
            upscaled, target = self._at_tuning_size(seen.decode(self.sam)[0, 1:], seen)
            maps.append(upscaled)
            targets.append(target)
        steps = self.steps if self.scale_tuning else 0
        tuning = tune_scales(maps, targets, steps, self.lr, every=_EVERY if self.views else 0)
        unseen = other_views(self, state, views, masks, self.views if steps else 0, self.seed)
        weights, best, judged = tuning.weights, steps, []
        if unseen is not None:
            logits = unseen.decode(self.sam)[:, 1:]
            for step, there in tuning.path:
                mixed = torch.einsum("s,bshw->bhw", logits.new_tensor(there), logits)
                dice, focal = losses_of(mixed, unseen.targets, unseen.inside)
                judged.append((step, float((dice + focal).mean())))
            best = min(judged, key=lambda one: one[1])[0]
            weights = dict(tuning.path)[best]
        course = Course(tuning.losses, tuple(judged), best)
        tuned = replace(state, weights=torch.tensor(weights, dtype=torch.float64))
        return remember(tuned, course)

    def scale_weights(self) -> Tensor | None:
        """The tuned ones."""
        return self.state.weights

    def _at_tuning_size(self, logits: Tensor, seen: Examples) -> tuple[Tensor, Tensor]:
        """Logits (3, H, W) and mask (H, W) of one photo at one size.

        As released that is the photo's own; corrected mode takes the size inside the model's input
        where the photo is larger: the logits know no more, and a large photo costs no more.
        """
        embedding, target = seen.embeddings[0], torch.from_numpy(seen.masks[0])
        if self.prior.exact or max(embedding.original_size) <= self.sam.image_size:
            return self.sam.upscale(logits, embedding), target.to(self.sam.device)
        # On the CPU: MPS pools areas only at whole ratios.
        share = F.interpolate(target[None, None].float(), embedding.input_size, mode="area")[0, 0]
        inside = (share >= 0.5).to(self.sam.device)
        return self.sam.upscale_to_input(logits, embedding), inside
