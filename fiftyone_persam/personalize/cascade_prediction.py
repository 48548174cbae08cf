"""From encoded photos to predictions, by a location prior and decoder passes (section 3.2)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..sam import ImageEmbedding
from ..sam.model import DECODE_BATCH, check_batch_size
from . import part_sets, prior
from .appearance import Appearance, together
from .assembly import assemble
from .candidates import Scenes
from .cascade import Outcome, PriorBatch, run_cascade
from .cascade_settings import CascadeSettings
from .checks import check_embeddings
from .location import Guide
from .prediction import Prediction

# Differences of cosine that make one reference count e times as much as another.
_AGREEMENT_SCALE = 0.1

CANDIDATE = "candidates."
"""Begins the names of what the source of candidates remembers."""


class CascadePrediction(CascadeSettings):
    """How `CascadeMethod` segments photos, once it is fitted."""

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
            batch, best = self.locate(list(embeddings[start : start + step]))
            found = self._predictions(batch, self._decode(batch))
            predictions += self._more(batch, best, found) if self._has_more else found
        return predictions

    @property
    def _has_more(self) -> bool:
        """Whether what the location prior leads to is not all."""
        return self.max_instances > 1 or self._source.always

    @torch.inference_mode()
    def trace(self, embedding: ImageEmbedding) -> tuple[PriorBatch, Outcome]:
        """Every intermediate of one photo: its location prior and all decoder passes."""
        batch, _ = self.locate([embedding])
        return batch, self._decode(batch)

    def locate(self, embeddings: Sequence[ImageEmbedding]) -> tuple[PriorBatch, Tensor]:
        """Location prior of photos (eq. 5 to 8), no decoding.

        Returns:
            The prior, and (B,) the reference that fits each photo best.
        """
        features, similarity, valid, best = self.similarities(embeddings)
        guide = self.guide(similarity, valid, embeddings)
        return self._batch(embeddings, features, similarity, guide, best), best

    def similarities(
        self, embeddings: Sequence[ImageEmbedding]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """How much each place of B photos looks like the object (eq. 5 and 6).

        Returns:
            (B, C, h, w) features for the decoder, (B, h, w) similarity, (B, h, w) bool cells of the
            photos, and (B,) the reference that fits each photo best.
        """
        check_embeddings(embeddings, self.sam)
        features, matching, valid = self.features_of(embeddings)
        state = self.state
        maps = self.prior.similarity(matching, valid, state.targets, state.prior)
        similarity, best = self.combined(maps, valid, matching)
        return features, similarity, valid, best

    def features_of(self, embeddings: Sequence[ImageEmbedding]) -> tuple[Tensor, Tensor, Tensor]:
        """(B, C, h, w) features for the decoder and to match by, and (B, h, w) bool cells."""
        device = self.sam.device
        features = torch.stack([e.features.to(device) for e in embeddings])
        found = [self.prior.features(e) for e in embeddings]
        matching = features
        if found[0] is not embeddings[0].features:
            matching = torch.stack([one.to(device) for one in found])
        return features, matching, prior.valid_cells(embeddings, device)

    def combined(self, maps: Tensor, valid: Tensor, matching: Tensor) -> tuple[Tensor, Tensor]:
        """(B, R, h, w) maps of the references as one, and (B,) the best reference.

        What looks more like a negative reference falls behind by as much.
        """
        state = self.state
        best = maps.masked_fill(~valid[:, None], -torch.inf).flatten(2).amax(dim=2).argmax(dim=1)
        if self.several_references == "parts":
            similarity = part_sets.similarity_to_sets(state, self.prior, matching, valid)
        else:
            similarity = self._combined(maps)
        if state.negative_targets is not None:
            rival = self.prior.similarity(
                matching, valid, state.negative_targets, state.negative_prior
            ).amax(dim=1)
            similarity = similarity - (rival - similarity).clamp_min(0)
        return similarity, best

    def predict_located(
        self,
        embeddings: Sequence[ImageEmbedding],
        features: Tensor,
        similarity: Tensor,
        valid: Tensor,
        best: Tensor,
        rivals: Appearance | None = None,
    ) -> tuple[list[Prediction], Tensor]:
        """Predictions of B photos from their similarity maps.

        Args:
            embeddings: the photos.
            features: see `similarities`.
            similarity: see `similarities`.
            valid: see `similarities`.
            best: see `similarities`.
            rivals: appearance of other objects, beside that of negative references.

        Returns:
            The predictions, and (B, h, w) how sure of each place they are: the mask's logits, or
            the similarity where another source of candidates has a say.
        """
        guide = self.guide(similarity, valid, embeddings)
        batch = self._batch(embeddings, features, similarity, guide, best)
        outcome = self._decode(batch)
        found = self._predictions(batch, outcome, rivals)
        if not self._has_more:
            return found, outcome.logits
        return self._more(batch, best, found, rivals), similarity

    def guide(
        self, similarity: Tensor, valid: Tensor, embeddings: Sequence[ImageEmbedding]
    ) -> Guide:
        """The location prior's points, as many as asked for, and attention bias."""
        return self.prior.guide(self.sam, similarity, valid, embeddings, self.positives)

    def prompts(self, guide: Guide) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(B, n, 2) points of photos and their (n,) labels, without the part that is off."""
        labels = np.ones(guide.points.shape[1], dtype=np.int64)
        labels[-1] = 0
        count = len(labels) if self.negative_prior else len(labels) - 1
        return guide.points[:, :count], labels[:count]

    def _weights(self) -> Tensor:
        """(R,) how much each reference counts, summing to 1."""
        targets = self.state.targets.float()
        count = len(targets)
        if self.several_references == "mean" or count < 3:  # two agree with one another as much
            return torch.full((count,), 1 / count, device=targets.device)
        alike = targets @ targets.T
        agreement = (alike.sum(dim=1) - alike.diagonal()) / (count - 1)
        return torch.softmax(agreement / _AGREEMENT_SCALE, dim=0)

    def _combined(self, maps: Tensor) -> Tensor:
        """(B, R, h, w) maps of the references -> (B, h, w)."""
        if self.several_references == "max":
            return maps.amax(dim=1)
        return torch.einsum("r,brhw->bhw", self._weights(), maps)

    def _decode(self, batch: PriorBatch) -> Outcome:
        return run_cascade(
            self.decoder(),
            batch,
            self.scale_weights(),
            self.post_refinement,
            exact=self.prior.exact,
        )

    def _batch(
        self,
        embeddings: Sequence[ImageEmbedding],
        features: Tensor,
        similarity: Tensor,
        guide: Guide,
        best: Tensor,
    ) -> PriorBatch:
        """The location prior, without the parts that are switched off."""
        points, labels = self.prompts(guide)
        raw = self.state.embeddings
        one = self.several_references in ("max", "parts")
        chosen = raw[best] if one else self._weights() @ raw
        return PriorBatch(
            embeddings,
            features,
            similarity,
            points,
            labels,
            guide.attention_bias if self.guided_attention else None,
            chosen.expand(len(embeddings), -1) if self.semantic_prompt else None,
            self.prompt_tokens(),
        )

    def _more(
        self,
        batch: PriorBatch,
        best: Tensor,
        first: list[Prediction],
        rivals: Appearance | None = None,
    ) -> list[Prediction]:
        """What the source of candidates makes of a batch whose strongest objects are known."""
        valid = prior.valid_cells(batch.embeddings, self.sam.device)

        def segment(rows: list[int], blocked: Tensor) -> list[Prediction]:
            chosen = [batch.embeddings[row] for row in rows]
            similarity, free = batch.similarity[rows], valid[rows] & ~blocked
            guide = self.guide(similarity, free, chosen)
            again = self._batch(chosen, batch.features[rows], similarity, guide, best[rows])
            return self._predictions(again, self._decode(again), rivals)

        return self._source.find(
            Scenes(
                self.decoder(),
                batch,
                valid,
                best,
                first,
                self.state,
                {
                    name.removeprefix(CANDIDATE): tensor
                    for name, tensor in self.state.more.items()
                    if name.startswith(CANDIDATE)
                },
                self.max_instances,
                self.presence_threshold,
                segment,
                self._negatives(rivals),
            )
        )

    def _predictions(
        self, batch: PriorBatch, outcome: Outcome, rivals: Appearance | None = None
    ) -> list[Prediction]:
        return assemble(
            self.sam,
            batch,
            outcome,
            self.state.appearance,
            self.presence_threshold,
            self._negatives(rivals),
        )

    def _negatives(self, rivals: Appearance | None) -> Appearance | None:
        """What the object is not: negative references, and other objects of the run."""
        known = [one for one in (self.state.negative_appearance, rivals) if one is not None]
        return together(known) if known else None
