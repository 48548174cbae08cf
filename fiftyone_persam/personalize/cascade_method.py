"""The base of PerSAM, PerSAM-F and their kin: a location prior, then decoder passes (section 3.2).

What differs between them are hooks of `CascadeSettings`: the target feature, what is tuned in the
end, and the weights of the mask scales. `PerSAM` leaves them as they are. `CascadePrediction` says
how photos are segmented; here is how the object is learnt, saved and loaded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..errors import CheckpointError, PersamError
from ..sam import ImageEmbedding
from ..sam.model import DECODE_BATCH, check_batch_size
from . import part_sets, pending
from .cascade_prediction import CANDIDATE, CascadePrediction
from .cascade_settings import CONTRAST
from .checks import check_embeddings, recognition_dim_of, several_references_of
from .learning import Learner
from .location import AlignedPrior
from .prediction import Prediction
from .reference import Reference
from .smaller_looks import Encode
from .state import FittedState

# What a subclass must not change to be asked in steps, which pass these by.
_STEPPED = (
    *("predict_embeddings", "similarities", "locate", "guide"),
    *("_decode", "_predictions"),
)

Self = TypeVar("Self", bound="CascadeMethod")


class CascadeMethod(CascadePrediction):
    """A method that locates the object by its target feature and decodes in up to three passes.

    Its options are the arguments of `CascadeSettings`.
    """

    def fit(
        self: Self,
        reference: Reference | Sequence[Reference],
        embeddings: Sequence[ImageEmbedding] | None = None,
        negatives: Reference | Sequence[Reference] = (),
        encode: Encode | None = None,
    ) -> Self:
        """Learn the object from one reference or several.

        Args:
            reference: the object, or several photos of the same object.
            embeddings: the references' photos encoded by the same model, if they are at hand.
            negatives: what the object is not, such as its twin or a mask that was rejected: places
                that look more like these lose, and so do photos that match these better.
            encode: encodes the references at smaller sizes, where the method ``looks_smaller``,
                such as one that remembers what it has encoded; the model's own if None.

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
            if self.looks_smaller and not self.prior.exact:
                state = replace(
                    state,
                    more={**state.more, **learner.smaller_state(views, masks, encode)},
                )
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
        """See `CascadePrediction.predict_embeddings`."""
        if not self.in_steps:
            return super().predict_embeddings(embeddings, batch_size)
        step = check_batch_size(batch_size) or DECODE_BATCH.get(self.sam.device.type, 8)
        predictions: list[Prediction] = []
        for start in range(0, len(embeddings), step):
            steps = self.begin(embeddings[start : start + step])
            steps.decode()
            predictions += steps.finish()
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

    def begin(self, embeddings: Sequence[ImageEmbedding]) -> pending.PendingPredictions:
        """Start to segment photos without waiting for the device; see `pending`."""
        self.state  # noqa: B018
        return pending.PendingPredictions(self, embeddings)

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
