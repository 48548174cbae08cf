"""Target features, similarity and location prior against plain numpy, and the two modes apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_persam.errors import BadReferenceError
from fiftyone_persam.personalize import prior
from fiftyone_persam.personalize.reference import perseg_channel
from fiftyone_persam.sam import ImageEmbedding, PromptableSam

Array = np.ndarray[Any, Any]
CPU = torch.device("cpu")


def embedding(
    input_size: tuple[int, int], original: tuple[int, int], seed: int = 0
) -> ImageEmbedding:
    """An embedding of the small model: 12 x 12 cells of 16 pixels."""
    features = torch.randn(32, 12, 12, generator=torch.Generator().manual_seed(seed))
    return ImageEmbedding(features, input_size, original, 192)


@pytest.mark.parametrize(
    ("input_size", "rows", "columns"),
    [((192, 192), 12, 12), ((128, 192), 8, 12), ((192, 100), 12, 7), ((1, 192), 1, 12)],
)
def test_valid_cells_hold_a_part_of_the_photo(
    input_size: tuple[int, int], rows: int, columns: int
) -> None:
    one = embedding(input_size, input_size)
    assert one.valid_grid == (rows, columns)
    expected = np.zeros((12, 12), bool)
    expected[:rows, :columns] = True
    np.testing.assert_array_equal(prior.valid_cells([one], CPU)[0], expected)


def test_coverage_is_the_share_of_a_cells_part_inside_the_photo(sam: PromptableSam) -> None:
    one = embedding((192, 100), (192, 100))
    mask = np.zeros((192, 100), bool)
    mask[16:32, 16:32] = True  # one whole cell
    mask[64:72, 32:48] = True  # half a cell
    mask[96:112, 96:100] = True  # all of the four columns that are left of a cell at the edge
    coverage = prior.mask_coverage(sam, mask, one)
    assert coverage[1, 1] == pytest.approx(1)
    assert coverage[4, 2] == pytest.approx(0.5)
    assert coverage[6, 6] == pytest.approx(1)
    assert float(coverage.sum()) == pytest.approx(2.5)


def test_foreground_is_what_the_mask_covers_by_half(sam: PromptableSam) -> None:
    one = embedding((192, 192), (192, 192))
    mask = np.zeros((192, 192), bool)
    mask[32:64, 48:96] = True
    mask[64:71, 48:96] = True  # less than half of the next row of cells
    cells = prior.aligned_foreground(sam, mask, one)
    assert cells.sum() == 6 and cells[2:4, 3:6].all()


def test_a_small_object_keeps_its_best_covered_cell(sam: PromptableSam) -> None:
    one = embedding((192, 192), (192, 192))
    mask = np.zeros((192, 192), bool)
    mask[20:24, 20:24] = True
    cells = prior.aligned_foreground(sam, mask, one)
    assert cells.sum() == 1 and cells[1, 1]
    with pytest.raises(BadReferenceError, match="corrected"):
        prior.released_foreground(sam, perseg_channel(mask))


def test_released_foreground_of_a_mask_of_ones_is_nothing(sam: PromptableSam) -> None:
    whole = np.ones((192, 192), bool)
    with pytest.raises(BadReferenceError, match="NaN"):
        prior.released_foreground(sam, whole.astype(np.uint8))
    assert prior.released_foreground(sam, perseg_channel(whole)).all()


def test_released_foreground_is_eroded(sam: PromptableSam) -> None:
    mask = np.zeros((192, 192), bool)
    mask[40:120, 40:120] = True
    eroded = prior.released_foreground(sam, perseg_channel(mask))
    wider = prior.released_foreground(sam, mask * np.uint8(255))
    assert 0 < eroded.sum() < wider.sum()
    assert not (eroded & ~wider).any()


def test_target_features(sam: PromptableSam) -> None:
    features = embedding((192, 192), (192, 192)).features
    cells = torch.rand(12, 12, generator=torch.Generator().manual_seed(1)) > 0.7
    chosen = features.numpy()[:, cells.numpy()]
    np.testing.assert_allclose(prior.mean_feature(features, cells), chosen.mean(1), atol=1e-6)
    np.testing.assert_allclose(
        prior.peak_mean_feature(features, cells), (chosen.max(1) + chosen.mean(1)) / 2, atol=1e-6
    )


def test_similarity_is_the_cosine_of_every_cell_and_target() -> None:
    features = torch.stack([embedding((192, 192), (192, 192), seed).features for seed in (0, 1)])
    targets = torch.nn.functional.normalize(features[0, :, :3, 5].T, dim=1)
    maps = prior.similarity_maps(features, targets)
    assert maps.shape == (2, 3, 12, 12)
    f, t = features.numpy(), targets.numpy()
    expected = np.einsum("bchw,rc->brhw", f, t) / np.linalg.norm(f, axis=1)[:, None]
    np.testing.assert_allclose(maps, expected, atol=1e-5)
    np.testing.assert_allclose([maps[0, k, k, 5] for k in range(3)], 1, atol=1e-5)


@pytest.mark.parametrize(
    ("input_size", "original", "cell", "point"),
    [
        ((192, 192), (192, 192), (3, 5), (88, 56)),
        ((192, 192), (384, 384), (3, 5), (176, 112)),
        ((128, 192), (256, 384), (7, 0), (16, 240)),
        # The centre of the edge's cell lies in the padding: the point stays in the photo.
        ((192, 100), (192, 100), (2, 6), (99, 40)),
    ],
)
def test_points_are_centres_of_cells(
    input_size: tuple[int, int],
    original: tuple[int, int],
    cell: tuple[int, int],
    point: tuple[int, int],
) -> None:
    one = embedding(input_size, original)
    similarity = torch.zeros(1, 12, 12)
    similarity[0, cell[0], cell[1]] = 1
    similarity[0, 0, 1] = -1
    similarity[0, 11, 11] = 5 if input_size != (192, 192) else 0  # padding must not win
    valid = prior.valid_cells([one], CPU)
    points = prior.aligned_points(similarity, valid, [one], 192)
    assert np.abs(points[0, 0] - point).max() <= 1
    assert (points[0] < (original[1], original[0])).all()
    scale = one.scale
    assert (points[0, 1] * scale // 16).astype(int).tolist() == [1, 0]


def test_guided_attention_is_standardised_over_the_photo_alone() -> None:
    one = embedding((128, 192), (128, 192))
    similarity = torch.randn(1, 12, 12, generator=torch.Generator().manual_seed(2))
    valid = prior.valid_cells([one], CPU)
    bias = prior.aligned_attention(similarity, valid).reshape(12, 12).numpy()
    inside = similarity[0, :8].numpy()
    standard = (inside - inside.mean()) / inside.std(ddof=1)
    expected = 1 / (1 + np.exp(-standard))
    np.testing.assert_allclose(bias[:8], expected, atol=1e-5)
    np.testing.assert_allclose(bias[8:], expected.min(), atol=1e-5)


def test_a_featureless_photo_gives_no_nan() -> None:
    one = embedding((128, 192), (128, 192))
    valid = prior.valid_cells([one], CPU)
    assert torch.isfinite(prior.aligned_attention(torch.full((1, 12, 12), 0.3), valid)).all()


def test_the_released_attention_ignores_the_padding(sam: PromptableSam) -> None:
    """The fault that corrected mode mends: on a wide photo its map is stretched over the grid."""
    similarity = torch.zeros(12, 12)
    similarity[6:8, 2:4] = 1  # near the lower edge of a photo that fills eight of twelve rows
    one = embedding((128, 192), (128, 192))
    valid = prior.valid_cells([one], CPU)
    _, released = prior.released_prior(sam, similarity, one)
    aligned = prior.aligned_attention(similarity[None], valid)
    row_released = int(released.reshape(12, 12).sum(1).argmax())
    row_aligned = int(aligned.reshape(12, 12).sum(1).argmax())
    assert row_aligned in (6, 7)
    assert row_released >= 9  # in the padding

    square = embedding((192, 192), (192, 192))
    _, released = prior.released_prior(sam, similarity, square)
    assert int(released.reshape(12, 12).sum(1).argmax()) in (6, 7)
