"""The tuning against a plain loop of AdamW over every pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import released
from fiftyone_persam.personalize import tune_scales

SIZE = 40


def example(seed: int, scale: float, share: float) -> tuple[Tensor, Tensor]:
    """Three noisy views of a disc at different offsets, and the disc."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.linspace(-1, 1, SIZE)
    radius = (steps[:, None] ** 2 + steps**2).sqrt()
    truth = radius < share
    offsets = torch.tensor([-0.3, 0.1, 0.5])[:, None, None]
    noise = torch.randn(3, SIZE, SIZE, generator=generator)
    return scale * (share + offsets - radius + 0.3 * noise), truth


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("scale", [0.5, 5.0, 40.0])
@pytest.mark.parametrize("share", [0.1, 0.7])
def test_equals_a_plain_loop(seed: int, scale: float, share: float) -> None:
    logits, truth = example(seed, scale, share)
    tuning = tune_scales([logits], [truth])
    weights, losses = released.tune(
        logits.double().flatten(1), truth.flatten().double(), steps=1000
    )
    np.testing.assert_allclose(tuning.weights, weights[:, 0], atol=1e-4)
    np.testing.assert_allclose([row[1:] for row in tuning.losses], losses, atol=1e-4)
    assert [row[0] for row in tuning.losses] == [*range(0, 1000, 100), 999]
    assert sum(tuning.weights) == pytest.approx(1)


@pytest.mark.parametrize("steps", [1, 7, 250])
def test_any_number_of_steps(steps: int) -> None:
    logits, truth = example(0, 5.0, 0.5)
    weights, _ = released.tune(logits.flatten(1), truth.flatten().float(), steps)
    np.testing.assert_allclose(
        tune_scales([logits], [truth], steps).weights, weights[:, 0], atol=1e-4
    )


def test_no_step_leaves_equal_weights() -> None:
    logits, truth = example(0, 5.0, 0.5)
    tuning = tune_scales([logits], [truth], steps=0)
    assert tuning.weights == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert tuning.losses == ()


def test_the_way_there_is_remembered() -> None:
    logits, truth = example(0, 5.0, 0.5)
    tuning = tune_scales([logits], [truth], steps=60, every=25)
    assert [step for step, _ in tuning.path] == [0, 25, 50, 60]
    assert tuning.path[0][1] == pytest.approx((1 / 3, 1 / 3, 1 / 3))
    assert tuning.path[-1][1] == tuning.weights
    plain = tune_scales([logits], [truth], steps=60)
    assert plain.path == () and plain.weights == tuning.weights


def test_the_loss_falls() -> None:
    logits, truth = example(1, 5.0, 0.5)
    first, *_, last = tune_scales([logits], [truth]).losses
    assert sum(last[1:]) < sum(first[1:])


def test_several_references_share_one_loss() -> None:
    (one, mask), (other, small) = example(0, 5.0, 0.7), example(1, 5.0, 0.3)
    twice = tune_scales([one, one], [mask, mask]).weights
    np.testing.assert_allclose(twice, tune_scales([one], [mask]).weights, atol=1e-9)
    both = tune_scales([one, other], [mask, small]).weights
    alone = [tune_scales([one], [mask]).weights, tune_scales([other], [small]).weights]
    low, high = np.min(alone, axis=0)[0], np.max(alone, axis=0)[0]
    assert low < both[0] < high


def test_references_of_different_sizes() -> None:
    one, mask = example(0, 5.0, 0.7)
    tuning = tune_scales([one, one[:, :20]], [mask, mask[:20]])
    assert np.isfinite(tuning.weights).all()
