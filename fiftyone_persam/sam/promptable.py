"""What methods and engine need of a model, whatever it is built of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from segment_anything.modeling import Sam
from torch import Tensor

from .contrast import Contrast
from .embedding import Decoded, ImageEmbedding, Prompt
from .photos import Photo, PhotoSource


@runtime_checkable
class Promptable(Protocol):
    """A model that encodes photos once and decodes masks from prompts and guidance.

    `PromptableSam` is one around a ``segment_anything.modeling.Sam``.

    Attributes:
        name: what it is called in messages and records.
        device: where it runs.
        dtype: of its embeddings.
        image_size: side of its square input in pixels.
        grid_size: cells along a side of its embeddings.
        embed_dim: channels of its embeddings.
        matching_dim: channels of the features that objects are compared by.
        mask_size: side of its mask logits.
        checkpoint_sha256: hash of the file that its weights came from, if they came from one.
        identity: names all its weights, those of adapters included.
        encoder_identity: names what its embeddings depend on: another one, another embedding.
        encoder_parameters: how many weights encode a photo.
    """

    name: str
    device: torch.device
    dtype: torch.dtype
    image_size: int
    grid_size: int
    embed_dim: int
    mask_size: int
    checkpoint_sha256: str | None

    @property
    def matching_dim(self) -> int: ...  # noqa: D102
    @property
    def identity(self) -> str: ...  # noqa: D102
    @property
    def encoder_identity(self) -> str: ...  # noqa: D102
    @property
    def encoder_parameters(self) -> int: ...  # noqa: D102

    def load_and_resize(
        self, source: PhotoSource, contrast: Contrast | None = None
    ) -> tuple[Photo, tuple[int, int]]:
        """Read one photo: (h, w, 3) uint8 inside the input's square, and its own height, width."""
        ...

    def preprocess(self, resized: Sequence[Photo]) -> Tensor:
        """Resized photos -> (B, 3, S, S) float32, normalised, then padded with 0."""
        ...

    def encode_resized(
        self,
        resized: Sequence[Photo],
        original_sizes: Sequence[tuple[int, int]],
        grad: bool = False,
    ) -> list[ImageEmbedding]:
        """Encode photos from `load_and_resize` as one batch; differentiable with ``grad``."""
        ...

    def encode(
        self,
        images: Sequence[PhotoSource],
        batch_size: int | None = None,
        contrast: Contrast | None = None,
    ) -> list[ImageEmbedding]:
        """Encode photos of any size and mode."""
        ...

    def decode(self, prompts: Sequence[Prompt], batch_size: int | None = None) -> list[Decoded]:
        """Decode prompts of different photos together."""
        ...

    def decode_tensors(
        self,
        features: Tensor,
        points: Tensor | None = None,
        labels: Tensor | None = None,
        boxes: Tensor | None = None,
        masks: Tensor | None = None,
        attention_bias: Tensor | None = None,
        token_offset: Tensor | None = None,
        tokens: Tensor | None = None,
        block_tokens: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(B, M, hm, wm) logits and (B, M) scores; see `decode_batch`. Differentiable."""
        ...

    def upscale(self, logits: Tensor, embedding: ImageEmbedding) -> Tensor:
        """(m, hm, wm) maps -> (m, H, W) at the photo's own size."""
        ...

    def upscale_to_input(self, logits: Tensor, embedding: ImageEmbedding) -> Tensor:
        """(m, hm, wm) maps -> (m, h, w) at the photo's size inside the model's input."""
        ...

    def on(self, device: torch.device | str) -> Any:
        """The same model on another device; itself where it is there already."""
        ...


@runtime_checkable
class TextPromptable(Promptable, Protocol):
    """A `Promptable` that takes phrases as well; `TextSam` is one."""

    def check_phrase(self, phrase: str) -> None:
        """Raise PersamError for a phrase that the model cannot make anything of."""
        ...

    def phrase_tokens(self, phrase: str, embeddings: Sequence[ImageEmbedding]) -> Tensor:
        """(B, T, C) prompt tokens that say the phrase about each photo, for `decode_tensors`.

        Raises:
            PersamError: the phrase cannot be used, or an embedding lacks its overview.
        """
        ...

    def complete(
        self, embedding: ImageEmbedding, source: PhotoSource, contrast: Contrast | None = None
    ) -> ImageEmbedding:
        """An embedding of a cache, with what the model needs of its photo beside it."""
        ...


class Adapter(Protocol):
    """Something that changes a part of a model, such as LoRA: see `PromptableSam.adapted`.

    Attributes:
        part: the part that it changes; the model it is attached to has modules of its own there.
        identity: names the adapter's weights: another one, another model.
    """

    part: Literal["image_encoder", "mask_decoder"]

    @property
    def identity(self) -> str: ...  # noqa: D102

    def attach(self, sam: Sam) -> None:
        """Change the part in place: replace layers, or register hooks.

        Leave the weights themselves as they are: other models may share their memory.
        """
        ...
