"""Losses against plain numpy, written from their definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from training.losses import (
    CROSS_ENTROPY_WEIGHT,
    DICE_WEIGHT,
    TEMPERATURE,
    decoding_loss,
    mask_ious,
    mask_losses,
    prior_hits,
    prior_loss,
)

Array = npt.NDArray[np.floating[Any]]


def masks(count: int = 3, scales: int = 4, side: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits (n, M, h, w) and coverage (n, h, w); the last photo's object is not there at all."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(count, scales, side, side, generator=generator) * 4
    targets = torch.rand(count, side, side, generator=generator)
    targets[-1] = 0
    return logits, targets


def plain_mask_loss(logit: Array, target: Array) -> float:
    p = 1 / (1 + np.exp(-logit))
    entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).mean()
    dice = 1 - (2 * (p * target).sum() + 1) / (p.sum() + target.sum() + 1)
    return float(CROSS_ENTROPY_WEIGHT * entropy + DICE_WEIGHT * dice)


def plain_iou(logit: Array, target: Array) -> float:
    mask, truth = logit > 0, target > 0.5
    union = (mask | truth).sum()
    return float((mask & truth).sum() / union) if union else 0.0


def test_mask_losses() -> None:
    logits, targets = masks()
    losses = mask_losses(logits, targets)
    expected = [
        [plain_mask_loss(m, t) for m in row]
        for row, t in zip(logits.double().numpy(), targets.double().numpy(), strict=True)
    ]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


def test_a_perfect_mask_costs_nothing() -> None:
    _, targets = masks()
    truth = (targets > 0.5).float()
    right, wrong = (truth * 2 - 1) * 50, (1 - truth * 2) * 50
    assert mask_losses(right[:, None], truth).max() < 1e-4
    assert mask_losses(wrong[:, None], truth).min() > 2


def test_mask_ious() -> None:
    logits, targets = masks()
    logits[-1, 0] = -1  # empty against empty
    expected = [
        [plain_iou(m, t) for m in row]
        for row, t in zip(logits.numpy(), targets.numpy(), strict=True)
    ]
    np.testing.assert_allclose(mask_ious(logits, targets), expected, rtol=1e-6)


def test_decoding_loss_takes_the_single_mask_and_the_best_scale() -> None:
    logits, targets = masks()
    scores = torch.rand(3, 4, generator=torch.Generator().manual_seed(1))
    loss, ious = decoding_loss(logits, scores, targets)
    total = 0.0
    for row, t in zip(logits.double().numpy(), targets.double().numpy(), strict=True):
        losses = [plain_mask_loss(m, t) for m in row]
        total += (losses[0] + min(losses[1:])) / 3
    quality = float(np.square(scores.numpy() - ious.numpy()).mean())
    assert float(loss) == pytest.approx(total + quality, rel=1e-5)
    np.testing.assert_allclose(ious, mask_ious(logits, targets))


def test_decoding_loss_teaches_one_scale_of_three() -> None:
    logits, targets = masks(count=1)
    logits.requires_grad_()
    loss, _ = decoding_loss(logits, torch.zeros(1, 4), targets)
    loss.backward()
    assert logits.grad is not None
    taught = logits.grad.abs().amax((2, 3))[0] > 0
    best = 1 + int(mask_losses(logits.detach(), targets)[0, 1:].argmin())
    assert taught.nonzero()[:, 0].tolist() == [0, best]


def cells() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Similarity, coverage and validity (n, 30); the last photos lack objects, or anything else."""
    generator = torch.Generator().manual_seed(2)
    similarity = torch.rand(5, 30, generator=generator) * 2 - 1
    coverage = torch.rand(5, 30, generator=generator)
    coverage[:, ::2] = 0
    valid = torch.rand(5, 30, generator=generator) < 0.8
    coverage[3], coverage[4] = 0, 1
    return similarity, coverage, valid


def plain_prior_loss(similarity: Array, coverage: Array, valid: Array) -> float:
    per_photo = []
    for s, c, v in zip(similarity, coverage, valid, strict=True):
        inside = [i for i in range(len(s)) if v[i] and c[i] > 0.5]
        outside = [i for i in range(len(s)) if v[i] and c[i] < 0.05]
        if not inside or not outside:
            continue
        wrong = sum(np.exp(s[i] / TEMPERATURE) for i in outside)
        # The cross-entropy of picking the object's cell out of it and all background cells.
        per_photo.append(
            np.mean([
                -np.log(np.exp(s[i] / TEMPERATURE) / (np.exp(s[i] / TEMPERATURE) + wrong))
                for i in inside
            ])
        )  # fmt: skip
    return float(np.mean(per_photo))


def test_prior_loss() -> None:
    similarity, coverage, valid = cells()
    expected = plain_prior_loss(similarity.double().numpy(), coverage.numpy(), valid.numpy())
    assert float(prior_loss(similarity, coverage, valid)) == pytest.approx(expected, rel=1e-5)


def test_prior_loss_raises_the_object_and_lowers_the_rest() -> None:
    similarity, coverage, valid = cells()
    similarity.requires_grad_()
    prior_loss(similarity, coverage, valid).backward()
    slope = similarity.grad
    assert slope is not None
    assert torch.isfinite(slope).all()
    usable = torch.tensor([True, True, True, False, False])[:, None]
    assert (slope[usable & valid & (coverage > 0.5)] < 0).all()
    assert (slope[usable & valid & (coverage < 0.05)] > 0).all()
    assert (slope[~usable.expand_as(slope)] == 0).all()
    assert (slope[~valid] == 0).all()


def test_prior_loss_without_any_usable_photo_is_zero() -> None:
    similarity, coverage, valid = (part[3:] for part in cells())
    similarity = similarity.clone().requires_grad_()
    loss = prior_loss(similarity, coverage, valid)
    loss.backward()
    assert float(loss.detach()) == 0
    assert similarity.grad is not None
    assert (similarity.grad == 0).all()


def test_prior_hits_looks_at_the_best_valid_cell() -> None:
    similarity = torch.tensor([[0.1, 0.9, 0.5], [0.1, 0.9, 0.5], [0.1, 0.9, 0.5]])
    coverage = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.1, 1.0], [0.0, 0.0, 0.8]])
    valid = torch.tensor([[True, True, True], [True, True, True], [True, False, True]])
    assert prior_hits(similarity, coverage, valid).tolist() == [True, False, True]
