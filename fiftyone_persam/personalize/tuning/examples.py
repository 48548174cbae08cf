"""Photos that a part is tuned on or judged by, as the decoder needs them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ...sam import ImageEmbedding, Promptable
from ..location import ReferenceView
from ..prior import valid_cells
from ..state import FittedState
from .views import other_view

if TYPE_CHECKING:
    from ..cascade_method import CascadeMethod

_HALF = 0.5


@dataclass(frozen=True, eq=False)
class Examples:
    """B encoded photos with their location priors and their masks.

    Attributes:
        embeddings: the photos.
        features: (B, C, h, w).
        points: (B, n, 2) in pixels of the model's input.
        labels: (B, n), 1 or 0.
        attention_bias: (B, h * w) or None.
        token_offset: (B, C) or None.
        targets: (B, hm, wm) float32, 1 on the object.
        inside: (B, hm, wm) bool, the photo's pixels; the others are padding.
        masks: the masks at the photos' own sizes.
    """

    embeddings: Sequence[ImageEmbedding]
    features: Tensor
    points: Tensor
    labels: Tensor
    attention_bias: Tensor | None
    token_offset: Tensor | None
    targets: Tensor
    inside: Tensor
    masks: Sequence[npt.NDArray[np.bool_]]

    def __len__(self) -> int:
        return len(self.embeddings)

    def decode(self, model: Promptable) -> Tensor:
        """(B, M, hm, wm) logits of the first pass."""
        logits, _ = model.decode_tensors(
            self.features,
            self.points,
            self.labels,
            attention_bias=self.attention_bias,
            token_offset=self.token_offset,
        )
        return logits

    def chunks(self, size: int) -> Iterator[Examples]:
        """The same photos, at most ``size`` at a time."""
        for start in range(0, len(self), size):
            rows = slice(start, start + size)
            bias, offset = self.attention_bias, self.token_offset
            yield Examples(
                self.embeddings[rows],
                self.features[rows],
                self.points[rows],
                self.labels[rows],
                None if bias is None else bias[rows],
                None if offset is None else offset[rows],
                self.targets[rows],
                self.inside[rows],
                self.masks[rows],
            )


def located(
    method: CascadeMethod,
    state: FittedState,
    embeddings: Sequence[ImageEmbedding],
    masks: Sequence[npt.NDArray[np.bool_]],
    numbers: Sequence[int],
) -> Examples:
    """Examples with the prompts and the guidance that a method decodes photos with.

    Args:
        method: whose options say which.
        state: its references.
        embeddings: B photos.
        masks: (H, W) bool of each, at its own size.
        numbers: by which reference alone each photo is located, from 0.
    """
    sam, device = method.sam, method.sam.device
    features = torch.stack([method.prior.features(e).to(device).float() for e in embeddings])
    valid = valid_cells(embeddings, device)
    maps = method.prior.similarity(features, valid, state.targets, state.prior)
    own = maps[torch.arange(len(embeddings)), list(numbers)]
    guide = method.guide(own, valid, embeddings)
    points, labels = method.prompts(guide)
    scales = np.array([embedding.scale for embedding in embeddings])[:, None]
    signs = torch.as_tensor(labels, dtype=torch.float32, device=device)
    pairs = [at_mask_size(sam, m, e) for m, e in zip(masks, embeddings, strict=True)]
    return Examples(
        embeddings,
        torch.stack([embedding.features.to(device) for embedding in embeddings]),
        torch.as_tensor(points * scales, dtype=torch.float32, device=device),
        signs.expand(len(embeddings), -1),
        guide.attention_bias if method.guided_attention else None,
        state.embeddings[list(numbers)] if method.semantic_prompt else None,
        torch.stack([target for target, _ in pairs]).to(device),
        torch.stack([inside for _, inside in pairs]).to(device),
        masks,
    )


def other_views(
    method: CascadeMethod,
    state: FittedState,
    views: Sequence[ReferenceView],
    masks: Sequence[npt.NDArray[np.bool_]],
    count: int,
    seed: int,
) -> Examples | None:
    """Mirrored, cut and lit photos of the references, encoded in one batch.

    Args:
        method: see `located`.
        state: its references.
        views: R references.
        masks: (H, W) bool of each.
        count: how many together, but one of each reference at least; None is returned for 0.
        seed: of how far they are cut and lit.
    """
    if not count:
        return None
    generator = np.random.default_rng(seed)
    photos, others, numbers = [], [], []
    for turn in range(max(count, len(views))):
        number = turn % len(views)
        photo = views[number].photo
        assert photo is not None
        # The kind of view moves on with each round, and from one reference to the next.
        kind = turn // len(views) + number
        photo, mask = other_view(photo, masks[number], kind, generator)
        photos.append(photo)
        others.append(mask)
        numbers.append(number)
    return located(method, state, method.sam.encode(photos), others, numbers)


def at_mask_size(
    sam: Promptable, mask: npt.NDArray[np.bool_], embedding: ImageEmbedding
) -> tuple[Tensor, Tensor]:
    """(H, W) bool -> (hm, wm) float32 0 or 1 and (hm, wm) bool, which of them the photo covers.

    A pixel of the logits is the object's if the mask covers half of its part inside the photo.
    """
    height, width = embedding.input_size
    share = F.interpolate(torch.from_numpy(mask)[None, None].float(), (height, width), mode="area")
    beside = (0, sam.image_size - width, 0, sam.image_size - height)
    size = (sam.mask_size, sam.mask_size)
    covered = F.adaptive_avg_pool2d(F.pad(share, beside), size)[0, 0]
    photo = F.adaptive_avg_pool2d(F.pad(torch.ones_like(share), beside), size)[0, 0]
    inside = photo >= _HALF
    return (inside & (covered >= _HALF * photo)).float(), inside
