"""Promptable models: registry, checkpoints, image encoding, guided mask decoding.

Uses torch and segment_anything, never fiftyone, and knows nothing of PerSAM. Names are resolved on
first use, so reading photos and masks needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Adapter": "promptable",
    "Contrast": "contrast",
    "Decoded": "embedding",
    "FEATURE_SOURCES": "features",
    "FeatureSource": "features",
    "ImageEmbedding": "embedding",
    "MODELS": "registry",
    "ModelEntry": "registry",
    "ModelInfo": "registry",
    "PROPOSERS": "proposals",
    "Photo": "photos",
    "PhotoSource": "photos",
    "Prompt": "embedding",
    "Promptable": "promptable",
    "PromptableSam": "model",
    "Proposal": "proposals",
    "Proposer": "proposals",
    "TextPromptable": "promptable",
    "TextSam": "text.model",
    "TimmFeatures": "features",
    "decode_batch": "decoding",
    "feature_source": "features",
    "hash_tensors": "identity",
    "list_models": "registry",
    "load_photo": "photos",
    "load_sam": "registry",
    "model_zoo_dir": "checkpoints",
    "photo_size": "photos",
    "read_photo": "photos",
    "resize_photo": "photos",
    "resolve_device": "registry",
    "resolve_dtype": "registry",
}

__all__ = [
    "FEATURE_SOURCES",
    "MODELS",
    "PROPOSERS",
    "Adapter",
    "Contrast",
    "Decoded",
    "FeatureSource",
    "ImageEmbedding",
    "ModelEntry",
    "ModelInfo",
    "Photo",
    "PhotoSource",
    "Prompt",
    "Promptable",
    "PromptableSam",
    "Proposal",
    "Proposer",
    "TextPromptable",
    "TextSam",
    "TimmFeatures",
    "decode_batch",
    "feature_source",
    "hash_tensors",
    "list_models",
    "load_photo",
    "load_sam",
    "model_zoo_dir",
    "photo_size",
    "read_photo",
    "resize_photo",
    "resolve_device",
    "resolve_dtype",
]

if TYPE_CHECKING:
    from .checkpoints import model_zoo_dir
    from .contrast import Contrast
    from .decoding import decode_batch
    from .embedding import Decoded, ImageEmbedding, Prompt
    from .features import FEATURE_SOURCES, FeatureSource, TimmFeatures, feature_source
    from .model import PromptableSam
    from .photos import Photo, PhotoSource, load_photo, photo_size, read_photo, resize_photo
    from .promptable import Adapter, Promptable, TextPromptable
    from .proposals import PROPOSERS, Proposal, Proposer
    from .registry import (
        MODELS,
        ModelEntry,
        ModelInfo,
        list_models,
        load_sam,
        resolve_device,
        resolve_dtype,
    )
    from .text.model import TextSam


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
