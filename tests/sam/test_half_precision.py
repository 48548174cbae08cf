"""float16 has float32 islands where its range ends."""

from __future__ import annotations

import pytest
import torch
from segment_anything.modeling.common import LayerNorm2d
from torch import nn

from benchmarks.seeded import small_sam
from fiftyone_persam.sam import PromptableSam
from fiftyone_persam.sam.half_precision import SteadyLayerNorm2d, steady_norms, works_in


@pytest.mark.parametrize("scale", [1.0, 300.0, 10_000.0])
def test_a_norm_whose_squares_overflow(scale: float) -> None:
    torch.manual_seed(0)
    norm = LayerNorm2d(8)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 8, 3, 5) * scale
    wanted = norm(x)
    half = nn.Sequential(LayerNorm2d(8))
    half[0].load_state_dict(norm.state_dict())
    half.half()
    if scale > 256:
        assert not torch.allclose(half(x.half()).float(), wanted, atol=0.1)
    steady_norms(half)
    assert isinstance(half[0], SteadyLayerNorm2d)
    torch.testing.assert_close(half(x.half()).float(), wanted, rtol=5e-3, atol=5e-3)


def test_a_model_in_float16_has_steady_norms_and_the_same_weights() -> None:
    own = small_sam()
    half = PromptableSam(own, dtype=torch.float16)
    kinds = {type(m) for m in half.sam.modules() if isinstance(m, LayerNorm2d)}
    assert SteadyLayerNorm2d in kinds
    assert list(half.sam.state_dict()) == list(own.state_dict())
    assert not any(isinstance(m, SteadyLayerNorm2d) for m in own.modules())


@pytest.mark.parametrize(
    ("says", "dtype", "works"),
    [
        (None, torch.float16, True),
        (True, torch.bfloat16, True),
        (False, torch.float16, False),
        (False, torch.float32, True),
        (torch.float16, torch.float16, True),
        (torch.float16, torch.bfloat16, False),
        (torch.float16, torch.float32, True),
    ],
)
def test_an_encoder_says_in_which_dtype_it_works(says: object, dtype: object, works: bool) -> None:
    encoder = nn.Linear(1, 1)
    if says is not None:
        encoder.half_precision = says  # type: ignore[assignment]
    assert works_in(encoder, dtype) is works  # type: ignore[arg-type]
