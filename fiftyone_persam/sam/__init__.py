"""Promptable models: registry, checkpoints, image encoding, guided mask decoding.

Imports torch and segment_anything, never fiftyone, and knows nothing of PerSAM.
"""

from .checkpoints import model_zoo_dir
from .contrast import Contrast
from .decoding import decode_batch
from .embedding import Decoded, ImageEmbedding, Prompt
from .features import FEATURE_SOURCES, FeatureSource, TimmFeatures, feature_source
from .model import PromptableSam
from .photos import Photo, PhotoSource, load_photo, photo_size, read_photo, resize_photo
from .promptable import Adapter, Promptable
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
    "TimmFeatures",
    "decode_batch",
    "feature_source",
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
