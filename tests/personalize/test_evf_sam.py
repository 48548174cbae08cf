"""EVF-SAM as a method: a phrase alone, and a phrase among lookalikes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

import fiftyone_persam as fp
from fiftyone_persam.errors import BadReferenceError, CheckpointError, PersamError
from fiftyone_persam.personalize import EvfSam, PerSAM, Prediction, Reference, TextReference
from fiftyone_persam.personalize.evf_sam import _chosen
from fiftyone_persam.sam import TextSam
from tests.small_evf import registered, small_evf, small_text_sam

Array = npt.NDArray[Any]
PHRASE = TextReference("the blue mug")


@pytest.fixture(scope="module")
def model() -> TextSam:
    return small_text_sam()


def test_the_mask_is_sams_of_the_phrases_token(model: TextSam, photos: list[Array]) -> None:
    """By segment_anything's own decoder and postprocessing, as the released code does."""
    found = EvfSam(model).fit(PHRASE).predict(photos)
    sam = small_evf().visual_model
    for photo, one in zip(photos, found, strict=True):
        (embedding,) = model.encode([photo])
        tokens = model.phrase_tokens(PHRASE.text, [embedding])
        with torch.no_grad():
            _, dense = sam.prompt_encoder(points=None, boxes=None, masks=None)
            logits, scores = sam.mask_decoder(
                image_embeddings=embedding.features[None],
                image_pe=sam.prompt_encoder.get_dense_pe(),
                sparse_prompt_embeddings=tokens,
                dense_prompt_embeddings=dense,
                multimask_output=False,
            )
            size = embedding.original_size
            theirs = sam.postprocess_masks(logits, embedding.input_size, size)[0, 0]
        sure = theirs.abs() > 1e-3
        np.testing.assert_array_equal(one.mask[sure], (theirs > 0)[sure])
        assert one.mask.any() and not one.mask.all()
        assert one.score == pytest.approx(float(scores), abs=1e-4)
        assert one.similarity.shape == embedding.valid_grid and one.points.shape == (0, 2)
        assert one.presence == pytest.approx(min(1.0, max(0.0, one.score)))
    other = EvfSam(model).fit(TextReference("a dog on the left")).predict(photos)
    assert any((a.mask != b.mask).any() for a, b in zip(found, other, strict=True))


def test_batches_and_types(model: TextSam, photos: list[Array]) -> None:
    method = EvfSam(model).fit(PHRASE)
    embeddings = model.encode(photos)
    alone = method.predict_embeddings(embeddings, batch_size=1)
    for a, b in zip(method.predict_embeddings(embeddings), alone, strict=True):
        assert (a.mask != b.mask).mean() < 1e-3
    half = EvfSam(small_text_sam(dtype=torch.bfloat16)).fit(PHRASE)
    assert half.predict(photos[:1])[0].mask.shape == photos[0].shape[:2]


@pytest.mark.parametrize("with_photo", [False, True])
def test_saved_and_loaded(
    model: TextSam, photos: list[Array], reference: Reference, tmp_path: Path, with_photo: bool
) -> None:
    method = EvfSam(model, max_lookalikes=2).fit([PHRASE, reference] if with_photo else PHRASE)
    loaded = EvfSam.load(method.save(tmp_path / "said"), model)
    assert loaded.phrase == "the blue mug" and loaded.settings == method.settings
    assert loaded.settings["presence_threshold"] == (0.5 if with_photo else 0.0)
    for a, b in zip(loaded.predict(photos), method.predict(photos), strict=True):
        np.testing.assert_array_equal(a.mask, b.mask)
        assert (a.presence, a.stage) == (b.presence, b.stage)
    text = method.state_dict() | {"phrase": torch.tensor([255, 254], dtype=torch.uint8)}
    with pytest.raises(PersamError, match="has no phrase: fit and save it again"):
        EvfSam.from_state(model, text, method.settings)


# Lookalikes ---------------------------------------------------------------------------------------


def prediction(mask: Array, presence: float, instances: tuple[Prediction, ...] = ()) -> Prediction:
    similarity = np.zeros((2, 2), np.float32)
    points = np.array([[1, 1]])
    label = np.ones(1, np.int64)
    return Prediction(
        mask, 0.9, presence, similarity, points, label, None, "refinement_2", 1.0, mask, instances
    )


def columns(first: int, last: int) -> Array:
    mask = np.zeros((4, 20), bool)
    mask[:, first:last] = True
    return mask


