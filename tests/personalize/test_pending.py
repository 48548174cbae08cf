"""Predictions in steps are those of the passes that ask the host."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fiftyone_persam.personalize import METHODS, PerSAM, PerSAMF, Reference
from fiftyone_persam.personalize.cascade_method import CascadeMethod
from fiftyone_persam.personalize.prediction import Prediction
from fiftyone_persam.sam import ImageEmbedding, PromptableSam


class Lifted(PromptableSam):
    """A model whose logits of each pass are lifted, photo by photo: all or nothing.

    The passes are told apart by how far the mask that prompts them was lifted, photos by their
    embeddings.
    """

    def __init__(
        self, sam: PromptableSam, lifts: list[list[float]], photos: list[ImageEmbedding]
    ) -> None:
        self.__dict__.update(sam.__dict__)
        self.lifts, self.photos = lifts, photos

    def decode_tensors(self, features: torch.Tensor, *args: Any, **prompts: Any) -> Any:
        logits, scores = super().decode_tensors(features, *args, **prompts)
        masks = prompts.get("masks")
        number = 0 if masks is None else 1 if masks.abs().max() < 2000 else 2
        index = [
            next(k for k, one in enumerate(self.photos) if torch.equal(one.features, row))
            for row in features
        ]
        lift = torch.tensor([self.lifts[number][k] for k in index])
        return logits + lift[:, None, None, None], scores


def pair(
    sam: PromptableSam, kind: type[CascadeMethod], reference: Reference, **options: Any
) -> tuple[CascadeMethod, CascadeMethod]:
    """A fitted method that asks the host, and the same in steps."""
    plain = kind(sam, **options).fit(reference)
    steps = kind(sam.with_speed(passes=True), **options)
    steps._state = plain._state
    assert steps.in_steps and not plain.in_steps
    return plain, steps


def assert_same(found: list[Prediction], wanted: list[Prediction]) -> None:
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.stage == other.stage
        np.testing.assert_array_equal(one.box, other.box)
        np.testing.assert_array_equal(one.points, other.points)
        np.testing.assert_array_equal(one.labels, other.labels)
        np.testing.assert_array_equal(one.similarity, other.similarity)
        assert one.mask.dtype == np.bool_ and one.mask.shape == other.mask.shape
        assert (one.mask != other.mask).mean() < 1e-3
        assert (one.candidate != other.candidate).mean() < 1e-3
        for name in ("score", "agreement"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), abs=1e-3)
        # Which part is most alike may be a matter of rounding.
        assert one.presence == pytest.approx(other.presence, abs=5e-3)


@pytest.mark.parametrize("kind", [PerSAM, PerSAMF])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"presence_threshold": 0},
        {"presence_threshold": 1},
        {"post_refinement": False},
        {"positive_points": 1, "negative_prior": False},
        {"guided_attention": False, "semantic_prompt": False},
        {"several_references": "mean", "location_prior": "parts"},
    ],
    ids=str,
)
def test_steps_predict_what_the_passes_predict(
    kind: type[CascadeMethod],
    options: dict[str, Any],
    sam: PromptableSam,
    reference: Reference,
    embeddings: list[ImageEmbedding],
) -> None:
    plain, steps = pair(sam, kind, reference, **options)
    wanted = plain.predict_embeddings(embeddings)
    assert_same(steps.predict_embeddings(embeddings), wanted)
    assert_same(steps.predict_embeddings(embeddings, batch_size=3), wanted)


@pytest.mark.parametrize("name", ["lora", "adapter", "ssprompt", "prompt_tuning", "mask_weights_3"])
def test_a_tuned_decoder_decodes(
    name: str, sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    options = {"steps": 8, "views": 0, "lr": 0.05, "presence_threshold": 0}
    plain, steps = pair(sam, METHODS[name], reference, **options)
    wanted = plain.predict_embeddings(embeddings)
    assert_same(steps.predict_embeddings(embeddings), wanted)
    untuned = PerSAM(sam, presence_threshold=0).fit(reference).predict_embeddings(embeddings)
    assert any(one.score != other.score for one, other in zip(wanted, untuned, strict=True))


@pytest.mark.parametrize("kind", [PerSAM, PerSAMF])
def test_empty_masks_of_some_photos(
    kind: type[CascadeMethod],
    sam: PromptableSam,
    reference: Reference,
    embeddings: list[ImageEmbedding],
) -> None:
    """Each photo ends with another pass; PerSAM-F's second pass has a box for some alone."""
    plain, steps = pair(sam, kind, reference, presence_threshold=0)
    lifts = [
        [1000.0, 1000.0, -1000.0, -1000.0],
        [3000.0, -3000.0, 3000.0, -3000.0],
        [-5000.0, 5000.0, 5000.0, 5000.0],
    ]
    found = []
    for method in (plain, steps):
        method.sam = Lifted(method.sam, lifts, embeddings)  # type: ignore[arg-type]
        found.append(method.predict_embeddings(embeddings))
    stages = ["refinement_1", "location_prior", "refinement_2", "empty"]
    assert [one.stage for one in found[0]] == stages
    assert_same(found[1], found[0])


def test_steps_of_two_batches_may_overlap(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    plain, steps = pair(sam, PerSAM, reference)
    first, second = steps.begin(embeddings[:2]), steps.begin(embeddings[2:])
    second.decode()
    first.decode()
    late = [second.prediction(1), second.prediction(0)][::-1]
    assert_same([*first.finish(), *late], plain.predict_embeddings(embeddings))


@pytest.mark.parametrize(
    "options", [{"mode": "reference"}, {"max_instances": 2}], ids=["reference", "instances"]
)
def test_who_asks_the_host_all_the_same(options: dict[str, Any], sam: PromptableSam) -> None:
    assert not PerSAM(sam.with_speed(passes=True), **options).in_steps


def test_a_method_of_ones_own_passes_is_not_stepped_over(sam: PromptableSam) -> None:
    class Own(PerSAM):
        def predict_embeddings(self, *args: Any, **kw: Any) -> list[Prediction]:
            return [replace(one, stage="own") for one in super().predict_embeddings(*args, **kw)]

    assert not Own(sam.with_speed(passes=True)).in_steps
