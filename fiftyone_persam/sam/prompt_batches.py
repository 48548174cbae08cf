"""Prompts of different photos as batches of tensors, in pixels of the model's input."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import PersamError
from .embedding import Prompt
from .promptable import Promptable


def prompt_batches(
    prompts: Sequence[Prompt], model: Promptable, size: int
) -> Iterator[tuple[list[int], tuple[Tensor | None, ...]]]:
    """Batches of prompts that have the same parts: number of points, box or none, ...

    Args:
        prompts: any mix of prompts.
        model: which decodes them.
        size: prompts of a batch, at most.

    Yields:
        The prompts' indices, and their tensors with a first axis for the batch; see
        `prompt_tensors`, which also tells what is raised. All prompts are checked first.
    """
    ready = [prompt_tensors(prompt, model) for prompt in prompts]
    groups: dict[tuple[object, ...], list[int]] = {}
    for index, parts in enumerate(ready):
        signature = tuple(None if part is None else tuple(part.shape) for part in parts)
        groups.setdefault(signature, []).append(index)
    for indices in groups.values():
        for start in range(0, len(indices), size):
            chunk = indices[start : start + size]
            columns = zip(*(ready[index] for index in chunk), strict=True)
            yield chunk, tuple(None if one[0] is None else torch.stack(one) for one in columns)


def prompt_tensors(prompt: Prompt, model: Promptable) -> tuple[Tensor | None, ...]:
    """The tensors of one prompt, in the order of the arguments of `decode_batch`.

    Args:
        prompt: its coordinates in pixels of the photo itself.
        model: which decodes it.

    Returns:
        On the model's device: the embedding, points, labels, box, mask, attention bias, token
        offset and tokens, each None where the prompt has none; coordinates in pixels of the
        model's input.

    Raises:
        PersamError: the prompt does not fit the model or contradicts itself.
    """
    embedding = prompt.embedding
    expected = (model.embed_dim, model.grid_size, model.grid_size)
    if tuple(embedding.features.shape) != expected:
        raise PersamError(
            f"an embedding of shape {tuple(embedding.features.shape)} does not belong to "
            f"{model.name}, whose embeddings are {expected}: encode the photo with this model"
        )

    def tensor(values: npt.NDArray[np.generic]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=model.device)

    points = labels = box = None
    scale = np.asarray(embedding.scale)
    if prompt.points is not None:
        xy = np.asarray(prompt.points, dtype=np.float64).reshape(-1, 2)
        signs = np.ones(len(xy)) if prompt.labels is None else np.asarray(prompt.labels)
        if signs.shape != (len(xy),):
            raise PersamError(
                f"{len(xy)} points need {len(xy)} labels, not an array of {signs.shape}"
            )
        points = tensor(xy * scale)
        labels = tensor(signs)
    elif prompt.labels is not None:
        raise PersamError("labels were given without points: give both or neither")
    if prompt.box is not None:
        corners = np.asarray(prompt.box, dtype=np.float64)
        if corners.shape != (4,):
            raise PersamError(f"a box is x0, y0, x1, y1, not an array of {corners.shape}")
        box = tensor((corners.reshape(2, 2) * scale).reshape(4))
    mask = prompt.mask
    if mask is not None:
        if tuple(mask.shape) != (model.mask_size, model.mask_size):
            raise PersamError(
                f"a mask prompt for {model.name} is {model.mask_size} x {model.mask_size} logits, "
                f"not {tuple(mask.shape)}"
            )
        mask = mask.to(model.device)[None]
    return (
        embedding.features.to(model.device),
        points,
        labels,
        box,
        mask,
        None if prompt.attention_bias is None else prompt.attention_bias.to(model.device),
        None if prompt.token_offset is None else prompt.token_offset.to(model.device),
        None if prompt.tokens is None else prompt.tokens.to(model.device),
    )
