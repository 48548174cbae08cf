"""The harness by itself: its losses, targets and views, against plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_persam.personalize.tuning.examples import at_mask_size
from fiftyone_persam.personalize.tuning.harness import losses_of
from fiftyone_persam.personalize.tuning.views import other_view
from fiftyone_persam.sam import PromptableSam

Array = np.ndarray[Any, Any]


def test_losses_are_those_of_the_released_code() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(2, 20, 30, generator=generator)
    truth = torch.rand(2, 20, 30, generator=generator) > 0.7
    inside = torch.ones_like(truth)
    inside[1, 12:] = False
    dices, focals = losses_of(logits, truth.float() * inside, inside)
    for row in range(2):
        z = logits[row][inside[row]].double().numpy()
        t = truth[row][inside[row]].numpy()
        p = 1 / (1 + np.exp(-z))
        dice = 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1)
        right = np.where(t, p, 1 - p)
        focal = (np.where(t, 0.25, 0.75) * (1 - right) ** 2 * -np.log(right)).mean()
        assert dices[row].item() == pytest.approx(dice, abs=1e-5)
        assert focals[row].item() == pytest.approx(focal, abs=1e-5)


def test_padding_has_no_gradient() -> None:
    logits = torch.zeros(1, 6, 8, requires_grad=True)
    inside = torch.zeros(1, 6, 8, dtype=torch.bool)
    inside[:, :4] = True
    truth = torch.zeros(1, 6, 8)
    truth[:, 1:3, 2:5] = 1
    sum(one.sum() for one in losses_of(logits, truth, inside)).backward()  # type: ignore[union-attr]
    assert logits.grad is not None
    assert (logits.grad[:, 4:] == 0).all() and (logits.grad[:, :4] != 0).all()


def test_targets_lie_where_the_logits_are(
    sam: PromptableSam, photos: list[Array], mask: Array
) -> None:
    (embedding,) = sam.encode(photos[:1])
    target, inside = at_mask_size(sam, mask, embedding)
    assert target.shape == inside.shape == (sam.mask_size, sam.mask_size)
    rows = inside.any(dim=1).sum().item() / sam.mask_size
    assert rows == pytest.approx(embedding.input_size[0] / sam.image_size, abs=1 / sam.mask_size)
    # As logits they give the mask back, but for its edge.
    back = sam.upscale((target[None] - 0.5) * 20, embedding)[0] > 0
    both, either = (back.numpy() & mask).sum(), (back.numpy() | mask).sum()
    assert both / either > 0.95


@pytest.mark.parametrize("number", range(8))
def test_views_keep_the_object(number: int, photos: list[Array], mask: Array) -> None:
    generator = np.random.default_rng(0)
    photo, other = other_view(photos[0], mask, number, generator)
    assert photo.shape[:2] == other.shape and photo.dtype == np.uint8
    assert other.sum() == mask.sum()
    again, same = other_view(photos[0], mask, number, np.random.default_rng(0))
    np.testing.assert_array_equal(photo, again)
    np.testing.assert_array_equal(other, same)
    assert photo.shape != photos[0].shape or (photo != photos[0]).any()


def test_kinds_of_views(photos: list[Array], mask: Array) -> None:
    mirrored, cut, lit, _ = (
        other_view(photos[0], mask, kind, np.random.default_rng(0)) for kind in range(4)
    )
    np.testing.assert_array_equal(mirrored[0], photos[0][:, ::-1])
    np.testing.assert_array_equal(mirrored[1], mask[:, ::-1])
    assert cut[0].size < photos[0].size
    np.testing.assert_array_equal(lit[1], mask)
    # The object's own pixels went with it.
    np.testing.assert_array_equal(cut[0][cut[1]], photos[0][mask])


def test_an_object_that_fills_the_photo_has_views() -> None:
    photo = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    for kind in range(4):
        view, mask = other_view(photo, np.ones((9, 7), bool), kind, np.random.default_rng(1))
        assert mask.all() and view.shape == (9, 7, 3)
