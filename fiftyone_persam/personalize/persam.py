"""PerSAM: segment one object in any photo, without training (paper, section 3.2)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from ..errors import BadReferenceError, CheckpointError, PersamError
from ..sam import Contrast, ImageEmbedding, PhotoSource, Prompt, PromptableSam, load_sam
from ..sam.model import DECODE_BATCH, check_batch_size
from . import presence as presence_room
from . import prior
from .assembly import assemble
from .cascade import Outcome, PriorBatch, run_cascade
from .checks import (
    check_embeddings,
    check_switches,
    is_number,
    several_photos,
    several_references_of,
)
from .instances import find_instances
from .prediction import Prediction
from .reference import Reference
from .state import FittedState, check_model, load_state, save_state

Mode = Literal["corrected", "reference"]
SeveralReferences = Literal["max", "mean"]
Self = TypeVar("Self", bound="PerSAM")


class PerSAM:
    """Training-free personalization of a promptable model.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: "corrected", or "reference" for exactly what the released code computes.
        negative_prior: also prompt with the least similar cell, as background.
        guided_attention: bias the decoder's attention by the similarity map (eq. 8).
        semantic_prompt: add the target feature to the decoder's tokens (eq. 10).
        post_refinement: run the two further passes.
        presence_threshold: an object whose presence is below it counts as absent and gets an empty
            mask; 0 keeps every mask. None is 0.1 in corrected mode and 0 in reference mode.
        several_references: how several references become one similarity map: "max" takes the most
            similar one at each cell (views that look different), "mean" their mean.
        max_instances: objects that look the same to find in one photo, at most; corrected mode.

    Raises:
        PersamError: an unknown mode, a threshold outside [0, 1], or a wrong number of instances.
    """

    method = "persam"

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        negative_prior: bool = True,
        guided_attention: bool = True,
        semantic_prompt: bool = True,
        post_refinement: bool = True,
        presence_threshold: float | None = None,
        several_references: SeveralReferences = "max",
        max_instances: int = 1,
    ) -> None:
        if mode not in ("corrected", "reference"):
            raise PersamError(f"mode {mode!r} is not known: use 'corrected' or 'reference'")
        if several_references not in ("max", "mean"):
            raise PersamError(
                f"several_references {several_references!r} is not known: use 'max' or 'mean'"
            )
        if presence_threshold is None:
            presence_threshold = presence_room.DEFAULT_THRESHOLD if mode == "corrected" else 0.0
        if not is_number(presence_threshold) or not 0 <= presence_threshold <= 1:
            raise PersamError(
                f"presence_threshold {presence_threshold!r} is out of range: give one of 0 to 1"
            )
        if not is_number(max_instances, Integral) or max_instances < 1:
            raise PersamError(
                f"max_instances {max_instances!r} is no number of objects: give 1 or more"
            )
        if max_instances > 1 and mode == "reference":
            raise PersamError(
                "mode='reference' finds one object, as the released code: use mode='corrected' "
                "for several instances"
            )
        check_switches(
            negative_prior=negative_prior,
            guided_attention=guided_attention,
            semantic_prompt=semantic_prompt,
            post_refinement=post_refinement,
        )
        self.sam = sam if isinstance(sam, PromptableSam) else load_sam(sam)
        self.mode = mode
        self.negative_prior = negative_prior
        self.guided_attention = guided_attention
        self.semantic_prompt = semantic_prompt
        self.post_refinement = post_refinement
        self.presence_threshold = float(presence_threshold)
        self.several_references = several_references
        self.max_instances = int(max_instances)
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
        """Which values of deep photos become black and white, as in the reference; see `fit`."""
        found = None if self._state is None else self._state.contrast
        return None if found is None else Contrast(*found.tolist())

    @property
    def settings(self) -> dict[str, Any]:
        """The constructor's arguments except the model."""
        return {
            "mode": self.mode,
            "negative_prior": self.negative_prior,
            "guided_attention": self.guided_attention,
            "semantic_prompt": self.semantic_prompt,
            "post_refinement": self.post_refinement,
            "presence_threshold": self.presence_threshold,
            "several_references": self.several_references,
            "max_instances": self.max_instances,
        }

    @torch.inference_mode()
    def fit(
        self: Self,
        reference: Reference | Sequence[Reference],
        embeddings: Sequence[ImageEmbedding] | None = None,
    ) -> Self:
        """Learn the object from one reference or several.

        Args:
            reference: the object, or several photos of the same object.
            embeddings: the references' photos encoded by the same model, if they are at hand.

        Raises:
            BadReferenceError: no reference, or one that holds no object.
        """
        references = several_references_of(reference)
        if embeddings is None:
            embeddings = self.sam.encode([r.photo for r in references])
        check_embeddings(embeddings, self.sam, len(references))
        masks = [self._mask_of(r, e) for r, e in zip(references, embeddings, strict=True)]
        cells = [
            self._foreground(mask, r.mask_value, e)
            for mask, r, e in zip(masks, references, embeddings, strict=True)
        ]
        raw = [prior.mean_feature(e.features, fg) for e, fg in zip(embeddings, cells, strict=True)]
        targets = [self._target(e.features, fg) for e, fg in zip(embeddings, cells, strict=True)]
        levels = [
            presence_room.calibrate(
                prior.similarity_maps(e.features[None], target[None])[0, 0],
                fg,
                prior.valid_cells([e], self.sam.device)[0],
            )
            for e, fg, target in zip(embeddings, cells, targets, strict=True)
        ]
        state = FittedState(
            torch.stack(targets),
            torch.stack(raw),
            torch.tensor(levels, device=self.sam.device),
        )
        known = [r.contrast for r in references if r.contrast is not None]
        contrast = torch.tensor(known[0], dtype=torch.float64) if known else None
        self._state = replace(self._finish(state, embeddings, masks), contrast=contrast)
        return self

    def predict(
        self, images: Sequence[PhotoSource], batch_size: int | None = None
    ) -> list[Prediction]:
        """Segment the object in photos of any size and mode.

        Args:
            images: paths, PIL images or arrays.
            batch_size: photos encoded at once; by device if None.

        Raises:
            PhotoError: a photo cannot be read.
        """
        self.state  # noqa: B018 - fails before the encoder has worked for nothing
        photos = several_photos(images)
        embeddings = self.sam.encode(photos, batch_size, self.contrast)
        return self.predict_embeddings(embeddings)

    @torch.inference_mode()
    def predict_embeddings(
        self, embeddings: Sequence[ImageEmbedding], batch_size: int | None = None
    ) -> list[Prediction]:
        """Segment the object in photos that are encoded already.

        Args:
            embeddings: from the same model's `encode`.
            batch_size: photos decoded at once; by device if None.
        """
        step = check_batch_size(batch_size) or DECODE_BATCH.get(self.sam.device.type, 8)
        predictions: list[Prediction] = []
        for start in range(0, len(embeddings), step):
            chunk = list(embeddings[start : start + step])
            batch, best = self.locate(chunk)
            outcome = run_cascade(
                self.sam,
                batch,
                self._weights(),
                self.post_refinement,
                exact_boxes=self.mode == "reference",
            )
            found = self._predictions(batch, best, outcome)
            predictions += found if self.max_instances == 1 else self._more(batch, best, found)
        return predictions

    @torch.inference_mode()
    def trace(self, embedding: ImageEmbedding) -> tuple[PriorBatch, Outcome]:
        """Every intermediate of one photo: its location prior and all decoder passes."""
        batch, _ = self.locate([embedding])
        exact = self.mode == "reference"
        return batch, run_cascade(self.sam, batch, self._weights(), self.post_refinement, exact)

    def locate(self, embeddings: Sequence[ImageEmbedding]) -> tuple[PriorBatch, Tensor]:
        """Location prior of photos (eq. 5 to 8), no decoding.

        Returns:
            The prior, and (B,) the reference that fits each photo best.
        """
        state, device = self.state, self.sam.device
        check_embeddings(embeddings, self.sam)
        features = torch.stack([e.features.to(device) for e in embeddings])
        valid = prior.valid_cells(embeddings, device)
        maps = prior.similarity_maps(features, state.targets)
        best = maps.masked_fill(~valid[:, None], -torch.inf).flatten(2).amax(dim=2).argmax(dim=1)
        similarity = maps.amax(dim=1) if self.several_references == "max" else maps.mean(dim=1)
        points, bias = self._points_and_bias(similarity, valid, embeddings)
        return self._batch(embeddings, features, similarity, points, bias, best), best

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Save the fitted object (a few kB): safetensors, with the settings as JSON in its header.

        Returns:
            The path written, ".safetensors" added where it was missing.
        """
        header = {
            "method": self.method,
            "settings": self.settings,
            "model": self.sam.name,
            "checkpoint_sha256": self.sam.checkpoint_sha256,
            "embed_dim": self.sam.embed_dim,
            "grid_size": self.sam.grid_size,
            "image_size": self.sam.image_size,
        }
        return save_state(path, self.state, header)

    @classmethod
    def load(cls: type[Self], path: str | os.PathLike[str], sam: PromptableSam | Sam) -> Self:
        """Load what `save` wrote, with its settings.

        Raises:
            CheckpointError: the file is missing, damaged, of another method, or was fitted on
                another model.
        """
        state, header = load_state(path)
        if header.get("method") != cls.method:
            raise CheckpointError(
                f"fitted state {path} is of method {header.get('method')!r}, not {cls.method!r}: "
                "load it with that method's class"
            )
        try:
            loaded = cls(sam, **cast("dict[str, Any]", header.get("settings")))
        except TypeError:
            raise CheckpointError(
                f"fitted state {path} has settings that this version does not know: fit again"
            ) from None
        except PersamError as error:
            raise CheckpointError(f"fitted state {path} cannot be used, {error}") from error
        check_model(path, state, header, loaded.sam)
        loaded._state = state.to(loaded.sam.device)
        return loaded

    # What PerSAM-F does otherwise.

    def _target(self, features: Tensor, foreground: Tensor) -> Tensor:
        mean = prior.mean_feature(features, foreground)
        return mean / mean.norm().clamp_min(1e-12)

    def _finish(
        self,
        state: FittedState,
        embeddings: Sequence[ImageEmbedding],
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> FittedState:
        return state

    def _weights(self) -> Tensor | None:
        return None

    # Shared parts.

    def _batch(
        self,
        embeddings: Sequence[ImageEmbedding],
        features: Tensor,
        similarity: Tensor,
        points: npt.NDArray[np.int64],
        bias: Tensor,
        best: Tensor,
    ) -> PriorBatch:
        """The location prior, without the parts that are switched off."""
        positives, labels = (2, [1, 0]) if self.negative_prior else (1, [1])
        raw = self.state.embeddings
        chosen = raw[best] if self.several_references == "max" else raw.mean(dim=0)
        return PriorBatch(
            embeddings,
            features,
            similarity,
            points[:, :positives],
            np.array(labels, dtype=np.int64),
            bias if self.guided_attention else None,
            chosen.expand(len(embeddings), -1) if self.semantic_prompt else None,
        )

    def _more(self, batch: PriorBatch, best: Tensor, first: list[Prediction]) -> list[Prediction]:
        """Further objects in the photos of a batch whose strongest are known."""
        valid = prior.valid_cells(batch.embeddings, self.sam.device)

        def segment(rows: list[int], blocked: Tensor) -> list[Prediction]:
            chosen = [batch.embeddings[row] for row in rows]
            similarity, free = batch.similarity[rows], valid[rows] & ~blocked
            points = prior.aligned_points(similarity, free, chosen, self.sam.image_size)
            bias = prior.aligned_attention(similarity, free)
            again = self._batch(chosen, batch.features[rows], similarity, points, bias, best[rows])
            outcome = run_cascade(self.sam, again, self._weights(), self.post_refinement)
            return self._predictions(again, best[rows], outcome)

        return find_instances(
            first,
            batch.similarity,
            valid,
            self.state.levels[best],
            self.max_instances,
            segment,
            lambda row, mask: prior.mask_coverage(self.sam, mask, batch.embeddings[row]),
        )

    def _mask_of(self, reference: Reference, embedding: ImageEmbedding) -> npt.NDArray[np.bool_]:
        """The reference's mask; SAM makes it from a box or from points (paper, table 6)."""
        if embedding.original_size != reference.size:
            raise PersamError(
                f"the embedding is of a photo of {embedding.original_size}, the reference of one "
                f"of {reference.size} (height, width): encode the reference's own photo"
            )
        if reference.mask is not None:
            return reference.mask
        prompt = Prompt(embedding, reference.points, reference.labels, reference.box)
        decoded = self.sam.decode([prompt])[0]
        # One point may mean a part or the whole: the best scale decides. A box or several points
        # leave no such doubt, and have the single-mask token.
        lone = reference.points is not None and len(reference.points) == 1
        token = 1 + int(decoded.scores[1:].argmax()) if lone else 0
        mask = (self.sam.upscale(decoded.logits[token][None], embedding)[0] > 0).cpu().numpy()
        if not mask.any():
            raise BadReferenceError(
                f"{self.sam.name} finds nothing at the reference's "
                f"{'box' if reference.box is not None else 'points'}: give a mask instead"
            )
        return mask

    def _foreground(
        self, mask: npt.NDArray[np.bool_], value: int, embedding: ImageEmbedding
    ) -> Tensor:
        if self.mode == "reference":
            return prior.released_foreground(self.sam, mask, value)
        return prior.aligned_foreground(self.sam, mask, embedding)

    def _points_and_bias(
        self, similarity: Tensor, valid: Tensor, embeddings: Sequence[ImageEmbedding]
    ) -> tuple[npt.NDArray[np.int64], Tensor]:
        if self.mode == "reference":
            both = [
                prior.released_prior(self.sam, row, e)
                for row, e in zip(similarity, embeddings, strict=True)
            ]
            return np.stack([p for p, _ in both]), torch.stack([b for _, b in both])
        points = prior.aligned_points(similarity, valid, embeddings, self.sam.image_size)
        return points, prior.aligned_attention(similarity, valid)

    def _predictions(self, batch: PriorBatch, best: Tensor, outcome: Outcome) -> list[Prediction]:
        levels = self.state.levels[best]
        return assemble(self.sam, batch, outcome, levels, self.presence_threshold)
