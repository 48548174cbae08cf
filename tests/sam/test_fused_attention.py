"""The fused attention is the released one, without its attention maps."""

from __future__ import annotations

import copy
import pickle
from functools import partial

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention
from torch import nn

from fiftyone_persam.sam.fused_attention import (
    FusedAttention,
    fuse_attention,
    has_slow_attention,
)


def attention(grid: tuple[int, int], heads: int, rel_pos: bool, bias: bool) -> Attention:
    torch.manual_seed(0)
    made = Attention(heads * 20, heads, bias, rel_pos, input_size=grid)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made.eval()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rel_pos", [True, False])
@pytest.mark.parametrize(
    ("grid", "heads", "batch"), [((7, 7), 3, 2), ((5, 8), 1, 1), ((16, 16), 2, 3), ((1, 1), 2, 2)]
)
@torch.inference_mode()
def test_equals_the_released_attention(
    grid: tuple[int, int], heads: int, batch: int, rel_pos: bool, bias: bool
) -> None:
    released = attention(grid, heads, rel_pos, bias)
    x = torch.randn(batch, *grid, heads * 20, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(FusedAttention(released)(x), released(x), rtol=1e-5, atol=1e-5)


@torch.inference_mode()
def test_another_size_than_the_tables() -> None:
    """There the released code interpolates."""
    released = attention((7, 7), 2, True, True)
    x = torch.randn(1, 9, 5, 40)
    assert torch.equal(FusedAttention(released)(x), released(x))


@pytest.fixture(scope="module")
def encoder() -> ImageEncoderViT:
    """ViT-B's kinds of blocks, windowed (with padding) and global, but small."""
    torch.manual_seed(0)
    made = ImageEncoderViT(
        img_size=96,
        patch_size=8,
        embed_dim=48,
        depth=4,
        num_heads=3,
        out_chans=16,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=5,
        global_attn_indexes=(1, 3),
    ).eval()
    for name, parameter in made.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(parameter, std=0.2)
    return made


@torch.inference_mode()
def test_an_encoder_gives_the_same_embeddings(encoder: ImageEncoderViT) -> None:
    fused = copy.deepcopy(encoder)
    fuse_attention(fused)
    assert has_slow_attention(encoder) and not has_slow_attention(fused)
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(fused(x), encoder(x), rtol=1e-5, atol=1e-5)
    # What is saved, hashed or sent to another process is what it was.
    assert list(fused.state_dict()) == list(encoder.state_dict())
    again = pickle.loads(pickle.dumps(fused))
    assert torch.equal(again(x), fused(x))


@torch.inference_mode()
def test_half_precision_is_as_near_to_the_truth_as_the_released(encoder: ImageEncoderViT) -> None:
    x = torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(2))
    truth = encoder(x)
    released = copy.deepcopy(encoder).bfloat16()
    fused = copy.deepcopy(released)
    fuse_attention(fused)
    x = x.bfloat16()
    error = (fused(x).float() - truth).norm() / truth.norm()
    assert error < 1.5 * (released(x).float() - truth).norm() / truth.norm()
