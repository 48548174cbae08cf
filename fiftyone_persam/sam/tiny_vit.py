"""MobileSAM: SAM's decoder behind a TinyViT image encoder (Zhang et al., arXiv 2306.14289).

The encoder's blocks come from timm's ``tiny_vit_5m_224``, whose tensors are MobileSAM's under other
names; the last downsampling keeps its resolution, and SAM's neck follows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

import timm
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor, nn

IMAGE_SIZE = 1024
EMBED_DIM = 256
STRIDE = 16

_PREFIX = "image_encoder."
# Applied one after the other to a name in the published checkpoint, without its prefix.
_RENAMES: tuple[tuple[str, str], ...] = (
    (r"^patch_embed\.seq\.0\.", "patch_embed.conv1."),
    (r"^patch_embed\.seq\.2\.", "patch_embed.conv2."),
    (r"(conv\d?)\.c\.", r"\1.conv."),
    (r"^layers\.0\.downsample\.", "stages.1.downsample."),
    (r"^layers\.1\.downsample\.", "stages.2.downsample."),
    (r"^layers\.2\.downsample\.", "stages.3.downsample."),
    (r"^layers\.", "stages."),
)
# The classifier, which MobileSAM's file still carries.
_UNUSED = ("norm_head.", "head.")


class TinyVitEncoder(nn.Module):
    """(B, 3, S, S) normalised and padded photos -> (B, 256, S / 16, S / 16) embeddings."""

    def __init__(self, img_size: int = IMAGE_SIZE) -> None:
        super().__init__()
        self.img_size = img_size
        trunk = timm.create_model("tiny_vit_5m_224", pretrained=False, num_classes=0)
        self.patch_embed = trunk.patch_embed
        self.stages = trunk.stages
        # MobileSAM keeps stride 16 in the last stage.
        self.stages[3].downsample.conv2.conv.stride = (1, 1)
        self.neck = nn.Sequential(
            nn.Conv2d(320, EMBED_DIM, 1, bias=False),
            LayerNorm2d(EMBED_DIM),
            nn.Conv2d(EMBED_DIM, EMBED_DIM, 3, padding=1, bias=False),
            LayerNorm2d(EMBED_DIM),
        )

    def forward(self, x: Tensor) -> Tensor:
        """See the class."""
        return cast(Tensor, self.neck(self.stages(self.patch_embed(x))))


def map_mobile_sam_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the tensors of a MobileSAM checkpoint to those of `build_mobile_sam`'s model.

    Names outside the image encoder stay; the unused classifier is left out.
    """
    mapped = {}
    for name, tensor in state.items():
        if not name.startswith(_PREFIX):
            mapped[name] = tensor
            continue
        local = name.removeprefix(_PREFIX)
        if local.startswith(_UNUSED) or local.endswith("attention_bias_idxs"):
            continue
        for pattern, replacement in _RENAMES:
            local = re.sub(pattern, replacement, local)
        mapped[_PREFIX + local] = tensor
    return mapped


def build_mobile_sam(image_size: int = IMAGE_SIZE) -> Sam:
    """The MobileSAM architecture with random weights."""
    grid = image_size // STRIDE
    sam = Sam(
        image_encoder=TinyVitEncoder(image_size),
        prompt_encoder=PromptEncoder(
            EMBED_DIM, (grid, grid), (image_size, image_size), mask_in_chans=16
        ),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(
                depth=2, embedding_dim=EMBED_DIM, mlp_dim=2048, num_heads=8
            ),
            transformer_dim=EMBED_DIM,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    return sam.eval()
