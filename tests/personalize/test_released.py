"""mode="reference" against the released pipeline written plainly on SamPredictor, photos and all.

On a seeded model whose attention is smooth, so that nothing hangs on the last bit and final masks
can be compared; test_golden.py compares with recorded numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks import released
from benchmarks.seeded import small_sam
from fiftyone_persam.errors import BadReferenceError
from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.sam import PromptableSam, load_sam

Array = np.ndarray[Any, Any]
PHOTOS = range(4)


@pytest.fixture(scope="module")
def colours(mask: Array) -> Array:
    """PerSeg's colour mask: 128 in the red channel."""
    return np.stack([mask * 128, np.zeros_like(mask), np.zeros_like(mask)], axis=2).astype(np.uint8)


@pytest.fixture(scope="module")
def plain(sam: PromptableSam, photos: list[Array], colours: Array) -> list[released.Record]:
    return released.persam(sam.sam, photos[0], colours, photos)


@pytest.fixture(scope="module")
def plain_f(sam: PromptableSam, photos: list[Array], colours: Array) -> Any:
    return released.persam_f(sam.sam, photos[0], colours, photos)


@pytest.fixture(scope="module")
def persam(sam: PromptableSam, reference: Reference) -> PerSAM:
    return PerSAM(sam, mode="reference").fit(reference)


@pytest.fixture(scope="module")
def persam_f(sam: PromptableSam, reference: Reference) -> PerSAMF:
    return PerSAMF(sam, mode="reference").fit(reference)


@pytest.mark.parametrize("number", PHOTOS)
def test_persam(
    sam: PromptableSam,
    photos: list[Array],
    plain: list[released.Record],
    persam: PerSAM,
    number: int,
) -> None:
    expected = plain[number]
    batch, outcome = persam.trace(sam.encode([photos[number]])[0])
    one, two, three = outcome.passes
    assert batch.attention_bias is not None and three.boxes is not None
    np.testing.assert_allclose(batch.similarity[0], expected["sim"], atol=1e-5)
    np.testing.assert_array_equal(batch.points[0], expected["points"])
    np.testing.assert_allclose(batch.attention_bias[0], expected["attn"], atol=1e-5)
    np.testing.assert_allclose(one.logits, expected["logits1"], atol=1e-4)
    np.testing.assert_allclose(one.scores[0, :1], expected["scores1"], atol=1e-4)
    np.testing.assert_allclose(two.logits[0], expected["logits2"], atol=1e-3)
    np.testing.assert_allclose(two.scores[0], expected["scores2"], atol=1e-3)
    np.testing.assert_array_equal(three.boxes[0], expected["box"])
    np.testing.assert_allclose(three.logits[0], expected["logits3"], atol=5e-3)
    np.testing.assert_allclose(three.scores[0], expected["scores3"], atol=5e-3)
    mask = persam.predict([photos[number]])[0].mask
    assert 0 < expected["mask"].sum() < mask.size
    assert iou(mask, expected["mask"]) > 0.999


def test_persam_f_tuning_is_a_thousand_steps_over_all_pixels(
    plain_f: Any, persam_f: PerSAMF
) -> None:
    expected, _ = plain_f
    np.testing.assert_allclose(persam_f.state.targets, expected["target_feat_f"], atol=1e-5)
    np.testing.assert_allclose(persam_f.tuning.weights, expected["weights"][:, 0], atol=1e-4)
    losses = [(dice, focal) for _, dice, focal in persam_f.tuning.losses]
    np.testing.assert_allclose(losses, expected["losses"], atol=1e-4)
    assert np.abs(expected["weights"] - 1 / 3).max() > 0.1  # the tuning did something


@pytest.mark.parametrize("number", PHOTOS)
def test_persam_f(
    sam: PromptableSam, photos: list[Array], plain_f: Any, persam_f: PerSAMF, number: int
) -> None:
    expected = plain_f[1][number]
    batch, outcome = persam_f.trace(sam.encode([photos[number]])[0])
    one, two, three = outcome.passes
    assert two.boxes is not None and three.boxes is not None
    np.testing.assert_array_equal(batch.points[0], expected["points"])
    np.testing.assert_allclose(one.logits[0], expected["logits1"], atol=1e-4)
    np.testing.assert_array_equal(two.boxes[0], expected["box1"])
    np.testing.assert_allclose(two.scores[0], expected["scores2"], atol=1e-3)
    np.testing.assert_array_equal(three.boxes[0], expected["box2"])
    np.testing.assert_allclose(three.logits[0], expected["logits3"], atol=5e-3)
    assert iou(persam_f.predict([photos[number]])[0].mask, expected["mask"]) > 0.999


def _soft(mask: Array) -> Array:
    """Feathered, as an editor saves it."""
    import cv2

    return cv2.GaussianBlur(mask.astype(np.uint8) * 255, (61, 61), 0)


def _two_ids(mask: Array) -> Array:
    """A second object in a colour without red beside the first."""
    return (mask & (np.arange(mask.shape[1]) < 220)).astype(np.uint8) * 128


@pytest.mark.parametrize("channel_of", [_soft, _two_ids], ids=["soft edges", "second colour"])
def test_the_mask_s_first_channel_is_taken_as_it_is(
    sam: PromptableSam, photos: list[Array], mask: Array, channel_of: Any
) -> None:
    channel = channel_of(mask)
    colours = np.stack([channel, mask * np.uint8(200), np.zeros_like(channel)], axis=2)
    expected = released.persam(sam.sam, photos[0], colours, photos[:1])[0]
    fitted = PerSAM(sam, mode="reference").fit(Reference(photos[0], mask=colours))
    batch, _ = fitted.trace(sam.encode([photos[0]])[0])
    np.testing.assert_allclose(batch.similarity[0], expected["sim"], atol=1e-5)
    np.testing.assert_array_equal(batch.points[0], expected["points"])
    tuned, _ = released.persam_f(sam.sam, photos[0], colours, photos[:1])
    ours = PerSAMF(sam, mode="reference").fit(Reference(photos[0], mask=colours))
    np.testing.assert_allclose(ours.state.targets, tuned["target_feat_f"], atol=1e-5)
    np.testing.assert_allclose(ours.tuning.weights, tuned["weights"][:, 0], atol=1e-4)


@pytest.mark.parametrize("method", [PerSAM, PerSAMF])
def test_what_the_released_code_crashes_on_is_one_line(
    sam: PromptableSam, photos: list[Array], mask: Array, method: Any
) -> None:
    green = np.stack([mask * 0, mask * 255, mask * 0], axis=2).astype(np.uint8)
    with pytest.raises(
        BadReferenceError, match="first channel, whose largest value is 0"
    ) as caught:
        method(sam, mode="reference").fit(Reference(photos[0], mask=green))
    assert "\n" not in str(caught.value)
    method(sam).fit(Reference(photos[0], mask=green))  # corrected mode knows what is meant


@pytest.mark.parametrize(("dtype", "warned"), [("float32", False), ("bfloat16", True)])
def test_half_precision_is_not_exact_and_says_so(
    dtype: str, warned: bool, caplog: pytest.LogCaptureFixture
) -> None:
    PerSAM(load_sam(small_sam(192), dtype=dtype), mode="reference")
    assert ("not exactly" in caplog.text) == warned
    caplog.clear()
    PerSAM(load_sam(small_sam(192), dtype=dtype))
    assert not caplog.text
