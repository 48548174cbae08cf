"""Encoding and decoding in batches against segment_anything's own SamPredictor."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from segment_anything import SamPredictor
from skimage import data

from fiftyone_persam.errors import PersamError, PhotoError
from fiftyone_persam.sam import ImageEmbedding, Prompt, PromptableSam

Array = np.ndarray[Any, Any]
CAT = data.chelsea()[:, :, :3]
PHOTOS = [
    CAT,
    np.ascontiguousarray(CAT[:, :100]),
    np.ascontiguousarray(data.coffee()[::3, ::3]),
    np.ascontiguousarray(data.astronaut()[:192, :192, :3]),
    CAT[:1, :1],
    np.ascontiguousarray(CAT[:2, :400]),
]


@pytest.fixture(scope="module")
def embeddings(seeded: PromptableSam) -> list[ImageEmbedding]:
    return seeded.encode(PHOTOS)


@pytest.fixture(scope="module")
def predictors(seeded: PromptableSam) -> list[SamPredictor]:
    made = []
    for photo in PHOTOS:
        made.append(SamPredictor(seeded.sam))
        made[-1].set_image(photo)
    return made


def test_every_shape_follows_from_the_model(seeded: PromptableSam) -> None:
    assert (seeded.image_size, seeded.grid_size, seeded.embed_dim) == (192, 12, 32)
    assert seeded.mask_size == 48
    assert "192" in repr(seeded)


@pytest.mark.parametrize("batch_size", [None, 1, 2, 6])
def test_encoding_equals_sams_own(
    seeded: PromptableSam, predictors: list[SamPredictor], batch_size: int | None
) -> None:
    for one, predictor in zip(seeded.encode(PHOTOS, batch_size), predictors, strict=True):
        np.testing.assert_allclose(one.features, predictor.features[0], atol=1e-4)
        if one.original_size[0] > 2:  # SAM itself gives a thin strip no pixel
            assert one.input_size == tuple(predictor.input_size)
        assert one.original_size == tuple(predictor.original_size)
        assert one.image_size == 192


def test_encoding_sources_of_any_kind(seeded: PromptableSam, tmp_path: Any) -> None:
    path = tmp_path / "cat.png"
    Image.fromarray(CAT).save(path)
    ways = seeded.encode([CAT, path, str(path), Image.fromarray(CAT)])
    for one in ways[1:]:
        torch.testing.assert_close(one.features, ways[0].features, atol=1e-5, rtol=0)
    assert seeded.encode([]) == []


def test_loading_ahead_is_the_first_half_of_encoding(seeded: PromptableSam) -> None:
    loaded = [seeded.load_and_resize(photo) for photo in PHOTOS]
    assert all(max(photo.shape[:2]) == 192 for photo, _ in loaded)
    again = seeded.encode_resized([p for p, _ in loaded], [s for _, s in loaded])
    for a, b in zip(again, seeded.encode(PHOTOS), strict=True):
        torch.testing.assert_close(a.features, b.features, atol=1e-4, rtol=0)
    assert seeded.encode_resized([], []) == []
    with pytest.raises(PersamError, match="load_and_resize"):
        seeded.encode_resized([CAT], [CAT.shape[:2]])


PROMPTS: list[dict[str, Any]] = [
    {"points": [(20, 30)]},
    {"points": [(20, 30)], "labels": [0]},
    {"points": [(20, 30), (60, 5)], "labels": [1, 0]},
    {"box": (5, 5, 60, 70)},
    {"points": [(20, 30)], "box": (5, 5, 60, 70)},
    {"points": [(20, 30), (60, 5)], "labels": [1, 1], "mask": True},
    {"box": (5, 5, 60, 70), "mask": True},
    {"mask": True},
]


def test_a_mixed_batch_is_every_prompt_alone_by_samsown_predictor(
    seeded: PromptableSam, embeddings: list[ImageEmbedding], predictors: list[SamPredictor]
) -> None:
    """Every kind of prompt on several photos in one call, in an order that mixes the groups."""
    logits = torch.randn(48, 48, generator=torch.Generator().manual_seed(0))
    order = [(p, k) for p in range(len(PROMPTS)) for k in range(4)]
    order = [order[i] for i in np.random.default_rng(0).permutation(len(order))]
    prompts = [
        Prompt(embeddings[k], **{**PROMPTS[p], "mask": logits if "mask" in PROMPTS[p] else None})
        for p, k in order
    ]
    for (p, k), found in zip(order, seeded.decode(prompts, batch_size=3), strict=True):
        given = PROMPTS[p]
        kwargs = {
            "point_coords": np.array(given["points"]) if "points" in given else None,
            "point_labels": np.array(given.get("labels", [1])) if "points" in given else None,
            "box": np.array(given["box"]) if "box" in given else None,
            "mask_input": logits[None].numpy() if "mask" in given else None,
        }
        masks, scores, low = predictors[k].predict(multimask_output=True, **kwargs)
        np.testing.assert_allclose(found.logits[1:], low, atol=2e-3)
        np.testing.assert_allclose(found.scores[1:], scores, atol=2e-3)
        _, score, single = predictors[k].predict(multimask_output=False, **kwargs)
        np.testing.assert_allclose(found.logits[:1], single, atol=2e-3)
        np.testing.assert_allclose(found.scores[:1], score, atol=2e-3)
        full = seeded.upscale(found.logits[1:], embeddings[k]) > 0
        assert full.shape == masks.shape
        assert (full.numpy() != masks).mean() < 1e-2


def test_decoding_nothing_and_without_any_prompt(
    seeded: PromptableSam, embeddings: list[ImageEmbedding]
) -> None:
    assert seeded.decode([]) == []
    assert seeded.decode([Prompt(embeddings[0])])[0].logits.shape == (4, 48, 48)


def test_guidance_changes_the_masks(
    seeded: PromptableSam, embeddings: list[ImageEmbedding]
) -> None:
    plain = Prompt(embeddings[0], [(20, 30)])
    bias = Prompt(embeddings[0], [(20, 30)], attention_bias=torch.rand(144))
    offset = Prompt(embeddings[0], [(20, 30)], token_offset=torch.rand(32))
    a, b, c = seeded.decode([plain, bias, offset])
    assert (a.logits - b.logits).abs().max() > 1e-3
    assert (a.logits - c.logits).abs().max() > 1e-3


@pytest.mark.parametrize("number", range(4))
def test_upscaling_is_sams_postprocessing(
    seeded: PromptableSam, embeddings: list[ImageEmbedding], number: int
) -> None:
    one = embeddings[number]
    maps = torch.randn(2, 48, 48, generator=torch.Generator().manual_seed(3))
    expected = seeded.sam.postprocess_masks(maps[None], one.input_size, one.original_size)[0]
    torch.testing.assert_close(seeded.upscale(maps, one), expected)
    assert seeded.upscale_to_input(maps, one).shape == (2, *one.input_size)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ({"points": [(1, 1)], "labels": [1, 0]}, "1 points need 1 labels"),
        ({"labels": [1]}, "labels were given without points"),
        ({"box": (1, 2, 3)}, "x0, y0, x1, y1"),
        ({"box": [(1, 2, 3, 4)]}, "x0, y0, x1, y1"),
        ({"mask": torch.zeros(256, 256)}, "48 x 48"),
    ],
)
def test_bad_prompts(
    seeded: PromptableSam, embeddings: list[ImageEmbedding], prompt: dict[str, Any], says: str
) -> None:
    with pytest.raises(PersamError, match=says):
        seeded.decode([Prompt(embeddings[0]), Prompt(embeddings[0], **prompt)])


def test_bad_calls(seeded: PromptableSam) -> None:
    foreign = ImageEmbedding(torch.zeros(256, 64, 64), (1024, 1024), (9, 9), 1024)
    with pytest.raises(PersamError, match="encode the photo with this model"):
        seeded.decode([Prompt(foreign, [(1, 1)])])
    for call in (seeded.encode, seeded.decode):
        with pytest.raises(PersamError, match="batch_size 0"):
            call([], batch_size=0)
    with pytest.raises(PhotoError):
        seeded.encode([CAT, "missing.jpg"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_near_and_returns_float32(
    seeded: PromptableSam, embeddings: list[ImageEmbedding], dtype: torch.dtype
) -> None:
    half = PromptableSam(seeded.sam, "half", "cpu", dtype)
    one = half.encode([CAT])[0]
    assert one.features.dtype == dtype
    scale = embeddings[0].features.abs().max()
    assert (one.features.float() - embeddings[0].features).abs().max() < 0.05 * scale
    decoded = half.decode([Prompt(one, [(20, 30)])])[0]
    assert decoded.logits.dtype == torch.float32 and decoded.scores.dtype == torch.float32
    expected = seeded.decode([Prompt(embeddings[0], [(20, 30)])])[0]
    assert (decoded.logits - expected.logits).abs().mean() < 0.1


def test_an_encoder_that_needs_float32_keeps_it(seeded: PromptableSam) -> None:
    own = copy.deepcopy(seeded.sam)
    own.image_encoder.half_precision = False
    half = PromptableSam(own, dtype=torch.bfloat16)
    assert {p.dtype for p in half.sam.image_encoder.parameters()} == {torch.float32}
    assert {p.dtype for p in half.sam.mask_decoder.parameters()} == {torch.bfloat16}
    features = half.encode([CAT])[0].features
    assert torch.equal(features, seeded.encode([CAT])[0].features.bfloat16())


def test_the_callers_model_is_left_alone(seeded: PromptableSam) -> None:
    own = copy.deepcopy(seeded.sam).train()
    wrapped = PromptableSam(own, dtype=torch.bfloat16)
    assert own.training and not wrapped.sam.training
    assert next(own.image_encoder.parameters()).dtype == torch.float32
    assert next(wrapped.sam.image_encoder.parameters()).dtype == torch.bfloat16
    assert next(wrapped.sam.prompt_encoder.parameters()).dtype == torch.float32
    assert PromptableSam(seeded.sam).sam is seeded.sam  # nothing to change, nothing copied
