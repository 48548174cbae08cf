from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fiftyone_persam.errors import PersamError
from fiftyone_persam.personalize import LOCATION_PRIORS, PerSAM, PerSAMF, Reference
from fiftyone_persam.personalize.location import ReferenceView
from fiftyone_persam.personalize.prior import aligned_points
from fiftyone_persam.personalize.stronger_priors import (
    BackgroundRemovedPrior,
    MultiScalePrior,
    PartsPrior,
)
from fiftyone_persam.sam import ImageEmbedding, PromptableSam

ADDED = ("hypercolumns", "background_removed", "parts", "multi_scale", "proposals")


def view(features: torch.Tensor, cells: torch.Tensor) -> ReferenceView:
    target = F.normalize(features[:, cells].mean(dim=1), dim=0)
    size = (features.shape[1], features.shape[2])
    embedding = ImageEmbedding(features, size, size, max(size))
    return ReferenceView(embedding, features, cells, torch.ones_like(cells), target)


@pytest.mark.parametrize("name", ADDED)
def test_they_are_options_of_the_methods(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding], name: str, tmp_path
) -> None:
    method = PerSAM(sam, location_prior=name, presence_threshold=0).fit(reference)
    found = method.predict_embeddings(embeddings)
    again = PerSAM.load(method.save(tmp_path / name), sam).predict_embeddings(embeddings)
    for one, other in zip(found, again, strict=True):
        assert np.isfinite(one.similarity).all()
        assert (np.abs(one.similarity) <= 1 + 1e-5).all()
        np.testing.assert_array_equal(one.mask, other.mask)


def test_the_default_of_each_mode(sam: PromptableSam) -> None:
    assert PerSAM(sam).prior.name == PerSAMF(sam).prior.name == "hypercolumns"
    assert PerSAM(sam, "reference").prior.name == "released"
    assert PerSAM(sam, location_prior="aligned").prior.name == "aligned"
    assert set(ADDED) < set(LOCATION_PRIORS)


def test_the_background_is_taken_out_as_plain_algebra_does_it() -> None:
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(6, 4, 5, generator=generator)
    cells = torch.zeros(4, 5, dtype=torch.bool)
    cells[1:3, 1:3] = True
    own = view(features, cells)
    prior = BackgroundRemovedPrior()
    found = prior.similarity(
        features[None], own.valid[None], own.target[None], prior.fit([own])
    ).numpy()[0, 0]
    flat = features.flatten(1).T.double().numpy()
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    common = unit[~cells.flatten().numpy()].mean(axis=0)
    common /= np.linalg.norm(common)
    cut = flat - np.outer(flat @ common, common)
    target = own.target.double().numpy()
    target = target - (target @ common) * common
    expected = cut @ target / np.linalg.norm(cut, axis=1) / np.linalg.norm(target)
    np.testing.assert_allclose(found.flatten(), expected, atol=1e-5)


def test_a_photo_that_is_all_object_has_no_background_to_take_out() -> None:
    features = torch.randn(6, 4, 4, generator=torch.Generator().manual_seed(1))
    own = view(features, torch.ones(4, 4, dtype=torch.bool))
    prior = BackgroundRemovedPrior()
    maps = prior.similarity(features[None], own.valid[None], own.target[None], prior.fit([own]))
    plain = torch.einsum("c,chw->hw", own.target, F.normalize(features, dim=0))
    assert torch.allclose(maps[0, 0], plain, atol=1e-6)


