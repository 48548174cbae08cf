"""A promptable model: photos in, embeddings out; prompts in, masks out. Knows nothing of PerSAM."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from numbers import Integral
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from ..errors import PersamError
from .contrast import Contrast
from .decoding import decode_batch, embed_prompts
from .embedding import Decoded, ImageEmbedding, Prompt
from .execution import Execution
from .features import FeatureSource
from .fused_attention import fuse_attention, has_slow_attention
from .half_precision import steady_norms, works_in
from .identity import hash_tensors
from .photos import Photo, PhotoSource, load_photo, photo_size, resize_photo
from .promptable import Adapter
from .raw_photos import RawPhoto, load_raw, resize_raw
from .transfers import send

ENCODE_BATCH = {"cuda": 8, "mps": 4, "cpu": 4}
DECODE_BATCH = {"cuda": 64, "mps": 16, "cpu": 8}


class _Describing(torch.nn.Module):
    """An image encoder that gives its descriptors, too, in one map behind its embedding."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C + D, h, w)."""
        described: Tensor = self.encoder(x, describe=True)
        return described


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
        encoder_dtype = dtype if works_in(sam.image_encoder, dtype) else torch.float32
        heavy = ((sam.image_encoder, encoder_dtype), (sam.mask_decoder, dtype))
        # A CPU keeps the released attention, and with it the released numbers to the last bit.
        fuse = torch.device(target).type == "cuda" and has_slow_attention(sam.image_encoder)
        changes = (
            sam.training
            or fuse
            or sam.pixel_mean.device != target
            or any(p.dtype != wanted for part, wanted in heavy for p in part.parameters())
        )
        if changes:
            sam = copy.deepcopy(sam).to(target).eval()
            sam.image_encoder.to(encoder_dtype)
            sam.mask_decoder.to(dtype)
            sam.prompt_encoder.float()
            if dtype == torch.float16:
                steady_norms(sam.image_encoder)
                steady_norms(sam.mask_decoder)
            if fuse:
                fuse_attention(sam.image_encoder)
        self.sam = sam
        self.execution = Execution()
        self.features: FeatureSource | None = None
        self.adapters: tuple[Adapter, ...] = ()
        self._plain = sam  # as it was before any adapter
        self._weights: str | None = None
        self._describing: _Describing | None = None
        self.name = name
        self.device = torch.device(target)
        self.dtype = dtype
        self._encoder_dtype = encoder_dtype
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
            self._describing = _Describing(encoder)
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
        changed.sam = _with_own(changed.sam, adapter.part)
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
        changed.sam = _with_own(_with_own(self.sam, "mask_decoder"), "prompt_encoder")
        changed.execution = changed.execution.with_speed()
        return changed

    def in_full_precision(self) -> PromptableSam:
        """The model with a frozen decoder in float32, for gradients that half precision would lose.

        Nothing else is copied; embeddings of this model fit.
        """
        if self.dtype == torch.float32:
            return self.frozen()
        changed = copy.copy(self)
        changed.sam = _with_own(_with_own(self.sam, "mask_decoder"), "prompt_encoder")
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
        size = self.image_size
        batch = torch.zeros((len(resized), 3, size, size), device=self.device)
        raw = [one for one in resized if isinstance(one, RawPhoto)]
        if raw and len(raw) == len(resized) and len({one.shape for one in raw}) == 1:
            pixels = torch.stack(resize_raw(raw, self.device))
            height, width = raw[0].shape[:2]
            batch[:, :, :height, :width] = (pixels - self.sam.pixel_mean) / self.sam.pixel_std
            return batch
        sent = iter(resize_raw(raw, self.device))
        for slot, photo in zip(batch, resized, strict=True):
            height, width = photo.shape[:2]
            if max(height, width) > size:
                raise PersamError(
                    f"a resized photo of {height} x {width} does not fit into {size} x {size}: "
                    "use load_and_resize"
                )
            if isinstance(photo, RawPhoto):
                pixels = next(sent)
            else:
                # torch cannot share read-only memory, which PIL hands out.
                pixels = torch.from_numpy(photo if photo.flags.writeable else photo.copy())
                pixels = send(pixels, self.device).permute(2, 0, 1).float()
            slot[:, :height, :width] = (pixels - self.sam.pixel_mean) / self.sam.pixel_std
        return batch

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
        step = _batch_size(batch_size, ENCODE_BATCH, self.device)
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
        step = _batch_size(batch_size, DECODE_BATCH, self.device)
        groups: dict[tuple[object, ...], list[int]] = {}
        ready = [self._prepare(prompt) for prompt in prompts]
        for index, parts in enumerate(ready):
            signature = tuple(None if part is None else tuple(part.shape) for part in parts)
            groups.setdefault(signature, []).append(index)
        results: dict[int, Decoded] = {}
        for indices in groups.values():
            for start in range(0, len(indices), step):
                chunk = indices[start : start + step]
                columns = zip(*(ready[index] for index in chunk), strict=True)
                features, *rest = (None if c[0] is None else torch.stack(c) for c in columns)
                logits, scores = self.decode_tensors(cast(Tensor, features), *rest)
                for slot, index in enumerate(chunk):
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

    def _prepare(self, prompt: Prompt) -> tuple[Tensor | None, ...]:
        """The tensors of one prompt, coordinates in pixels of the model's input."""
        embedding = prompt.embedding
        expected = (self.embed_dim, self.grid_size, self.grid_size)
        if tuple(embedding.features.shape) != expected:
            raise PersamError(
                f"an embedding of shape {tuple(embedding.features.shape)} does not belong to "
                f"{self.name}, whose embeddings are {expected}: encode the photo with this model"
            )
        points = labels = box = None
        scale = np.asarray(embedding.scale)
        if prompt.points is not None:
            xy = np.asarray(prompt.points, dtype=np.float64).reshape(-1, 2)
            signs = np.ones(len(xy)) if prompt.labels is None else np.asarray(prompt.labels)
            if signs.shape != (len(xy),):
                raise PersamError(
                    f"{len(xy)} points need {len(xy)} labels, not an array of {signs.shape}"
                )
            points = self._tensor(xy * scale)
            labels = self._tensor(signs)
        elif prompt.labels is not None:
            raise PersamError("labels were given without points: give both or neither")
        if prompt.box is not None:
            corners = np.asarray(prompt.box, dtype=np.float64)
            if corners.shape != (4,):
                raise PersamError(f"a box is x0, y0, x1, y1, not an array of {corners.shape}")
            box = self._tensor((corners.reshape(2, 2) * scale).reshape(4))
        mask = prompt.mask
        if mask is not None:
            if tuple(mask.shape) != (self.mask_size, self.mask_size):
                raise PersamError(
                    f"a mask prompt for {self.name} is {self.mask_size} x {self.mask_size} logits, "
                    f"not {tuple(mask.shape)}"
                )
            mask = mask.to(self.device)[None]
        return (
            embedding.features.to(self.device),
            points,
            labels,
            box,
            mask,
            None if prompt.attention_bias is None else prompt.attention_bias.to(self.device),
            None if prompt.token_offset is None else prompt.token_offset.to(self.device),
            None if prompt.tokens is None else prompt.tokens.to(self.device),
        )

    def _tensor(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


def _with_own(sam: Sam, part: str) -> Sam:
    """The model with modules of its own in one of its parts; it shares the others.

    The decoder's own modules hold the same numbers, frozen: a hundred objects, each with a decoder
    that was tuned to it, take the memory of one. The image encoder is copied with its weights.
    """
    changed = copy.copy(sam)
    changed._modules = dict(sam._modules)
    whole = getattr(sam, part)
    if part == "image_encoder":
        changed._modules[part] = copy.deepcopy(whole).requires_grad_(False)
    else:
        changed._modules[part] = _same_weights(whole)
    return changed


def _same_weights(module: torch.nn.Module) -> torch.nn.Module:
    """A module, and modules below it, that can be replaced or hooked; frozen, on shared memory."""
    own = copy.copy(module)
    for name, value in vars(module).items():
        if isinstance(value, dict):  # modules, buffers, hooks: each with a register of its own
            own.__dict__[name] = value.copy()
    for name, weights in own._parameters.items():
        if weights is not None:
            shared = torch.nn.Parameter(weights.detach(), requires_grad=False)
            own._parameters[name] = shared
    for name, child in own._modules.items():
        if child is not None:
            own._modules[name] = _same_weights(child)
    return own


def check_batch_size(given: int | None) -> int | None:
    """Raise PersamError unless this is None or 1 or more."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise PersamError(f"batch_size {given!r} is not a number of photos: give 1 or more")
    return int(given)


def _batch_size(given: int | None, defaults: dict[str, int], device: torch.device) -> int:
    return check_batch_size(given) or defaults.get(device.type, 4)


__all__ = ["Decoded", "ImageEmbedding", "Prompt", "PromptableSam", "photo_size"]
