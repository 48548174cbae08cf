"""Rounds of prompts: every kind yields a finite loss that teaches the parts it should."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from fiftyone_persam.sam.lite import build_sam_lite
from training.bank import Bank
from training.compose import Scenes, compose
from training.rounds import (
    KINDS,
    SHARES,
    _boxes,
    _corrective,
    _prior_points,
    _sampled,
    location_prior,
    rounds,
)

SIDE = 64


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return build_sam_lite(SIDE)


@pytest.fixture(scope="module")
def scenes(bank: Bank) -> Scenes:
    return compose(bank, 4, SIDE, torch.Generator().manual_seed(0))


def encoded(sam: Sam, scenes: Scenes) -> Tensor:
    return sam.image_encoder((scenes.images - 127) / 128)


@pytest.mark.parametrize("depth", [1, 3])
def test_every_kind_and_round_teaches(sam: Sam, scenes: Scenes, depth: int) -> None:
    sam.zero_grad()
    generator = torch.Generator().manual_seed(0)
    total = torch.zeros(())
    names = []
    for name, loss, figure in rounds(sam, encoded(sam, scenes), scenes, 24, depth, generator):
        names.append(name)
        assert torch.isfinite(loss), name
        assert 0 <= float(figure) <= 1, name
        total = total + loss
    expected = [f"{kind}{index + 1}" for kind in KINDS for index in range(depth)]
    assert names == ["prior", "affinity", *expected]
    total.backward()
    untaught = [name for name, p in sam.named_parameters() if p.grad is None]
    # Labels of no use here, and with one round no mask is ever a prompt.
    allowed = ("prompt_encoder.not_a_point_embed", "prompt_encoder.point_embeddings") + (
        ("prompt_encoder.mask_downscaling",) if depth == 1 else ()
    )
    assert [name for name in untaught if not name.startswith(allowed)] == []
    for name, parameter in sam.named_parameters():
        if parameter.grad is not None:
            assert torch.isfinite(parameter.grad).all(), name


def test_shares_are_of_one_whole() -> None:
    assert sum(SHARES) == pytest.approx(1)
    assert len(SHARES) == len(KINDS)


def test_scenes_without_objects_teach_nothing_and_break_nothing(sam: Sam, bank: Bank) -> None:
    scenes = compose(bank, 1, SIDE, torch.Generator().manual_seed(0))
    nothing = Scenes(
        scenes.images,
        scenes.valid,
        torch.zeros_like(scenes.coverage),
        torch.zeros_like(scenes.present),
    )
    for name, loss, _ in rounds(
        sam, encoded(sam, nothing), nothing, 8, 2, torch.Generator().manual_seed(0)
    ):
        assert torch.isfinite(loss), name


def test_location_prior_equals_plain_numpy(sam: Sam, scenes: Scenes) -> None:
    with torch.no_grad():
        embeddings = encoded(sam, scenes)
    both = (scenes.present & scenes.present[torch.arange(8) ^ 1]).nonzero()
    prior = location_prior(embeddings, scenes, both[:, 0], both[:, 1])
    grid = embeddings.shape[-1]
    size = SIDE // 4 // grid
    blocks = scenes.coverage.numpy().reshape(8, -1, grid, size, grid, size).mean((3, 5))
    features = embeddings.double().numpy()
    for row, (photo, slot) in enumerate(both.tolist()):
        cover = blocks[photo ^ 1, slot].ravel()
        # Cells half covered, or the best covered one where no cell is.
        chosen = cover >= min(0.5, cover.max())
        mean = features[photo ^ 1].reshape(len(features[0]), -1)[:, chosen].mean(1)
        np.testing.assert_allclose(prior.feature[row], mean, rtol=1e-4, atol=1e-4)
        cells = features[photo].reshape(len(mean), -1)
        cosine = mean @ cells / (np.linalg.norm(mean) * np.linalg.norm(cells, axis=0))
        np.testing.assert_allclose(prior.similarity[row], cosine, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(prior.cells[row], blocks[photo, slot].ravel(), atol=1e-5)
        best, worst = _prior_points(prior, grid, SIDE)[row].tolist()
        valid = prior.valid[row].numpy()
        for point, index in (
            (best, np.where(valid, cosine, -9).argmax()),
            (worst, np.where(valid, cosine, 9).argmin()),
        ):
            step = SIDE / grid
            assert point == [(index % grid + 0.5) * step, (index // grid + 0.5) * step]


def test_corrective_points_lie_on_errors() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.zeros(60, 16, 16)
    truth[:, 4:12, 4:12] = 1
    logits = torch.full((60, 16, 16), -1.0)
    logits[:, 8:16, 4:12] = 1  # misses the upper half, and adds as much below
    points, labels = _corrective(logits, truth, generator)
    assert points.shape == (60, 1, 2)
    x, y = (points[:, 0] / 4).long().unbind(1)
    missed, added = (y >= 4) & (y < 8), y >= 12
    assert ((x >= 4) & (x < 12) & (missed | added)).all()
    assert (labels[:, 0] == missed.float()).all()
    assert 10 < int(missed.sum()) < 50


def test_a_mask_without_errors_gets_another_point_inside() -> None:
    truth = torch.zeros(20, 16, 16)
    truth[:, 4:6, 4:6] = 1
    points, labels = _corrective(truth * 2 - 1, truth, torch.Generator().manual_seed(0))
    assert ((points >= 16) & (points < 24)).all()
    assert (labels == 1).all()


def test_points_are_drawn_inside() -> None:
    weights = torch.zeros(50, 16, 16)
    weights[:, 2, 9] = 1
    points = _sampled(weights, torch.Generator().manual_seed(0))
    assert ((points >= torch.tensor([36, 8])) & (points < torch.tensor([40, 12]))).all()


def test_boxes_are_tight_and_move_by_their_size() -> None:
    masks = torch.zeros(3, 16, 16)
    masks[0, 4:6, 3:13] = 1
    masks[1, 0:16, 0:16] = 0.9
    masks[2, 7, 7] = 0.3  # nothing is half covered: where the most is
    assert _boxes(masks).tolist() == [[12, 16, 52, 24], [0, 0, 64, 64], [28, 28, 32, 32]]
    moved = _boxes(masks[:1].repeat(400, 1, 1), 0.1, torch.Generator().manual_seed(0))
    spread = moved.std(0)
    torch.testing.assert_close(spread, torch.tensor([4.0, 0.8, 4.0, 0.8]), rtol=0.15, atol=0)
