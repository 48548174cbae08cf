"""A promptable model: photos in, embeddings out; prompts in, masks out. Knows nothing of PerSAM."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, cast

import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from .batch_sizes import DECODE_BATCH, check_batch_size, decode_batch_size, encode_batch_size
from .contrast import Contrast
from .decoding import decode_batch, embed_prompts
from .descriptors import DescribingEncoder
from .embedding import Decoded, ImageEmbedding, Prompt
from .execution import Execution
from .features import FeatureSource
from .identity import hash_tensors
from .photos import Photo, PhotoSource, load_photo, photo_size, resize_photo
from .placement import encoder_type, placed
from .preprocessing import padded_batch
from .prompt_batches import prompt_batches
from .promptable import Adapter
from .raw_photos import RawPhoto, load_raw
from .shared_weights import with_own_part


class PromptableSam:
    """A ``segment_anything.modeling.Sam`` with batched encoding and batched, guided decoding.

    The image encoder and the mask decoder run in ``dtype``; the prompt encoder, all coordinates
    and everything returned except the embeddings stay in float32. An image encoder that is too
    coarse in a half precision says so, see `works_in`, and stays in float32 as well.

    Args:
        sam: the model. It is copied if it has to change (device, dtype, evaluation mode), so the
            caller's object stays as it was.
        name: how the model is called in messages and records.
        device: where to run; the model's own device if None.
        dtype: of encoder and decoder; float32, bfloat16 or float16.
        checkpoint_sha256: hash of the file that the weights came from, if they came from one.
    """

    def __init__(
        self,
        sam: Sam,
        name: str = "custom",
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        checkpoint_sha256: str | None = None,
    ) -> None:
        target = sam.pixel_mean.device if device is None else torch.device(device)
        sam = placed(sam, target, dtype)
        self.sam = sam
        self.execution = Execution()
        self.features: FeatureSource | None = None
        self.adapters: tuple[Adapter, ...] = ()
        self._plain = sam  # as it was before any adapter
        self._weights: str | None = None
        self._describing: DescribingEncoder | None = None
        self.name = name
        self.device = torch.device(target)
        self.dtype = dtype
        self._encoder_dtype = encoder_type(sam, dtype)
        self.checkpoint_sha256 = checkpoint_sha256
        self.image_size = int(sam.image_encoder.img_size)
        self.grid_size = int(sam.prompt_encoder.image_embedding_size[0])
        self.embed_dim = int(sam.prompt_encoder.embed_dim)
        self.mask_size = int(sam.prompt_encoder.mask_input_size[0])

    def __repr__(self) -> str:
        return (
            f"PromptableSam({self.name!r}, device={str(self.device)!r}, dtype={self.dtype}, "
            f"image_size={self.image_size}, grid_size={self.grid_size})"
        )

    @property
    def weights_sha256(self) -> str:
        """Hash of the weights without adapters: of their file, else worked out once."""
        if self.checkpoint_sha256 is not None:
            return self.checkpoint_sha256
        if self._weights is None:
            kind = type(self._plain.image_encoder).__qualname__
            self._weights = hash_tensors(self._plain.state_dict(), kind)
        return self._weights

    @property
    def identity(self) -> str:
        """See `Promptable.identity`."""
        return "+".join([self.encoder_identity, *self._adapter_names("mask_decoder")])

    @property
    def encoder_identity(self) -> str:
        """See `Promptable.encoder_identity`."""
        beside = [] if self.features is None else [self.features.identity]
        return "+".join([self.weights_sha256, *self._adapter_names("image_encoder"), *beside])

    @property
    def encoder_parameters(self) -> int:
        """See `Promptable.encoder_parameters`."""
        own = sum(weights.numel() for weights in self.sam.image_encoder.parameters())
        return own + (0 if self.features is None else self.features.parameters)

    @property
    def matching_dim(self) -> int:
        """Channels of the features that objects are compared by."""
        return self.embed_dim if self.features is None else self.features.dim

    @property
    def descriptor_dim(self) -> int:
        """Channels of what the image encoder has to tell objects apart by; 0 if it has no such."""
        return int(getattr(self.sam.image_encoder, "descriptor_dim", 0))

    @property
    def recognition_dim(self) -> int:
        """Channels of `ImageEmbedding.to_recognise`."""
        if self.features is not None or not self.descriptor_dim:
            return self.matching_dim
        return self.descriptor_dim

    @property
    def _encoder(self) -> torch.nn.Module:
        """The image encoder, or what gives its descriptors behind its embeddings."""
        encoder = self.sam.image_encoder
        if not self.descriptor_dim:
            return encoder
        if self._describing is None or self._describing.encoder is not encoder:
            self._describing = DescribingEncoder(encoder)
        return self._describing

    def with_features(self, source: FeatureSource | None) -> PromptableSam:
        """The model with another backbone's features to find objects by; None for its own."""
        changed = copy.copy(self)
        changed.features = None if source is None else source.on(self.device)
        return changed

    def with_speed(self, **switches: Any) -> PromptableSam:
        """The model with other switches of `Speed`, such as ``compile=True``; this one stays."""
        changed = copy.copy(self)
        changed.execution = self.execution.with_speed(**switches)
        return changed

    def adapted(self, adapter: Adapter) -> PromptableSam:
        """The model with an adapter attached; this one itself stays as it is.

        The part that the adapter changes has modules of its own, everything else is shared, and of
        all that decodes the adapter's weights alone take a gradient.
        """
        changed = copy.copy(self.frozen())
        changed.sam = with_own_part(changed.sam, adapter.part)
        changed.execution = changed.execution.with_speed()
        changed.adapters = (*self.adapters, adapter)
        adapter.attach(changed.sam)
        return changed

    def frozen(self) -> PromptableSam:
        """The model, its decoder with weights that take no gradient: prompts can be trained."""
        parts = (self.sam.mask_decoder, self.sam.prompt_encoder)
        if not any(weights.requires_grad for part in parts for weights in part.parameters()):
            return self
        changed = copy.copy(self)
        changed.sam = with_own_part(with_own_part(self.sam, "mask_decoder"), "prompt_encoder")
        changed.execution = changed.execution.with_speed()
        return changed

    def in_full_precision(self) -> PromptableSam:
        """The model with a frozen decoder in float32, for gradients that half precision would lose.

        Nothing else is copied; embeddings of this model fit.
        """
        if self.dtype == torch.float32:
            return self.frozen()
        changed = copy.copy(self)
        changed.sam = with_own_part(with_own_part(self.sam, "mask_decoder"), "prompt_encoder")
        own = copy.deepcopy(changed.sam.mask_decoder).float()
        changed.sam._modules["mask_decoder"] = own
        changed.execution = changed.execution.with_speed()
        changed.dtype = torch.float32
        return changed

    def on(self, device: torch.device | str) -> PromptableSam:
        """See `Promptable.on`."""
        target = torch.device(device)
        if target == self.device:
            return self
        moved = PromptableSam(self._plain, self.name, target, self.dtype, self.checkpoint_sha256)
        moved._weights = self._weights
        moved.execution = self.execution.with_speed()
        moved = moved.with_features(self.features)
        for adapter in self.adapters:
            own = copy.deepcopy(adapter)
            moved = moved.adapted(own.to(target) if isinstance(own, torch.nn.Module) else own)
        return moved

    def _adapter_names(self, part: str) -> list[str]:
        return [adapter.identity for adapter in self.adapters if adapter.part == part]

    def load_and_resize(
        self, source: PhotoSource, contrast: Contrast | None = None
    ) -> tuple[Photo, tuple[int, int]]:
        """The part of encoding that needs no device: read and resize one photo.

        Args:
            source: see `load_photo`.
            contrast: of the run, for photos of more than 8 bits; see `load_photo`.

        Returns:
            (h, w, 3) uint8 with a long side of ``image_size``, and the photo's own height, width.

        Raises:
            PhotoError: the photo cannot be read.
        """
        photo = load_photo(source, contrast)
        return resize_photo(photo, self.image_size), (photo.shape[0], photo.shape[1])

    @property
    def resizes(self) -> bool:
        """Whether the device resizes photos itself, as `Speed` says: `load_raw` serves it."""
        plain = type(self).encode_resized is PromptableSam.encode_resized and self.features is None
        return plain and self.execution.speed.on("resize", self.device)

    def load_raw(
        self, source: PhotoSource, contrast: Contrast | None = None
    ) -> tuple[RawPhoto, tuple[int, int]]:
        """As `load_and_resize`, but the device is left to resize the photo.

        The result is within 1 / 255 of `load_and_resize`, but for a JPEG of three times the input's
        size or more, which is decoded at a fraction of its size.
        """
        return load_raw(source, self.image_size, contrast, pinned=self.device.type == "cuda")

    def preprocess(self, resized: Sequence[Photo | RawPhoto]) -> Tensor:
        """Resized photos -> (B, 3, S, S) float32 on the device, normalised, then padded with 0."""
        mean, std = self.sam.pixel_mean, self.sam.pixel_std
        return padded_batch(resized, self.image_size, mean, std, self.device)

    def encode_resized(
        self,
        resized: Sequence[Any],
        original_sizes: Sequence[tuple[int, int]],
        grad: bool = False,
    ) -> list[ImageEmbedding]:
        """Encode photos from `load_and_resize`, or from `load_raw`, as one batch.

        Args:
            resized: photos inside the model's input.
            original_sizes: height and width of each photo itself.
            grad: keep what a gradient through the image encoder needs. The features can be used in
                a differentiable computation either way.
        """
        if not resized:
            return []
        # Not inference mode: what that returns can take no part in a later backward pass.
        with torch.set_grad_enabled(grad):
            pixels = self.preprocess(resized).to(self._encoder_dtype)
            found = self.execution.encode(self._encoder, pixels)
            features = found[:, : self.embed_dim].to(self.dtype)
        descriptors: Sequence[Tensor | None] = [None] * len(resized)
        if self.descriptor_dim and self.features is None:
            descriptors = list(found[:, self.embed_dim :].detach().half())
        matching: Sequence[Tensor | None] = [None] * len(resized)
        if self.features is not None:
            found = self.features.features(resized, self.image_size, self.grid_size)
            matching = list(found.to(self.dtype))
        return [
            ImageEmbedding(
                row,
                (photo.shape[0], photo.shape[1]),
                size,
                self.image_size,
                other,
                descriptors=described,
            )
            for row, photo, size, other, described in zip(
                features, resized, original_sizes, matching, descriptors, strict=True
            )
        ]

    def encode(
        self,
        images: Sequence[PhotoSource],
        batch_size: int | None = None,
        contrast: Contrast | None = None,
    ) -> list[ImageEmbedding]:
        """Encode photos of any size and mode.

        Args:
            images: paths, PIL images or arrays; see `load_photo`.
            batch_size: photos that go through the encoder at once; by device if None.
            contrast: of the run, for photos of more than 8 bits; see `load_photo`.

        Raises:
            PhotoError: a photo cannot be read.
        """
        step = encode_batch_size(batch_size, self.device)
        embeddings: list[ImageEmbedding] = []
        for start in range(0, len(images), step):
            loaded = [
                self.load_and_resize(image, contrast) for image in images[start : start + step]
            ]
            embeddings += self.encode_resized([p for p, _ in loaded], [s for _, s in loaded])
        return embeddings

    @torch.inference_mode()
    def decode(self, prompts: Sequence[Prompt], batch_size: int | None = None) -> list[Decoded]:
        """Decode prompts of different photos together.

        Prompts with the same parts (number of points, box or none, ...) form one batched call, so
        every result is what decoding that prompt alone gives.

        Args:
            prompts: any mix of prompts.
            batch_size: prompts decoded at once; by device if None.

        Raises:
            PersamError: a prompt does not fit the model or contradicts itself.
        """
        step = decode_batch_size(batch_size, self.device)
        results: dict[int, Decoded] = {}
        for indices, (features, *rest) in prompt_batches(prompts, self, step):
            logits, scores = self.decode_tensors(cast(Tensor, features), *rest)
            for slot, index in enumerate(indices):
                results[index] = Decoded(logits[slot], scores[slot])
        return [results[index] for index in range(len(prompts))]

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
        """`decode_batch` in the model's dtype; coordinates in pixels of the model's input.

        Returns:
            (B, M, hm, wm) logits and (B, M) predicted IoU, both float32.
        """
        logits, scores = decode_batch(
            self.sam,
            features.to(self.dtype),
            points,
            labels,
            boxes,
            masks,
            attention_bias,
            token_offset,
            tokens,
            block_tokens,
        )
        return logits.float(), scores.float()

    def embed_prompts(
        self, points: Tensor | None, labels: Tensor | None, boxes: Tensor | None = None
    ) -> Tensor:
        """The tokens that stand for points and boxes; see `decode_batch` for the arguments.

        Decoding with these as ``tokens`` is decoding with the points and boxes.

        Returns:
            (B, N, C): one for each point, in their order, and two for a box; without a box one
            that says so.
        """
        given = points if boxes is None else boxes
        count = 1 if given is None else len(given)
        return embed_prompts(self.sam.prompt_encoder, count, points, labels, boxes, None)[0]

    def upscale(self, logits: Tensor, embedding: ImageEmbedding) -> Tensor:
        """(m, hm, wm) maps -> (m, H, W) at the photo's own size, bilinear, padding cut off."""
        full = self.upscale_to_input(logits, embedding)
        return F.interpolate(
            full[None], embedding.original_size, mode="bilinear", align_corners=False
        )[0]

    def upscale_to_input(self, logits: Tensor, embedding: ImageEmbedding) -> Tensor:
        """(m, hm, wm) maps -> (m, h, w) at the photo's size inside the model's input."""
        size = (self.image_size, self.image_size)
        full = F.interpolate(logits[None], size, mode="bilinear", align_corners=False)[0]
        return full[:, : embedding.input_size[0], : embedding.input_size[1]]


__all__ = [
    "DECODE_BATCH",
    "Decoded",
    "ImageEmbedding",
    "Prompt",
    "PromptableSam",
    "check_batch_size",
    "photo_size",
]
