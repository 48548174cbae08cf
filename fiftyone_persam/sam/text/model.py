"""A promptable model that takes phrases: EVF-SAM around an image embedding that SAM made."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import PersamError
from ..contrast import Contrast
from ..embedding import ImageEmbedding
from ..identity import hash_tensors
from ..model import PromptableSam
from ..photos import Photo, PhotoSource, load_photo, resize_photo
from .evf import EvfSam
from .tokens import PhraseTokenizer


class _Resized(np.ndarray):  # type: ignore[type-arg]
    """A photo inside SAM's square that carries its overview along.

    Attributes:
        overview: (3, s, s) float32; None if nobody has made one.
    """

    overview: Tensor | None = None


class TextSam(PromptableSam):
    """EVF-SAM: everything a `PromptableSam` is, and phrases as prompts.

    The image embedding is SAM's own, so one that is there already serves; BEiT-3 looks at the photo
    a second time, at 224 x 224 pixels, which every embedding carries as its ``overview``.

    Args:
        evf: the weights.
        tokenizer: of its phrases.
        name: see `PromptableSam`.
        device: see `PromptableSam`.
        dtype: of the encoders and the decoder.
        checkpoint_sha256: see `PromptableSam`.
        encoder_sha256: the `encoder_identity` of the model whose image encoder this is, to the last
            bit: embeddings that either of them has made serve both. None for one of its own.
    """

    def __init__(
        self,
        evf: EvfSam,
        tokenizer: PhraseTokenizer,
        name: str = "custom_evf_sam",
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
        checkpoint_sha256: str | None = None,
        encoder_sha256: str | None = None,
    ) -> None:
        super().__init__(evf.visual_model, name, device, dtype, checkpoint_sha256)
        self.tokenizer = tokenizer
        self.overview_size = evf.config.image_size
        self._encoder_sha256 = encoder_sha256
        self._phrase_weights: str | None = None
        # SAM itself is the base class's matter: it may be a copy in another type.
        fusing = copy.copy(evf)
        fusing._modules = {n: m for n, m in evf._modules.items() if n != "visual_model"}
        weights = list(fusing.parameters())
        if evf.training or any(w.dtype != dtype or w.device != self.device for w in weights):
            fusing = copy.deepcopy(fusing).to(self.device, dtype).eval()
        self._fusing = fusing
        self._evf = copy.copy(fusing)
        self._evf._modules = {"visual_model": self._plain, **fusing._modules}

    @property
    def weights_sha256(self) -> str:
        """Hash of all weights: of their file, else worked out once."""
        own = super().weights_sha256
        if self.checkpoint_sha256 is not None:
            return own
        if self._phrase_weights is None:
            self._phrase_weights = hash_tensors(self._fusing.state_dict(), own)
        return self._phrase_weights

    @property
    def identity(self) -> str:
        """See `Promptable.identity`."""
        beside = [] if self._encoder_sha256 is None else [self.encoder_identity]
        return "+".join([self.weights_sha256, *beside, *self._adapter_names("mask_decoder")])

    @property
    def encoder_identity(self) -> str:
        """See `Promptable.encoder_identity`."""
        if self._encoder_sha256 is None:
            return super().encoder_identity
        beside = [] if self.features is None else [self.features.identity]
        return "+".join([self._encoder_sha256, *self._adapter_names("image_encoder"), *beside])

    def on(self, device: torch.device | str) -> TextSam:
        """See `Promptable.on`."""
        target = torch.device(device)
        if target == self.device:
            return self
        moved = TextSam(
            self._evf,
            self.tokenizer,
            self.name,
            target,
            self.dtype,
            self.checkpoint_sha256,
            self._encoder_sha256,
        )
        moved.execution = self.execution.with_speed()
        moved = moved.with_features(self.features)  # type: ignore[assignment]
        for adapter in self.adapters:
            own = copy.deepcopy(adapter)
            moved = moved.adapted(  # type: ignore[assignment]
                own.to(target) if isinstance(own, torch.nn.Module) else own
            )
        return moved

    # Photos. --------------------------------------------------------------------------------------

    def load_and_resize(
        self, source: PhotoSource, contrast: Contrast | None = None
    ) -> tuple[Photo, tuple[int, int]]:
        """See `PromptableSam.load_and_resize`; the photo carries its overview along."""
        photo = load_photo(source, contrast)
        resized = resize_photo(photo, self.image_size).view(_Resized)
        resized.overview = overview_of(photo, self.overview_size)
        return resized, (photo.shape[0], photo.shape[1])

    def encode_resized(
        self,
        resized: Sequence[Photo],
        original_sizes: Sequence[tuple[int, int]],
        grad: bool = False,
    ) -> list[ImageEmbedding]:
        """See `PromptableSam.encode_resized`."""
        plain = [np.asarray(photo) for photo in resized]
        found = super().encode_resized(plain, original_sizes, grad)
        return [
            _with_overview(embedding, getattr(photo, "overview", None))
            for embedding, photo in zip(found, resized, strict=True)
        ]

    def complete(
        self, embedding: ImageEmbedding, source: PhotoSource, contrast: Contrast | None = None
    ) -> ImageEmbedding:
        """An embedding with its overview, read from the photo where it lacks one.

        Those of a cache lack it: SAM ViT-H may have made them.

        Raises:
            PhotoError: the photo cannot be read.
        """
        if embedding.overview is not None:
            return embedding
        overview = overview_of(load_photo(source, contrast), self.overview_size)
        return _with_overview(embedding, overview)

    # Phrases. -------------------------------------------------------------------------------------

    def check_phrase(self, phrase: str) -> None:
        """See `TextPromptable.check_phrase`."""
        self.tokenizer.encode(phrase)

    @torch.no_grad()
    def phrase_tokens(self, phrase: str, embeddings: Sequence[ImageEmbedding]) -> Tensor:
        """See `TextPromptable.phrase_tokens`."""
        overviews = [embedding.overview for embedding in embeddings]
        if any(overview is None for overview in overviews):
            raise PersamError(
                f"an embedding lacks the overview of its photo, which {self.name} looks at: encode "
                "the photo with this model"
            )
        photos = torch.stack([o for o in overviews if o is not None]).to(self.device, self.dtype)
        ids = torch.tensor([self.tokenizer.encode(phrase)], device=self.device)
        prompt: Tensor = self._fusing.prompt(photos, ids.expand(len(photos), -1))
        return prompt.float()


def overview_of(photo: Photo, size: int) -> Tensor:
    """The whole photo in a square, as the released code makes it for BEiT-3.

    Args:
        photo: (H, W, 3) uint8 RGB.
        size: side of the square.

    Returns:
        (3, size, size) float32: bicubic without antialiasing, mean and standard deviation 0.5.
    """
    values = torch.from_numpy(np.array(photo)).permute(2, 0, 1)[None].float() / 255
    # Values may overshoot 0 and 1 a little: the released code leaves them.
    small = F.interpolate(values, (size, size), mode="bicubic", align_corners=False)
    return (small[0] - 0.5) / 0.5


def _with_overview(embedding: ImageEmbedding, overview: Any) -> ImageEmbedding:
    return replace(embedding, overview=overview)
