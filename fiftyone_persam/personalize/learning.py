"""From references to what a method that decodes in passes remembers of them, before any tuning."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import BadReferenceError, PersamError
from ..sam import ImageEmbedding, Prompt, Promptable
from . import presence, prior
from .appearance import describe, together
from .location import LocationPrior, ReferenceView
from .reference import Reference, perseg_channel
from .smaller_looks import Encode, look_smaller
from .state import NEGATIVE, PRIOR, SMALLER, FittedState

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Learner:
    """Looks at references.

    Attributes:
        sam: the model.
        prior: the location prior.
        target_feature: (C, h, w) features and (h, w) bool cells -> (C,).
    """

    sam: Promptable
    prior: LocationPrior
    target_feature: Callable[[Tensor, Tensor], Tensor]

    def look(
        self, references: Sequence[Reference], embeddings: Sequence[ImageEmbedding]
    ) -> tuple[list[ReferenceView], list[Mask]]:
        """The references as the location prior sees them, and their masks (H, W).

        A mask is the object's: with a prior that is exact, what is not 0 in its first channel.

        Raises:
            BadReferenceError: one holds no object.
            PersamError: an embedding is of another photo.
        """
        masks = [self.mask_of(r, e) for r, e in zip(references, embeddings, strict=True)]
        channels = [
            perseg_channel(mask) if r.channel is None else r.channel
            for mask, r in zip(masks, references, strict=True)
        ]
        views = [
            self._view(r, e, mask, channel)
            for r, e, mask, channel in zip(references, embeddings, masks, channels, strict=True)
        ]
        if self.prior.exact:  # tuning, too, sees the first channel alone
            masks = [channel > 0 for channel in channels]
        return views, masks

    def first_state(self, views: Sequence[ReferenceView]) -> FittedState:
        """What all methods of this kind know of their references."""
        targets = torch.stack([view.target for view in views])
        own = self.prior.fit(views)
        levels = []
        for number, view in enumerate(views):
            maps = self.prior.similarity(view.features[None], view.valid[None], targets, own)
            levels.append(presence.calibrate(maps[0, number], view.foreground, view.valid))
        device = self.sam.device
        raw = [
            prior.mean_feature(view.embedding.features.to(device), view.foreground)
            for view in views
        ]
        appearance = together(
            [
                describe(view.embedding.to_recognise.to(device), view.foreground, view.valid)
                for view in views
            ]
        )
        return FittedState(
            targets,
            torch.stack(raw),
            torch.tensor(levels, device=device),
            appearance.parts.half(),
            appearance.places,
            appearance.background,
            appearance.own,
            fine=appearance.fine,
            more={PRIOR + name: tensor for name, tensor in own.items()},
        )

    def smaller_state(
        self,
        views: Sequence[ReferenceView],
        masks: Sequence[Mask],
        encode: Encode | None = None,
    ) -> dict[str, Tensor]:
        """What is remembered of references made smaller, by name; nothing without their photos.

        Nor with a model that tells objects by what it decodes: its encoder is slow, and over photos
        that are encoded already another reference would cost many times what decoding does.
        """
        if not getattr(self.sam, "descriptor_dim", 0):
            return {}
        found = look_smaller(self.sam, views, masks, encode)
        if found is None:
            return {}
        device = self.sam.device
        return {SMALLER + name: _on(device, tensor) for name, tensor in found.tensors().items()}

    def negative_state(self, negatives: Sequence[Reference]) -> dict[str, Tensor]:
        """What is remembered of negative references, by name."""
        embeddings = self.sam.encode([negative.photo for negative in negatives])
        masks = [self.mask_of(r, e) for r, e in zip(negatives, embeddings, strict=True)]
        views = [
            self._view(r, e, mask, perseg_channel(mask))
            for r, e, mask in zip(negatives, embeddings, masks, strict=True)
        ]
        state = self.first_state(views)
        return {
            NEGATIVE + name: _on(self.sam.device, state.tensors()[name])
            for name in ("targets", "parts", "places", "background", "own", "fine", *state.more)
        }

    def mask_of(self, reference: Reference, embedding: ImageEmbedding) -> Mask:
        """See `drawn_mask`."""
        return drawn_mask(self.sam, reference, embedding)

    def _view(
        self,
        reference: Reference,
        embedding: ImageEmbedding,
        mask: Mask,
        channel: npt.NDArray[np.uint8],
    ) -> ReferenceView:
        foreground = self.prior.foreground(self.sam, mask, channel, embedding)
        features = self.prior.features(embedding).to(self.sam.device).float()
        target = self.target_feature(features, foreground)
        return ReferenceView(
            embedding,
            features,
            foreground,
            prior.valid_cells([embedding], self.sam.device)[0],
            target / target.norm().clamp_min(1e-12),
            reference.photo,
        )


def _on(device: torch.device, tensor: Tensor) -> Tensor:
    """A tensor on a device; numbers of float64 stay on the CPU, see `FittedState.to`."""
    return tensor if tensor.dtype == torch.float64 else tensor.to(device)


def drawn_mask(sam: Promptable, reference: Reference, embedding: ImageEmbedding) -> Mask:
    """The reference's (H, W) mask; SAM makes it from a box or from points (paper, table 6).

    Args:
        sam: the model.
        reference: mask, box or points.
        embedding: of its photo.

    Raises:
        BadReferenceError: the model finds nothing at the box or the points.
        PersamError: the embedding is of another photo.
    """
    if embedding.original_size != reference.size:
        raise PersamError(
            f"the embedding is of a photo of {embedding.original_size}, the reference of one "
            f"of {reference.size} (height, width): encode the reference's own photo"
        )
    if reference.mask is not None:
        return reference.mask
    prompt = Prompt(embedding, reference.points, reference.labels, reference.box)
    decoded = sam.decode([prompt])[0]
    # One point may mean a part or the whole: the surest scale decides. A box or several points
    # leave no such doubt, and have the single-mask token.
    lone = reference.points is not None and len(reference.points) == 1
    token = 1 + int(decoded.sureness[1:].argmax()) if lone else 0
    mask: Mask = sam.upscale(decoded.logits[token][None], embedding)[0].cpu().numpy() > 0
    if not mask.any():
        raise BadReferenceError(
            f"{sam.name} finds nothing at the reference's "
            f"{'box' if reference.box is not None else 'points'}: give a mask instead"
        )
    return mask
