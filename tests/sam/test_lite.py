"""The sam_lite architecture: shapes at any input size, size on disk, SAM's own predictor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segment_anything import SamPredictor
from segment_anything.modeling import Sam
from timm.layers import Conv2dSame

import fiftyone_persam as fp
from fiftyone_persam.sam.decoding import decode_batch
from fiftyone_persam.sam.lite import EMBED_DIM, STRIDE, GlobalBlock, SameConv2d, build_sam_lite

LARGEST_FILE = 25_000_000  # bytes in the package


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return build_sam_lite(128)


@pytest.mark.parametrize(("side", "batch"), [(32, 2), (96, 1), (160, 3), (512, 1)])
@torch.no_grad()
def test_shapes_follow_the_input_size(side: int, batch: int) -> None:
    sam = build_sam_lite(side)
    grid = side // STRIDE
    embeddings = sam.image_encoder(torch.randn(batch, 3, side, side))
    assert embeddings.shape == (batch, EMBED_DIM, grid, grid)
    assert sam.image_encoder.img_size == side
    assert sam.prompt_encoder.image_embedding_size == (grid, grid)
    assert sam.prompt_encoder.input_image_size == (side, side)
    assert sam.prompt_encoder.mask_input_size == (4 * grid, 4 * grid)
    points = torch.full((batch, 1, 2), side / 2)
    logits, scores = decode_batch(sam, embeddings, points, torch.ones(batch, 1))
    assert logits.shape == (batch, 4, 4 * grid, 4 * grid)
    assert scores.shape == (batch, 4)


@torch.no_grad()
def test_weights_serve_any_input_size(sam: Sam) -> None:
    """One checkpoint works at every size: no tensor's shape depends on it."""
    other = build_sam_lite(192)
    other.load_state_dict(sam.state_dict())
    photo = torch.randn(1, 3, 128, 128)
    torch.testing.assert_close(other.image_encoder(photo), sam.image_encoder(photo))


@pytest.mark.parametrize("side", [0, -64, 500, 16])
def test_sizes_that_do_not_fit_the_strides_are_refused(side: int) -> None:
    with pytest.raises(ValueError, match=rf"image_size {side} is not a positive multiple of 32"):
        build_sam_lite(side)


def test_file_in_half_precision_is_small_enough(sam: Sam, tmp_path: Path) -> None:
    path = tmp_path / "sam_lite.safetensors"
    save_file({name: tensor.half().contiguous() for name, tensor in sam.state_dict().items()}, path)
    assert path.stat().st_size <= LARGEST_FILE


@pytest.mark.parametrize("size", [(12, 12), (13, 10), (7, 9)])
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_same_padding_is_tensorflows(size: tuple[int, int], kernel: int, stride: int) -> None:
    ours = SameConv2d(4, 4, kernel, stride, groups=4)
    other = Conv2dSame(4, 4, kernel, stride, groups=4)
    other.load_state_dict(ours.state_dict())
    photo = torch.randn(2, 4, *size)
    torch.testing.assert_close(ours(photo), other(photo))


@torch.no_grad()
def test_coarse_blocks_attend_to_the_whole_grid() -> None:
    block = GlobalBlock(16)
    cells = torch.randn(1, 16, 9, 7)
    changed = cells.clone()
    changed[..., 0, 0] += 1
    difference = (block(cells) - block(changed)).abs().amax(1)[0]
    assert difference.shape == (9, 7)
    assert (difference > 0).all()


@pytest.mark.parametrize("size", [(90, 140), (128, 128), (300, 120)])
def test_predictor_of_segment_anything_works_unmodified(sam: Sam, size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    photo = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    predictor = SamPredictor(sam)
    predictor.set_image(photo)
    points, labels = np.array([[30, 40], [5, 6]]), np.array([1, 0])
    box = np.array([10, 12, 80, 70])
    masks, scores, logits = predictor.predict(points, labels, multimask_output=True)
    assert masks.shape == (3, *size)
    assert masks.dtype == bool
    assert scores.shape == (3,)
    assert logits.shape == (3, 32, 32)
    masks, scores, refined = predictor.predict(
        points, labels, box=box, mask_input=logits[:1], multimask_output=False
    )
    assert masks.shape == (1, *size)
    # The same prompts through this package's decoding, on the predictor's own embedding.
    xy, corners = predictor.transform.apply_coords(points, size), box.reshape(2, 2)
    expected, quality = decode_batch(
        sam,
        predictor.features,
        torch.tensor(xy, dtype=torch.float32)[None],
        torch.tensor(labels, dtype=torch.float32)[None],
        torch.tensor(predictor.transform.apply_coords(corners, size)).float().reshape(1, 4),
        torch.tensor(logits[None, :1]),
    )
    np.testing.assert_allclose(refined[0], expected[0, 0].detach(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(scores[0], quality[0, 0].detach(), rtol=1e-4, atol=1e-4)


def test_model_of_another_size_becomes_promptable(sam: Sam) -> None:
    model = fp.load_sam(sam)
    assert (model.image_size, model.grid_size, model.embed_dim) == (128, 8, EMBED_DIM)
    photo = np.zeros((50, 100, 3), np.uint8)
    assert model.encode([photo])[0].features.shape == (EMBED_DIM, 8, 8)