@pytest.mark.parametrize(
    ("said", "expected", "presence"),
    [
        (columns(0, 5), columns(0, 4), 0.9),
        (columns(9, 20), columns(10, 14), 0.8),  # overlaps two: more of the second
        (columns(15, 20), columns(16, 20), 0.7),
        (columns(5, 9), columns(0, 0), 0.0),  # means none of them
        (columns(0, 0), columns(0, 0), 0.0),  # means nothing
    ],
)
def test_the_phrase_chooses_among_lookalikes(said: Array, expected: Array, presence: float) -> None:
    twins = [
        prediction(columns(0, 4), 0.9),
        prediction(columns(10, 14), 0.8),
        prediction(columns(16, 20), 0.7),
    ]
    union = np.logical_or.reduce([twin.mask for twin in twins])
    found = _chosen(prediction(union, 0.9, tuple(twins)), prediction(said, 0.5))
    np.testing.assert_array_equal(found.mask, expected)
    np.testing.assert_array_equal(found.candidate, expected)
    overlap = (expected & said).sum() / max(1, (expected | said).sum())
    assert found.presence == presence and found.agreement == pytest.approx(overlap)
    assert found.instances == () and (found.stage == "empty") == (not expected.any())


def test_a_photo_besides_brings_persams_candidates(
    model: TextSam, photos: list[Array], reference: Reference
) -> None:
    both = EvfSam(model, presence_threshold=0.0).fit([reference, PHRASE])
    persam = PerSAM(model, presence_threshold=0.0, max_instances=5).fit(reference)
    said = EvfSam(model).fit(PHRASE).predict(photos)
    for one, seen, words in zip(both.predict(photos), persam.predict(photos), said, strict=True):
        candidates = seen.instances or (seen,)
        overlaps = [(c.mask & words.mask).sum() / (c.mask | words.mask).sum() for c in candidates]
        best = candidates[int(np.argmax(overlaps))]
        assert max(overlaps) > 0
        np.testing.assert_array_equal(one.mask, best.mask)
        assert one.agreement == pytest.approx(max(overlaps)) and one.presence == best.presence
    strict = EvfSam(model, presence_threshold=1.0).fit([reference, PHRASE]).predict(photos[1:2])
    assert strict[0].stage == "absent" and not strict[0].mask.any() and strict[0].candidate.any()


# What is given ------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [0, 128, 255])
def test_a_photo_with_nothing_in_it(model: TextSam, value: int) -> None:
    photo = np.full((40, 60, 3), value, np.uint8)
    (found,) = EvfSam(model).fit(PHRASE).predict([photo])
    assert not found.mask.any() and not found.candidate.any()
    assert (found.presence, found.stage) == (0.0, "empty")
    with pytest.raises(BadReferenceError, match="'the blue mug' finds nothing in the photo: say"):
        fp.find_phrase(photo, PHRASE.text, model)


def test_a_phrase_becomes_a_reference(model: TextSam, photos: list[Array]) -> None:
    """What it means in one photo; any method carries that to the others."""
    found = fp.find_phrase(photos[0], PHRASE.text, model)
    (said,) = EvfSam(model).fit(PHRASE).predict(photos[:1])
    np.testing.assert_array_equal(found.mask, said.mask)
    assert found.kind == "mask" and fp.PerSAM(model).fit(found).predict(photos[1:2])[0].points.any()


def test_the_model_by_name(photos: list[Array], tmp_path: Path) -> None:
    with registered():
        (found,) = EvfSam("small_evf").fit(PHRASE).predict(photos[:1])
        assert (
            found.mask.any()
            and fp.find_phrase(photos[0], PHRASE.text, "small_evf").mask is not None
        )
    with pytest.raises(CheckpointError, match="was made with model 'small_evf'"):
        path = EvfSam(small_text_sam(checkpoint_sha256="a")).fit(PHRASE).save(tmp_path / "said")
        EvfSam.load(path, small_text_sam(checkpoint_sha256="b"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            TextReference("青いマグカップ"),
            "in a script that the model does not know: say it in Engl",
        ),
        (TextReference("[semantic]"), "is empty: "),
        ([PHRASE, PHRASE], "EVF-SAM got 2 phrases: give one"),
        ([], "fit needs a Reference or a list of them"),
        ("the blue mug", "fit needs a Reference or a list of them"),
    ],
)
def test_phrases_that_do_not_serve(model: TextSam, given: Any, says: str) -> None:
    with pytest.raises(BadReferenceError, match=says) as caught:
        EvfSam(model).fit(given)
    assert "\n" not in str(caught.value)


def test_what_else_is_refused(
    model: TextSam, sam: Any, photos: list[Array], reference: Reference
) -> None:
    with pytest.raises(
        BadReferenceError, match="EVF-SAM did not get a phrase: give one, as in Text"
    ):
        EvfSam(model).fit(reference)
    with pytest.raises(PersamError, match="needs a model that takes phrases, which custom does no"):
        EvfSam(sam)
    with pytest.raises(PersamError, match="knows no phrase yet"):
        EvfSam(model).predict(photos)
    with pytest.raises(PersamError, match="max_lookalikes 0 is out of range"):
        EvfSam(model, max_lookalikes=0)
    with pytest.raises(BadReferenceError, match="has 600 characters: give a phrase of at most 512"):
        TextReference("杯" * 600)
