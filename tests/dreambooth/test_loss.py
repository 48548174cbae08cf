from __future__ import annotations

import numpy as np
import pytest
import torch

from fiftyone_persam.dreambooth import latent_weights, weighted_mse


def test_weights_are_the_mask_s_share_of_each_cell() -> None:
    mask = torch.zeros(1, 1, 16, 16)
    mask[..., 3:16, 8:] = 1
    weights = latent_weights(mask, (2, 2))
    assert torch.equal(weights[0, 0], torch.tensor([[0.0, 5 / 8], [0.0, 1.0]]))
    outside = latent_weights(mask, (2, 2), outside=0.2)
    assert torch.allclose(outside[0, 0], torch.tensor([[0.2, 0.7], [0.2, 1.0]]))
    assert torch.equal(latent_weights(mask, (2, 2), outside=1.0), torch.ones(1, 1, 2, 2))


@pytest.mark.parametrize("normalize", [True, False])
def test_loss_is_the_weighted_mean(normalize: bool) -> None:
    made = np.random.default_rng(0)
    prediction, target = made.normal(size=(2, 2, 4, 5, 6))
    weights = made.random((2, 1, 5, 6))
    weights[:, :, :2] = 0
    expected = []
    for p, t, w in zip(prediction, target, weights, strict=True):
        error = ((p - t) ** 2).mean(axis=0) * w[0]
        expected.append(error.sum() / (w.sum() if normalize else w.size))
    given = [torch.from_numpy(one) for one in (prediction, target, weights)]
    assert float(weighted_mse(*given, normalize)) == pytest.approx(np.mean(expected), rel=1e-5)


def test_without_weights_it_is_the_mean_squared_error() -> None:
    prediction, target = torch.randn(2, 3, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    plain = torch.nn.functional.mse_loss(prediction, target)
    assert float(weighted_mse(prediction, target)) == pytest.approx(float(plain))
    ones = torch.ones(3, 1, 5, 6)
    assert float(weighted_mse(prediction, target, ones)) == pytest.approx(float(plain))


def test_ignored_cells_have_no_gradient_whatever_is_in_them() -> None:
    prediction = torch.randn(1, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    prediction[..., :2] = float("inf")
    prediction.requires_grad_()
    weights = torch.ones(1, 1, 4, 4)
    weights[..., :2] = 0
    loss = weighted_mse(prediction, torch.zeros(1, 4, 4, 4), weights)
    loss.backward()
    assert torch.isfinite(loss) and prediction.grad is not None
    assert not prediction.grad[..., :2].any() and prediction.grad[..., 2:].all()
