from __future__ import annotations

import pytest
import torch

from fiftyone_persam.personalize.presence import calibrate, presence

VALID = torch.ones(4, 4, dtype=torch.bool)


def grid(inside: float, outside: float) -> tuple[torch.Tensor, torch.Tensor]:
    cells = torch.zeros(4, 4, dtype=torch.bool)
    cells[:2, :2] = True
    return torch.where(cells, inside, outside), cells


def test_levels_are_the_means_of_object_and_rest() -> None:
    similarity, cells = grid(0.8, 0.2)
    assert calibrate(similarity, cells, VALID) == pytest.approx((0.8, 0.2))


def test_padding_counts_neither_way() -> None:
    similarity, cells = grid(0.8, 0.2)
    similarity[:, 3] = -9
    valid = VALID.clone()
    valid[:, 3] = False
    assert calibrate(similarity, cells, valid) == pytest.approx((0.8, 0.2))


def test_a_photo_that_is_all_object() -> None:
    similarity, _ = grid(0.8, 0.8)
    inside, outside = calibrate(similarity, VALID, VALID)
    assert inside == pytest.approx(0.8) and outside == 0


def test_levels_are_never_the_same() -> None:
    similarity, cells = grid(0.5, 0.6)
    inside, outside = calibrate(similarity, cells, VALID)
    assert outside < inside


@pytest.mark.parametrize(
    ("level", "expected"), [(0.8, 1), (0.9, 1), (0.5, 0.5), (0.2, 0), (-0.3, 0)]
)
def test_presence_lies_between_the_levels(level: float, expected: float) -> None:
    similarity, cells = grid(level, 0.1)
    logits = torch.where(cells, 1.0, -1.0).repeat_interleave(4, 0).repeat_interleave(4, 1)
    found = presence(similarity[None], logits[None], VALID[None], torch.tensor([[0.8, 0.2]]))
    assert found.item() == pytest.approx(expected, abs=1e-5)


def test_an_empty_mask_is_absent() -> None:
    similarity, _ = grid(0.9, 0.9)
    found = presence(similarity[None], -torch.ones(1, 16, 16), VALID[None], torch.ones(1, 2))
    assert found.item() == 0
