"""Write a trained model as the float16 safetensors file that the package ships."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from segment_anything.modeling import Sam


def export(sam: Sam, path: Path, image_size: int, steps: int) -> None:
    """Save the weights in float16; the metadata tell what is needed to build the model again.

    Args:
        sam: the model.
        path: the safetensors file; it appears whole or not at all.
        image_size: side in pixels of the input the model is meant for.
        steps: training steps so far.
    """
    tensors = {
        name: tensor.detach().to("cpu", torch.float16).contiguous()
        for name, tensor in sam.state_dict().items()
    }
    metadata = {
        "format": "sam_lite",
        "version": "1",
        "image_size": str(image_size),
        "steps": str(steps),
    }
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata=metadata)
    partial.replace(path)