def test_parts_are_found_where_the_mean_is_not() -> None:
    """Two-coloured: no cell looks like the mean of both halves, each like one half."""
    features = torch.zeros(3, 4, 4)
    features[2] = 1
    features[:, 1, 1] = torch.tensor([1.0, 0, 0])
    features[:, 1, 2] = torch.tensor([0, 1.0, 0])
    cells = features[2] == 0
    own = view(features, cells)
    prior = PartsPrior()
    fitted = prior.fit([own])
    parts = prior.similarity(features[None], own.valid[None], own.target[None], fitted)[0, 0]
    assert parts[cells].min() == pytest.approx(1) and parts[~cells].max() == pytest.approx(0)
    mean = LOCATION_PRIORS["aligned"]().similarity(
        features[None], own.valid[None], own.target[None], {}
    )
    assert mean[0, 0][cells].max() < 0.8


def test_neighbourhoods_smooth_the_map() -> None:
    features = torch.randn(6, 9, 9, generator=torch.Generator().manual_seed(2))
    cells = torch.zeros(9, 9, dtype=torch.bool)
    cells[3:6, 3:6] = True
    own = view(features, cells)
    maps = [
        prior.similarity(features[None], own.valid[None], own.target[None], prior.fit([own]))[0, 0]
        for prior in (BackgroundRemovedPrior(), MultiScalePrior())
    ]
    assert maps[1][~cells].std() < maps[0][~cells].std()


def points_of(similarity: torch.Tensor, positives: int) -> list[tuple[int, int]]:
    """Cells (row, column) of the positive points, on a grid of one pixel per cell."""
    side = similarity.shape[-1]
    embedding = ImageEmbedding(torch.zeros(1, side, side), (side, side), (side, side), side)
    valid = torch.ones(1, side, side, dtype=torch.bool)
    points = aligned_points(similarity[None], valid, [embedding], side, positives)
    assert points.shape == (1, positives + 1, 2)
    return [(int(y), int(x)) for x, y in points[0, :-1]]


def test_further_points_are_spread_over_the_same_object() -> None:
    similarity = torch.zeros(20, 20)
    similarity[4:8, 2:16] = 0.9
    similarity[5, 3] = 1.0
    similarity[14:18, 2:16] = 0.95  # the twin, which is more similar than the rest of the object
    first, *more = points_of(similarity, 3)
    assert first == (5, 3)
    assert all(4 <= y < 8 and 2 <= x < 16 for y, x in more)
    assert all(max(abs(y - 5), abs(x - 3)) > 2 for y, x in more)
    assert max(abs(more[0][0] - more[1][0]), abs(more[0][1] - more[1][1])) > 2


@pytest.mark.parametrize("level", [0.0, 0.7], ids=["a lone cell", "a flat photo"])
def test_where_there_is_no_further_point_the_first_is_repeated(level: float) -> None:
    similarity = torch.full((20, 20), level)
    if not level:
        similarity[5, 3] = 1.0
    found = points_of(similarity, 3)
    assert found == [found[0]] * 3


@pytest.mark.parametrize("cls", [PerSAM, PerSAMF])
@pytest.mark.parametrize(("count", "expected"), [(None, 3), (1, 1), (5, 5)])
def test_as_many_points_as_asked_for(
    sam: PromptableSam,
    reference: Reference,
    embeddings: list[ImageEmbedding],
    cls: Any,
    count: int | None,
    expected: int,
) -> None:
    method = cls(sam, positive_points=count, presence_threshold=0).fit(reference)
    batch, _ = method.locate(embeddings)
    assert batch.points.shape == (len(embeddings), expected + int(method.negative_prior), 2)
    assert (batch.labels == 1).sum() == expected
    for found in method.predict_embeddings(embeddings):
        assert 1 <= (found.labels == 1).sum() <= expected
        assert (found.labels == 0).sum() == int(method.negative_prior)
        assert len(found.points) == len(found.labels)


def test_reference_mode_has_one_point(sam: PromptableSam, reference: Reference) -> None:
    assert (PerSAM(sam, "reference", positive_points=1).positive_points) == 1
    with pytest.raises(PersamError, match="one positive point"):
        PerSAM(sam, "reference", positive_points=3)
    with pytest.raises(PersamError, match="positive_points"):
        PerSAM(sam, positive_points=0)
