"""The base of PerSAM, PerSAM-F and their kin: a location prior, then decoder passes (section 3.2).

What differs between them are three hooks: the target feature, what is tuned in the end, and the
weights of the mask scales. `PerSAM` leaves them as they are here.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from ..errors import CheckpointError, PersamError
from ..options import check_values
from ..sam import Contrast, ImageEmbedding, Promptable, PromptableSam, load_sam
from ..sam.model import DECODE_BATCH, check_batch_size
from . import part_sets, pending, prior
from .assembly import assemble
from .candidates import CandidateSource, Scenes
from .cascade import Outcome, PriorBatch, run_cascade
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
from .checks import check_embeddings, recognition_dim_of, several_references_of
from .learning import Learner
from .location import AlignedPrior, Guide, LocationPrior, ReferenceView
from .method import Effort, Method
from .prediction import Prediction
from .presence import Appearance, together
from .reference import Reference
from .registries import LOCATION_PRIORS, source_of
from .session import SequenceSession
from .state import FittedState

MODES = {"corrected": "background_removed", "reference": "released"}
"""The location prior of each mode."""

# Differences of cosine that make one reference count e times as much as another.
_AGREEMENT_SCALE = 0.1
POSITIVE_POINTS = 3
"""Positive points of corrected mode."""

# What a subclass must not change to be asked in steps, which pass these by.
_STEPPED = (
    *("predict_embeddings", "similarities", "locate", "guide"),
    *("_decode", "_predictions"),
)

Self = TypeVar("Self", bound="CascadeMethod")
CANDIDATE = "candidates."
"""Begins the names of what the source of candidates remembers."""
CONTRAST = "contrast"  # names the reference's window of values among what is saved


logger = logging.getLogger(__name__)


class CascadeMethod(Method):
    """A method that locates the object by its target feature and decodes in up to three passes.

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
        PersamError: an unknown mode or location prior, a threshold outside [0, 1], or a wrong
            number of instances.
    """

    takes_negatives = True

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
        self.prior: LocationPrior = LOCATION_PRIORS[location_prior or MODES[mode]]()
        if max_instances > 1 and not self.prior.suppresses:
            raise PersamError(
                f"mode={mode!r} finds one object, as the released code: use mode='corrected' for "
                "several instances"
            )
        if positive_points not in (None, 1) and mode == "reference":
            raise PersamError(
                "mode='reference' prompts with one positive point, as the released code: use "
                "mode='corrected' for several"
            )
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

    # ----------------------------------------------------------------------------------------------

    def fit(
        self: Self,
        reference: Reference | Sequence[Reference],
        embeddings: Sequence[ImageEmbedding] | None = None,
        negatives: Reference | Sequence[Reference] = (),
    ) -> Self:
        """Learn the object from one reference or several.

        Args:
            reference: the object, or several photos of the same object.
            embeddings: the references' photos encoded by the same model, if they are at hand.
            negatives: what the object is not, such as its twin or a mask that was rejected: places
                that look more like these lose, and so do photos that match these better.

        Raises:
            BadReferenceError: no reference, one of another kind, or one that holds no object.
            PersamError: negatives in reference mode, which knows none.
        """
        references = several_references_of(reference, self.references, self.title)
        others = (
            several_references_of(negatives, self.references, self.title)
            if isinstance(negatives, Reference) or len(negatives)
            else []
        )
        if others and self.mode == "reference":
            raise PersamError(
                "mode='reference' knows no negative references, as the released code: use "
                "mode='corrected'"
            )
        with torch.no_grad():
            if embeddings is None:
                embeddings = self.sam.encode([r.photo for r in references])
            check_embeddings(embeddings, self.sam, len(references))
            learner = Learner(self.sam, self.prior, self.target_feature)
            views, masks = learner.look(references, embeddings)
            state = learner.first_state(views)
            if self.several_references == "parts":
                state = part_sets.with_sets(state, self.prior, views)
            if others:
                state = replace(state, more={**state.more, **learner.negative_state(others)})
            learned = self._source.learn(self.sam, views, masks)
            named = {CANDIDATE + name: tensor for name, tensor in learned.items()}
            state = replace(state, more={**state.more, **named})
        state = self.tune(state, views, masks)
        seen = [r.contrast for r in references if r.contrast is not None]
        if seen:
            window = torch.tensor(seen[0], dtype=torch.float64)
            state = replace(state, more={**state.more, CONTRAST: window})
        self._state = state
        return self

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
            if self.in_steps:
                steps = self.begin(embeddings[start : start + step])
                steps.decode()
                predictions += steps.finish()
                continue
            batch, best = self.locate(list(embeddings[start : start + step]))
            found = self._predictions(batch, self._decode(batch))
            predictions += self._more(batch, best, found) if self._has_more else found
        return predictions

    @property
    def in_steps(self) -> bool:
        """Whether `begin` can be used, and is worth it on the model's device.

        It can for one object, by a prior such as `AlignedPrior`: the released code's passes depend
        on one another by way of the host, and so do further objects.
        """
        execution = getattr(self.sam, "execution", None)
        if execution is None or not execution.speed.on("passes", self.sam.device):
            return False
        return (
            not self._has_more
            and not self.prior.exact
            and getattr(type(self.prior), "guide", None) is AlignedPrior.guide
            and all(getattr(type(self), one) is getattr(CascadeMethod, one) for one in _STEPPED)
        )

    @property
    def _has_more(self) -> bool:
        """Whether what the location prior leads to is not all."""
        return self.max_instances > 1 or self._source.always

    def begin(self, embeddings: Sequence[ImageEmbedding]) -> pending.PendingPredictions:
        """Start to segment photos without waiting for the device; see `pending`."""
        self.state  # noqa: B018
        return pending.PendingPredictions(self, embeddings)

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

    @property
    def positives(self) -> int:
        """Positive points of one object."""
        return self.positive_points or (1 if self.mode == "reference" else POSITIVE_POINTS)

    def prompts(self, guide: Guide) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """(B, n, 2) points of photos and their (n,) labels, without the part that is off."""
        labels = np.ones(guide.points.shape[1], dtype=np.int64)
        labels[-1] = 0
        count = len(labels) if self.negative_prior else len(labels) - 1
        return guide.points[:, :count], labels[:count]

    def state_dict(self) -> dict[str, Tensor]:
        """See `Method.state_dict`."""
        return self.state.tensors()

    @classmethod
    def from_state(
        cls: type[Self], sam: Any, state: Mapping[str, Tensor], settings: Mapping[str, Any]
    ) -> Self:
        """See `Method.from_state`."""
        loaded = cls(sam, **settings)
        fitted = FittedState.from_tensors(state)
        model = loaded.sam
        there = (fitted.targets.shape[1], fitted.embeddings.shape[1], fitted.parts.shape[2])
        if there != (loaded.prior.dim(model), model.embed_dim, recognition_dim_of(model)):
            raise CheckpointError(f"was not made with model {model.name!r}: fit again")
        loaded._state = fitted.to(model.device)
        return loaded

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
