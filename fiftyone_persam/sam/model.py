"""A promptable model: photos in, embeddings out; prompts in, masks out. Knows nothing of PerSAM."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor
from torch.nn import functional as F

from ..errors import PersamError
from .contrast import Contrast
from .decoding import decode_batch
from .fused_attention import fuse_attention, has_slow_attention
from .photos import Photo, PhotoSource, load_photo, photo_size, resize_photo

ENCODE_BATCH = {"cuda": 8, "mps": 4, "cpu": 4}
DECODE_BATCH = {"cuda": 64, "mps": 16, "cpu": 8}


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """What the image encoder knows of one photo.

    Attributes:
        features: (C, h, w) on the model's device, padding included.
        input_size: height and width of the photo inside the model's square input.
        original_size: height and width of the photo itself.
        image_size: side of the model's square input.
    """

    features: Tensor
    input_size: tuple[int, int]
    original_size: tuple[int, int]
    image_size: int

    @property
    def valid_grid(self) -> tuple[int, int]:
        """Rows and columns of the grid that hold a part of the photo; the others are padding."""
        height, width = self.features.shape[-2:]
        rows = -(-self.input_size[0] * height // self.image_size)
        columns = -(-self.input_size[1] * width // self.image_size)
        return rows, columns

    @property
    def scale(self) -> tuple[float, float]:
        """Factors that take x and y from photo pixels to pixels of the model's input."""
        return (
            self.input_size[1] / self.original_size[1],
            self.input_size[0] / self.original_size[0],
        )


@dataclass(frozen=True, eq=False)
class Prompt:
    """What to segment in one photo. Everything but the embedding is optional.

    Attributes:
        embedding: the photo.
        points: (n, 2) x, y in photo pixels.
        labels: (n,) 1 for the object, 0 for what is not the object; all 1 if left out.
        box: (4,) x0, y0, x1, y1 in photo pixels.
        mask: (hm, wm) mask logits of an earlier pass.
        attention_bias: (h * w,) added to the token-to-image attention.
        token_offset: (C,) added to the query tokens.
    """

    embedding: ImageEmbedding
    points: npt.ArrayLike | None = None
    labels: npt.ArrayLike | None = None
    box: npt.ArrayLike | None = None
    mask: Tensor | None = None
    attention_bias: Tensor | None = None
    token_offset: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """Masks of one prompt.

    Attributes:
        logits: (M, hm, wm) float32; the first is the single-mask token, the others are the scales.
        scores: (M,) predicted IoU of each.
    """

    logits: Tensor
    scores: Tensor


class PromptableSam:
    """A ``segment_anything.modeling.Sam`` with batched encoding and batched, guided decoding.

    The image encoder and the mask decoder run in ``dtype``; the prompt encoder, all coordinates
    and everything returned except the embeddings stay in float32. An image encoder that is too
    coarse in half precision says so with an attribute ``half_precision = False`` and stays in
    float32 as well.

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
        halves = getattr(sam.image_encoder, "half_precision", True)
        encoder_dtype = dtype if halves else torch.float32
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
            if fuse:
                fuse_attention(sam.image_encoder)
        self.sam = sam
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

    def preprocess(self, resized: Sequence[Photo]) -> Tensor:
        """Resized photos -> (B, 3, S, S) float32 on the device, normalised, then padded with 0."""
        size = self.image_size
        batch = torch.zeros((len(resized), 3, size, size), device=self.device)
        for slot, photo in zip(batch, resized, strict=True):
            height, width = photo.shape[:2]
            if max(height, width) > size:
                raise PersamError(
                    f"a resized photo of {height} x {width} does not fit into {size} x {size}: "
                    "use load_and_resize"
                )
            # torch cannot share read-only memory, which PIL hands out.
            pixels = torch.from_numpy(photo if photo.flags.writeable else photo.copy())
            if self.device.type == "cuda":
                pixels = pixels.pin_memory()  # else the transfer waits for all work on the device
            pixels = pixels.to(self.device, non_blocking=True).permute(2, 0, 1).float()
            slot[:, :height, :width] = (pixels - self.sam.pixel_mean) / self.sam.pixel_std
        return batch

    @torch.inference_mode()
    def encode_resized(
        self, resized: Sequence[Photo], original_sizes: Sequence[tuple[int, int]]
    ) -> list[ImageEmbedding]:
        """Encode photos from `load_and_resize` as one batch."""
        if not resized:
            return []
        pixels = self.preprocess(resized).to(self._encoder_dtype)
        features = self.sam.image_encoder(pixels).to(self.dtype)
        return [
            ImageEmbedding(row, (photo.shape[0], photo.shape[1]), size, self.image_size)
            for row, photo, size in zip(features, resized, original_sizes, strict=True)
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
        )
        return logits.float(), scores.float()

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
        )

    def _tensor(self, values: npt.NDArray[np.generic]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


def check_batch_size(given: int | None) -> int | None:
    """Raise PersamError unless this is None or 1 or more."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise PersamError(f"batch_size {given!r} is no number of photos: give 1 or more")
    return int(given)


def _batch_size(given: int | None, defaults: dict[str, int], device: torch.device) -> int:
    return check_batch_size(given) or defaults.get(device.type, 4)


__all__ = ["Decoded", "ImageEmbedding", "Prompt", "PromptableSam", "photo_size"]
