"""EVF-SAM's weights as one module, by the names of the published checkpoints.

"EVF-SAM: Early Vision-Language Fusion for Text-Prompted Segment Anything Model" (Zhang et al.,
arXiv 2406.20076): photo and phrase go through BEiT-3 together (early fusion); what comes out for
[CLS] goes through two linear layers and is the only sparse prompt of SAM. BEiT-3, the layers and
SAM's mask decoder are trained; SAM's image encoder stays as it was published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from ...errors import CheckpointError
from ..checkpoints import load_weights, read_weights
from .beit3 import BEIT3_BASE, BEIT3_LARGE, Beit3, BeitConfig

HEAD_CHANNELS = 64
"""Channels of an attention head, in BEiT-3 of either size."""
ENCODER = "visual_model.image_encoder."
_BUFFERS = ("visual_model.pixel_mean", "visual_model.pixel_std")
_TEXT = "mm_extractor.beit3."


class EvfSam(nn.Module):
    """BEiT-3, the projector and SAM.

    Args:
        sam: whose decoder takes the prompt.
        config: of BEiT-3.

    Attributes:
        visual_model: SAM.
        mm_extractor: BEiT-3, under the name "beit3".
        text_hidden_fcs: the projector, as the only one of a list.
    """

    def __init__(self, sam: Sam, config: BeitConfig = BEIT3_LARGE) -> None:
        super().__init__()
        self.visual_model = sam
        self.mm_extractor = nn.ModuleDict({"beit3": Beit3(config)})
        width, out = config.width, int(sam.prompt_encoder.embed_dim)
        self.text_hidden_fcs = nn.ModuleList(
            [nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, out))]
        )

    @property
    def config(self) -> BeitConfig:
        """Of BEiT-3."""
        beit: Beit3 = self.mm_extractor["beit3"]  # type: ignore[assignment]
        return beit.config

    def prompt(self, photos: Tensor, text: Tensor) -> Tensor:
        """The sparse prompt of each photo and its phrase (paper, section 3.2).

        Args:
            photos: (B, 3, S, S), see `Beit3.forward`.
            text: (B, T) ids of text tokens.

        Returns:
            (B, 1, C) with SAM's C channels.
        """
        encoded = self.mm_extractor["beit3"](photos, text)
        projected: Tensor = self.text_hidden_fcs[0](encoded[:, :1])
        return projected


def read_evf(path: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint, ``.bin`` or ``.safetensors``, by their own names.

    Raises:
        CheckpointError: the file cannot be read, or holds something else than named tensors.
    """
    if path.suffix != ".safetensors":
        state = read_weights(path)
    else:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            state = load_file(path)
        except (SafetensorError, OSError, ValueError) as error:
            reason = " ".join(str(error).split())[:120]
            raise CheckpointError(
                f"checkpoint {path} cannot be read as weights ({reason}): get the file again"
            ) from None
    return {name: tensor for name, tensor in state.items() if name not in _BUFFERS}


def config_of(state: Mapping[str, Tensor], path: Path) -> BeitConfig:
    """The sizes of the BEiT-3 whose weights these are; base, large and smaller ones alike.

    Raises:
        CheckpointError: there is no BEiT-3 among them.
    """
    try:
        patches = state[f"{_TEXT}vision_embed.proj.weight"]
        seen = state[f"{_TEXT}encoder.embed_positions.A.weight"]
        hidden = state[f"{_TEXT}encoder.layers.0.ffn.A.fc1.weight"]
        words = state[f"{_TEXT}text_embed.weight"]
        places = state[f"{_TEXT}encoder.embed_positions.B.weight"]
    except KeyError as error:
        raise CheckpointError(
            f"checkpoint {path} is not of EVF-SAM, {error} is missing: get the published file again"
        ) from None
    width, patch = patches.shape[0], patches.shape[-1]
    pattern = re.compile(re.escape(_TEXT) + r"encoder\.layers\.(\d+)\.")
    numbers = {int(found[1]) for name in state if (found := pattern.match(name))}
    for known in (BEIT3_BASE, BEIT3_LARGE):
        if (known.width, known.layers) == (width, len(numbers)):
            heads = known.heads
            break
    else:
        heads = max(1, width // HEAD_CHANNELS)
    # Two rows of the table of positions are not used, and one is of [CLS].
    side = round((seen.shape[0] - 3) ** 0.5) * patch
    return BeitConfig(
        width=width,
        layers=len(numbers),
        heads=heads,
        hidden=hidden.shape[0],
        vocabulary=words.shape[0],
        image_size=side,
        patch_size=patch,
        positions=places.shape[0],
    )


def build_evf(sam: Sam, state: dict[str, Tensor], path: Path) -> EvfSam:
    """The module with the weights of a checkpoint, as float32.

    Args:
        sam: of the checkpoint's architecture; its weights are replaced.
        state: of the checkpoint, by its own names; its tensors become the module's.
        path: the file, for messages.

    Raises:
        CheckpointError: they belong to another architecture.
    """
    with torch.device("meta"):
        model = EvfSam(sam, config_of(state, path))
    # Gigabytes: no number is held twice, but for those of one tensor at a time.
    for name in state:
        state[name] = state[name].float()
    load_weights(model, state, path, assign=True)
    return model.eval().requires_grad_(False)
