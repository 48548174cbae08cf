"""PerSAM-F: ten seconds of tuning, two numbers (paper, section 3.3)."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from ..errors import PersamError
from ..sam import ImageEmbedding, PromptableSam
from . import prior
from .checks import check_switches, is_number
from .persam import Mode, PerSAM, SeveralReferences
from .state import FittedState
from .tuning import Tuning, tune_scales


class PerSAMF(PerSAM):
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
            several_references, max_instances: as in `PerSAM`.

    Raises:
        PersamError: an unknown mode, or a number out of its range.
    """

    method = "persam_f"

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        scale_tuning: bool = True,
        steps: int = 1000,
        lr: float = 1e-3,
        negative_prior: bool = False,
        guided_attention: bool = False,
        semantic_prompt: bool = False,
        post_refinement: bool = True,
        presence_threshold: float | None = None,
        several_references: SeveralReferences = "max",
        max_instances: int = 1,
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
        )
        counted = is_number(steps, Integral) and 0 <= steps <= 100_000
        if not counted or not is_number(lr) or not 0 < lr <= 1:
            raise PersamError(f"steps {steps!r} or lr {lr!r} is out of range: use 1000 and 0.001")
        check_switches(scale_tuning=scale_tuning)
        self.scale_tuning = scale_tuning
        self.steps = int(steps)
        self.lr = float(lr)

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments except the model."""
        own = {"scale_tuning": self.scale_tuning, "steps": self.steps, "lr": self.lr}
        return {**super().settings, **own}

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

    def _target(self, features: Tensor, foreground: Tensor) -> Tensor:
        peak = prior.peak_mean_feature(features, foreground)
        return peak / peak.norm().clamp_min(1e-12)

    def _finish(
        self,
        state: FittedState,
        embeddings: Sequence[ImageEmbedding],
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> FittedState:
        """Tune on every reference's own decoding, from its own similarity map's best point."""
        maps, targets = [], []
        for number, (embedding, mask) in enumerate(zip(embeddings, masks, strict=True)):
            logits = self._decode_reference(state, embedding, number)
            upscaled, target = self._at_tuning_size(logits, embedding, mask)
            maps.append(upscaled)
            targets.append(target)
        tuning = tune_scales(maps, targets, self.steps if self.scale_tuning else 0, self.lr)
        return FittedState(
            state.targets,
            state.embeddings,
            state.levels,
            torch.tensor(tuning.weights, dtype=torch.float64),
            torch.tensor(tuning.losses, dtype=torch.float64).reshape(-1, 3),
        )

    def _weights(self) -> Tensor | None:
        return self.state.weights

    def _decode_reference(
        self, state: FittedState, embedding: ImageEmbedding, number: int
    ) -> Tensor:
        """(3, hm, wm) logits of the scales for the reference's own location prior."""
        features = embedding.features.to(self.sam.device)[None]
        valid = prior.valid_cells([embedding], self.sam.device)
        similarity = prior.similarity_maps(features, state.targets[number][None])[:, 0]
        points, bias = self._points_and_bias(similarity, valid, [embedding])
        count = 2 if self.negative_prior else 1
        xy = points[:, :count] * np.asarray(embedding.scale)
        logits, _ = self.sam.decode_tensors(
            features,
            torch.as_tensor(xy, dtype=torch.float32, device=self.sam.device),
            torch.tensor([[1.0, 0.0][:count]], device=self.sam.device),
            attention_bias=bias if self.guided_attention else None,
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
        if self.mode == "reference" or max(embedding.original_size) <= self.sam.image_size:
            return self.sam.upscale(logits, embedding), target.to(self.sam.device)
        # On the CPU: MPS pools areas only at whole ratios.
        share = F.interpolate(target[None, None].float(), embedding.input_size, mode="area")[0, 0]
        inside = (share >= 0.5).to(self.sam.device)
        return self.sam.upscale_to_input(logits, embedding), inside
