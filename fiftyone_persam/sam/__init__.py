"""Promptable models: registry, checkpoints, image encoding, guided mask decoding.

Imports torch and segment_anything, never fiftyone, and knows nothing of PerSAM.
"""

from .checkpoints import model_zoo_dir
from .contrast import Contrast
from .decoding import decode_batch
from .model import Decoded, ImageEmbedding, Prompt, PromptableSam
from .photos import Photo, PhotoSource, load_photo, photo_size, read_photo, resize_photo
from .registry import ModelInfo, list_models, load_sam, resolve_device, resolve_dtype

__all__ = [
    "Contrast",
    "Decoded",
    "ImageEmbedding",
    "ModelInfo",
    "Photo",
    "PhotoSource",
    "Prompt",
    "PromptableSam",
    "decode_batch",
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
