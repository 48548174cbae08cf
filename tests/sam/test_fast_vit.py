"""The kernels compute the released attention: in Triton's interpreter here, on a GPU where one is.

The interpreter has to be asked for before Triton is imported, so it runs in another process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from segment_anything.modeling import ImageEncoderViT
from segment_anything.modeling.image_encoder import Attention, window_partition, window_unpartition
from torch import nn

from fiftyone_persam.sam import fast_vit
from fiftyone_persam.sam.fused_attention import FusedAttention, fuse_attention

pytest.importorskip("triton")

# height, width, window, heads, length of a head, photos, queries of a block, rows at a time
CASES = [
    (8, 8, 0, 2, 16, 2, 32, 2),
    (5, 9, 0, 1, 20, 1, 16, 2),  # no block is whole
    (6, 17, 0, 1, 24, 1, 64, 1),
    (6, 6, 4, 2, 20, 1, 16, 1),  # windows with padding
    (9, 5, 3, 1, 16, 2, 64, 1),
    (4, 4, 4, 1, 80, 1, 16, 1),  # ViT-H's heads
]


def attention(size: tuple[int, int], heads: int, length: int) -> Attention:
    torch.manual_seed(0)
    made = Attention(heads * length, heads, True, True, input_size=size).requires_grad_(False)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.2)
    return made.eval()


def error_of(
    height: int,
    width: int,
    window: int,
    heads: int,
    length: int,
    photos: int,
    block: int,
    rows: int,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> float:
    """Relative error of the kernels against the released attention in float32."""
    from fiftyone_persam.sam import attention_kernels as kernels

    size = (window, window) if window else (height, width)
    released = attention(size, heads, length).to(device)
    x = torch.randn(photos, height, width, heads * length).to(device)
    if window:
        windows, padded = window_partition(x, window)
        parts = released(windows)
        wanted = window_unpartition(parts, window, padded, (height, width))
    else:
        wanted = released(x)
    own = released.to(dtype)
    fused = FusedAttention(own)
    cut = kernels.Blocks(block, 16, 4, 2, rows)
    qkv = own.qkv(x.to(dtype))
    attended = kernels.attend(qkv, own.qkv.bias, fused.rows, fused.columns, heads, window, cut)
    found = own.proj(attended).float()
    return float((found - wanted).norm() / wanted.norm())


def encoder(heads: int = 2) -> ImageEncoderViT:
    """ViT-B's kinds of blocks, windowed (with padding) and global, but small."""
    torch.manual_seed(0)
    made = ImageEncoderViT(
        img_size=40,
        patch_size=8,
        embed_dim=heads * 16,
        depth=2,
        num_heads=heads,
        out_chans=16,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
        window_size=3,
        global_attn_indexes=(1,),
    )
    for name, parameter in made.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(parameter, std=0.2)
    return made.eval().requires_grad_(False)


def encoder_errors(scale: float, device: str = "cpu") -> dict[str, float]:
    """Relative errors in float16 of `fast_vit.encode` and of the encoder's own forward.

    Args:
        scale: the residual stream is so many times as large as the random weights make it.
    """
    exact = encoder().to(device)
    exact.pos_embed.mul_(scale / 5)  # type: ignore[union-attr]
    for block in exact.blocks:
        nn.init.normal_(block.mlp.lin2.bias, std=scale / 5)  # type: ignore[arg-type, union-attr]
    x = torch.randn(1, 3, 40, 40).to(device)
    wanted = exact(x)
    half = exact.half()
    fuse_attention(half)
    assert fast_vit.applies(half)
    found, plain = fast_vit.encode(half, x.half()).float(), half(x.half()).float()
    assert found.shape == wanted.shape
    return {
        name: float((one - wanted).norm() / wanted.norm()) if one.isfinite().all() else 1e9
        for name, one in (("fast", found), ("plain", plain))
    }


def main() -> None:
    """In the interpreter's process."""
    errors = [error_of(*case) for case in CASES]
    halves = [error_of(*CASES[index], torch.float16) for index in (0, 3, 5)]
    encoders = {str(scale): encoder_errors(scale) for scale in (5.0, 1e5)}
    print(json.dumps({"float32": errors, "float16": halves, "encoder": encoders}))


@pytest.fixture(scope="module")
def interpreted() -> dict[str, list[float]]:
    done = subprocess.run(
        [sys.executable, "-c", f"from {__name__} import main; main()"],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_the_released_attention(interpreted: dict[str, list[float]], case: int) -> None:
    assert interpreted["float32"][case] < 1e-6


def test_in_half_precision(interpreted: dict[str, list[float]]) -> None:
    assert max(interpreted["float16"]) < 2e-3


def test_a_whole_encoder(interpreted: dict[str, dict[str, dict[str, float]]]) -> None:
    found = interpreted["encoder"]["5.0"]
    assert found["fast"] < 3e-3 and found["fast"] < 1.5 * found["plain"]


def test_a_stream_beyond_float16_does_not_overflow(
    interpreted: dict[str, dict[str, dict[str, float]]],
) -> None:
    """The residual stream reaches more than 65504 here, where float16 ends."""
    found = interpreted["encoder"]["100000.0"]
    assert found["fast"] < 3e-3 < 0.1 < found["plain"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_where_it_applies(dtype: torch.dtype) -> None:
    plain = encoder().to(dtype)
    assert not fast_vit.applies(plain)  # its attention is not fused
    fuse_attention(plain)
    assert fast_vit.applies(plain)
    assert not fast_vit.applies(plain.float())
    assert not fast_vit.applies(nn.Linear(1, 1))


@pytest.mark.parametrize("listens", ["blocks.0", "blocks.1.attn", "blocks.0.norm2", "neck.1", ""])
def test_modules_with_hooks_are_called_as_they_are(listens: str) -> None:
    half = encoder().half()
    fuse_attention(half)
    half.get_submodule(listens).register_forward_hook(lambda *_: None)
    assert not fast_vit.applies(half)


def test_short_heads_are_left_alone() -> None:
    torch.manual_seed(0)
    half = ImageEncoderViT(
        img_size=32, embed_dim=24, depth=1, num_heads=3, use_rel_pos=True, window_size=0
    ).half()
    fuse_attention(half)
    assert not fast_vit.applies(half)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(
    ("dtype", "bound"), [(torch.float16, 2e-3), (torch.bfloat16, 1.5e-2)], ids=str
)
@pytest.mark.parametrize(
    "case",
    [
        *CASES,
        (64, 64, 0, 16, 80, 1, 64, 1),
        (64, 64, 0, 12, 64, 2, 64, 2),
        (64, 64, 14, 16, 80, 1, 128, 1),
    ],
    ids=str,
)
@torch.inference_mode()
def test_compiled_kernels_on_a_gpu(case: tuple[int, ...], dtype: torch.dtype, bound: float) -> None:
    assert error_of(*case, dtype, "cuda") < bound


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("scale", [5.0, 1e5])
@torch.inference_mode()
def test_an_encoder_on_a_gpu(scale: float) -> None:
    assert encoder_errors(scale, "cuda")["fast"] < 3e-2
