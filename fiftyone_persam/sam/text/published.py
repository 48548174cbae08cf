"""The published checkpoints of EVF-SAM, as models that can be named. Cheap to import."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...errors import CheckpointError
from .. import checkpoints
from ..checkpoints import Checkpoint
from ..identity import hash_tensors
from .evf import ENCODER, build_evf, read_evf
from .model import TextSam
from .tokens import PhraseTokenizer, check_installed, is_installed

if TYPE_CHECKING:
    from segment_anything.modeling import Sam

    from ..registry import ModelInfo

logger = logging.getLogger(__name__)

_HUB = "https://huggingface.co/YxZhang/"
_LICENSE = "Apache-2.0"

TOKENIZER = Checkpoint(
    "evf-sam_sentencepiece.bpe.model",
    _HUB + "evf-sam/resolve/a98279630ec103876f6da5e007c7d6d6816d8e56/sentencepiece.bpe.model",
    1_356_293,
    "6f5e2fefcf793761a76a6bfb8ad35489f9c203b25557673284b6d032f41043f4",
    _LICENSE,
)
EVF_SAM_WEIGHTS = Checkpoint(
    "evf-sam_pytorch_model.bin",
    _HUB + "evf-sam/resolve/a98279630ec103876f6da5e007c7d6d6816d8e56/pytorch_model.bin",
    2_630_742_858,
    "8d57771174d1ad276c7abbc2a18218cae54ac95efbc882f178bfd84565a0555e",
    _LICENSE,
)
MULTITASK_WEIGHTS = Checkpoint(
    "evf-sam-multitask_model.safetensors",
    _HUB + "evf-sam-multitask/resolve/d07bae5c95577811f51d06f7edc7ea51e375bd94/model.safetensors",
    2_630_000_000,
    "e7c6a36de0180dc181dad4473fc1dd475f818bd07ca873fe58874b31cb16183c",
    _LICENSE,
    rounded=True,
)
SEMANTIC = {"[semantic]": 64002}
"""Begins a phrase that means all of a kind, in the checkpoint that was trained for that."""


def _vit_h() -> Sam:
    from segment_anything.build_sam import build_sam_vit_h

    return build_sam_vit_h()


@dataclass(frozen=True)
class PublishedEvfSam:
    """An EVF-SAM whose weights are a published file in FiftyOne's model zoo folder.

    Attributes:
        name: what to pass to `load_sam`.
        description: one line.
        weights: its file.
        tokenizer: the file of its sentencepiece model.
        added: words that are one token each.
        build: makes the SAM that it has inside.
        frozen_encoder: the model in `registry.CHECKPOINTS` whose image encoder it has; "" for none.
        image_size: side of its square input in pixels.
        author: of the weights.
        license: of the weights.
    """

    name: str
    description: str
    weights: Checkpoint
    tokenizer: Checkpoint = TOKENIZER
    added: Mapping[str, int] = field(default_factory=dict)
    build: Callable[[], Sam] = _vit_h
    frozen_encoder: str = "sam_vit_h"
    image_size: int = 1024
    author: str = "Yuxuan Zhang et al."
    license: str = _LICENSE

    def info(self) -> ModelInfo:
        """See `ModelEntry.info`."""
        from ..registry import ModelInfo

        there = self.weights.seems_whole() and self.tokenizer.seems_whole()
        return ModelInfo(
            self.name,
            self.weights.bytes,
            self.image_size,
            self.weights.url,
            self.weights.path,
            there and is_installed(),
            self.description,
            self.author,
            self.license,
            text=True,
        )

    def provide(self, download: bool) -> Path:
        """See `ModelEntry.provide`; also PersamError where sentencepiece is missing."""
        check_installed()  # before gigabytes are fetched for nothing
        checkpoints.ensure(self.tokenizer, download)
        return checkpoints.ensure(self.weights, download)

    def load(self, device: torch.device, dtype: torch.dtype, download: bool) -> TextSam:
        """See `ModelEntry.load`."""
        path = self.provide(download)
        state = read_evf(path)
        encoder = self._share_encoder(state)
        tokenizer = PhraseTokenizer.from_file(self.tokenizer.path, self.added)
        evf = build_evf(self.build(), state, path)
        sha256 = self.weights.sha256
        return TextSam(evf, tokenizer, self.name, device, dtype, sha256, encoder)

    def _share_encoder(self, state: dict[str, Tensor]) -> str | None:
        """Put the frozen encoder's published weights in place of their copy, if they are here.

        The copy has half the precision. Where a hash says that it is the original, rounded, the
        original takes its place, and embeddings that the original has made serve as well.

        Returns:
            What names the original's embeddings; None if the copy stays.
        """
        from ..registry import CHECKPOINTS

        original = CHECKPOINTS.get(self.frozen_encoder)
        if original is None or not original.seems_whole():
            return None
        copied = {n.removeprefix(ENCODER): t for n, t in state.items() if n.startswith(ENCODER)}
        try:
            read = checkpoints.read_weights(checkpoints.verify(original))
        except CheckpointError as error:
            logger.warning("%s keeps its own image encoder: %s", self.name, error)
            return None
        start = ENCODER.partition(".")[2]
        own = {n.removeprefix(start): t for n, t in read.items() if n.startswith(start)}
        kinds = {name: tensor.dtype for name, tensor in copied.items()}
        if own.keys() != kinds.keys():
            return None
        wanted = hash_tensors(copied)
        # It may have gone through the type of a training before it was saved in half precision.
        if wanted not in (
            hash_tensors({n: t.to(through).to(kinds[n]) for n, t in own.items()})
            for through in (torch.float32, torch.bfloat16)
        ):
            logger.warning(
                "%s has another image encoder than %s: their embeddings are kept apart",
                *(self.name, self.frozen_encoder),
            )
            return None
        state.update({ENCODER + name: tensor for name, tensor in own.items()})
        return original.sha256


EVF_SAM = PublishedEvfSam(
    "evf_sam", "EVF-SAM (SAM ViT-H and BEiT-3 large): takes phrases", EVF_SAM_WEIGHTS
)
EVF_SAM_MULTITASK = PublishedEvfSam(
    "evf_sam_multitask",
    "EVF-SAM for parts and classes, too: '[semantic] ' before a phrase means all of its kind",
    MULTITASK_WEIGHTS,
    added=SEMANTIC,
)
