"""Masks of several fitted methods, each in a photo of its own, decoded as one batch.

In one-shot episodes every photo has another object. A decoder pass over eight photos costs about as
much as two passes over one each, so what differs between the methods travels with the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..sam import ImageEmbedding
from .cascade import PriorBatch, run_cascade
from .cascade_method import CascadeMethod

# What decides how a photo becomes a mask; a method that changes one of these is asked itself.
_OWN = (
    *("predict_embeddings", "locate", "similarities", "guide", "decoder", "prompt_tokens"),
    *("_decode", "_predictions", "_batch"),
)


@torch.inference_mode()
def predict_masks(
    methods: Sequence[Any], embeddings: Sequence[ImageEmbedding]
) -> list[npt.NDArray[np.bool_]]:
    """The mask of each method in its photo: what ``predict_embeddings`` gives.

    Args:
        methods: fitted; with the same options if they are to be decoded together.
        embeddings: one for each method.
    """
    if not _alike(methods):
        return [
            method.predict_embeddings([photo])[0].mask
            for method, photo in zip(methods, embeddings, strict=True)
        ]
    first = methods[0]
    located = [m.locate([photo])[0] for m, photo in zip(methods, embeddings, strict=True)]
    batch = PriorBatch(
        list(embeddings),
        torch.cat([one.features for one in located]),
        torch.cat([one.similarity for one in located]),
        np.concatenate([one.points for one in located]),
        located[0].labels,
        _joined([one.attention_bias for one in located]),
        _joined([one.token_offset for one in located]),
    )
    weights = _joined(
        [None if w is None else w[None] for w in (m.scale_weights() for m in methods)]
    )
    outcome = run_cascade(first.sam, batch, weights, first.post_refinement, exact=first.prior.exact)
    return [
        (first.sam.upscale(logits[None], photo)[0] > 0).cpu().numpy()
        for logits, photo in zip(outcome.logits, embeddings, strict=True)
    ]


def _alike(methods: Sequence[Any]) -> bool:
    """Whether one batch can serve all of them, and needs no presence."""
    first = methods[0]
    return (
        isinstance(first, CascadeMethod)
        and first.presence_threshold == 0
        and not first._has_more
        and all(getattr(type(first), name) is getattr(CascadeMethod, name) for name in _OWN)
        and all(type(m) is type(first) and m.settings == first.settings for m in methods)
        and all(m.sam is first.sam for m in methods)
    )


def _joined(parts: Sequence[Tensor | None]) -> Tensor | None:
    kept = [part for part in parts if part is not None]
    return torch.cat(kept) if len(kept) == len(parts) else None
