"""Changes of a cut-out: other material inside the same outline, and bodies built from blocks."""

from __future__ import annotations

import pytest
import torch

from training.bank import Bank
from training.bodies import blocks, patched, shaded

SEEDS = range(6)


@pytest.fixture
def rgba(bank: Bank) -> torch.Tensor:
    return bank.cutouts[-1].float()


@pytest.mark.parametrize("seed", SEEDS)
def test_patches_keep_the_outline(bank: Bank, rgba: torch.Tensor, seed: int) -> None:
    changed = patched(bank, rgba, torch.Generator().manual_seed(seed))
    assert torch.equal(changed[3], rgba[3])
    assert changed.shape == rgba.shape
    difference = (changed[:3] - rgba[:3]).abs().amax(0)
    assert (difference > 20).float().mean() > 0.01
    again = patched(bank, rgba, torch.Generator().manual_seed(seed))
    assert torch.equal(changed, again)


@pytest.mark.parametrize("seed", SEEDS)
def test_shade_darkens_one_side(rgba: torch.Tensor, seed: int) -> None:
    white = rgba.clone()
    white[:3] = 200
    lit = shaded(white, torch.Generator().manual_seed(seed))
    assert torch.equal(lit[3], rgba[3])
    assert lit[:3].min() >= 0
    assert lit[:3].max() <= 255
    halves = [lit[0].chunk(2, axis) for axis in (0, 1)]
    assert max(abs(float(a.mean() - b.mean())) for a, b in halves) > 5


@pytest.mark.parametrize("seed", SEEDS)
def test_blocks_make_one_body_inside_the_canvas(bank: Bank, seed: int) -> None:
    side = 96
    body = blocks(bank, side, torch.Generator().manual_seed(seed))
    assert body.shape == (4, side, side)
    assert body.min() >= 0
    assert body.max() <= 255
    solid = body[3] > 128
    assert 0.02 < solid.float().mean() < 0.95
    assert not torch.cat([solid[0], solid[-1], solid[:, 0], solid[:, -1]]).any()
