"""PerSAM-F: ten seconds of tuning, two numbers (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from ..errors import PersamError
from ..options import Option, check_values
from ..sam import ImageEmbedding, PromptableSam
from . import prior
from .cascade_method import CascadeMethod
from .cascade_options import (
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
from .location import ReferenceView
from .state import FittedState
from .tuning import Tuning, tune_scales

ScaleTuning = Annotated[bool, Option("tune the weights of the mask scales, else all three are 1/3")]
Steps = Annotated[
    int,
    Option("optimiser steps", low=0, high=100_000, advice="use 1000, or from 0 to 100000"),
]
LearningRate = Annotated[
    float,
    Option(
        "learning rate of the first step",
        low=0,
        high=1,
        above=True,
        advice="use 0.001, or another above 0 and at most 1",
    ),
]


class PerSAMF(CascadeMethod):
    """PerSAM with the decoder's three mask scales weighted as the reference tells.

    As released it has no guided attention, no semantic prompt and no negative point, and its
    target feature is half mean, half maximum.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: "corrected", or "reference" for exactly what the released code computes.
        scale_tuning: tune the weights; otherwise all three stay 1/3.
        steps: optimiser steps.
        lr: learning rate of the first step.
        negative_prior, guided_attention, semantic_prompt, post_refinement, presence_threshold,
            several_references, max_instances, location_prior, positive_points: as in `PerSAM`.

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
        negative_prior: NegativePrior = False,
        guided_attention: GuidedAttention = False,
        semantic_prompt: SemanticPrompt = False,
        post_refinement: PostRefinement = True,
        presence_threshold: PresenceThreshold = None,
        several_references: SeveralReferences = "max",
        max_instances: MaxInstances = 1,
        location_prior: PriorName = None,
        positive_points: PositivePoints = None,
    ) -> None:
        super().__init__(
            sam,
            mode,
            negative_prior=negative_prior,
            guided_attention=guided_attention,
            semantic_prompt=semantic_prompt,
            post_refinement=post_refinement,
            presence_threshold=presence_threshold,
            several_references=several_references,
            max_instances=max_instances,
            location_prior=location_prior,
            positive_points=positive_points,
        )
        given = {"scale_tuning": scale_tuning, "steps": steps, "lr": lr}
        check_values(self.options(), given)
        self.scale_tuning = scale_tuning
        self.steps = int(steps)
        self.lr = float(lr)

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

    def target_feature(self, features: Tensor, foreground: Tensor) -> Tensor:
        """Half maximum, half mean, as released."""
        return prior.peak_mean_feature(features, foreground)

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
            logits = self._decode_reference(state, view, number)
            upscaled, target = self._at_tuning_size(logits, view.embedding, mask)
            maps.append(upscaled)
            targets.append(target)
        tuning = tune_scales(maps, targets, self.steps if self.scale_tuning else 0, self.lr)
        return replace(
            state,
            weights=torch.tensor(tuning.weights, dtype=torch.float64),
            losses=torch.tensor(tuning.losses, dtype=torch.float64).reshape(-1, 3),
        )

    def scale_weights(self) -> Tensor | None:
        """The tuned ones."""
        return self.state.weights

    def _decode_reference(self, state: FittedState, view: ReferenceView, number: int) -> Tensor:
        """(3, hm, wm) logits of the scales for the reference's own location prior."""
        embedding, device = view.embedding, self.sam.device
        valid = view.valid[None]
        maps = self.prior.similarity(view.features[None], valid, state.targets, state.prior)
        guide = self.guide(maps[:, number], valid, [embedding])
        points, labels = self.prompts(guide)
        xy = points * np.asarray(embedding.scale)
        logits, _ = self.sam.decode_tensors(
            embedding.features.to(device)[None],
            torch.as_tensor(xy, dtype=torch.float32, device=device),
            torch.as_tensor(labels, dtype=torch.float32, device=device)[None],
            attention_bias=guide.attention_bias if self.guided_attention else None,
            token_offset=state.embeddings[number][None] if self.semantic_prompt else None,
        )
        return logits[0, 1:]

    def _at_tuning_size(
        self, logits: Tensor, embedding: ImageEmbedding, mask: npt.NDArray[np.bool_]
    ) -> tuple[Tensor, Tensor]:
        """Logits (3, H, W) and mask (H, W) at one size.

        As released that is the photo's own; corrected mode takes the size inside the model's input
        where the photo is larger: the logits know no more, and a large photo costs no more.
        """
        target = torch.from_numpy(mask)
        if self.prior.exact or max(embedding.original_size) <= self.sam.image_size:
            return self.sam.upscale(logits, embedding), target.to(self.sam.device)
        # On the CPU: MPS pools areas only at whole ratios.
        share = F.interpolate(target[None, None].float(), embedding.input_size, mode="area")[0, 0]
        inside = (share >= 0.5).to(self.sam.device)
        return self.sam.upscale_to_input(logits, embedding), inside
