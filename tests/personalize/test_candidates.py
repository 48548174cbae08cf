"""Where a photo's objects come from: what is in it, ranked by its likeness to the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import fiftyone_persam as fp
from benchmarks.album import Photo, read_album
from benchmarks.several_scenes import Several, compose
from fiftyone_persam.errors import PersamError
from fiftyone_persam.personalize import CANDIDATES, PerSAM, PerSAMF, Reference
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam


@pytest.fixture(scope="module")
def cats(album: Path) -> list[Photo]:
    return next(iter(read_album(album, ["cat"])))


@pytest.fixture(scope="module")
def elsewhere(album: Path) -> Photo:
    """A photo without the cat."""
    return next(iter(read_album(album, ["cup"])))[0]


@pytest.fixture(scope="module")
def twice(cats: list[Photo], elsewhere: Photo) -> Several:
    return compose(elsewhere, cats[1:2], 2, np.random.default_rng(0))


@pytest.fixture(scope="module")
def ranked(cats: list[Photo]) -> PerSAM:
    sam = load_sam("sam_lite")
    reference = Reference(cats[0].image, mask=cats[0].mask)
    return PerSAM(sam, candidates="proposals", max_instances=4).fit(reference)


@pytest.fixture(scope="module")
def encoded(ranked: PerSAM, twice: Several) -> ImageEmbedding:
    return ranked.sam.encode([twice.image])[0]


def test_the_object_is_found_twice(ranked: PerSAM, twice: Several, encoded: ImageEmbedding) -> None:
    (found,) = ranked.predict_embeddings([encoded])
    assert len(found.instances) == len(twice.masks) == 2
    for truth in twice.masks:
        assert max(fp.iou(one.mask, truth) for one in found.instances) > 0.6
    assert np.array_equal(found.mask, found.instances[0].mask | found.instances[1].mask)
    for one in found.instances:
        assert one.presence >= 0.5 and one.similarity.shape == encoded.valid_grid
        assert all(one.mask[y, x] for x, y in one.points[one.labels == 1])
        if one.stage == "proposal":
            x0, y0, x1, y1 = one.box
            assert 0 <= x0 <= x1 < twice.image.shape[1] and 0 <= y0 <= y1 < twice.image.shape[0]


def test_no_more_than_were_asked_for(
    cats: list[Photo], twice: Several, encoded: ImageEmbedding
) -> None:
    single = PerSAM(load_sam("sam_lite"), candidates="proposals")
    (found,) = single.fit(Reference(cats[0].image, mask=cats[0].mask)).predict_embeddings([encoded])
    assert found.instances == ()
    assert max(fp.iou(found.mask, truth) for truth in twice.masks) > 0.6


def test_where_nothing_is_like_it_it_is_absent(ranked: PerSAM, elsewhere: Photo) -> None:
    (found,) = ranked.predict([elsewhere.image])
    assert found.stage == "absent" and not found.mask.any() and found.candidate.any()
    assert found.presence < 0.5 and found.instances == ()


def test_a_photo_alone_and_in_a_batch(
    ranked: PerSAM, encoded: ImageEmbedding, cats: list[Photo]
) -> None:
    other = ranked.sam.encode([cats[2].image])[0]
    together = ranked.predict_embeddings([other, encoded])
    (alone,) = ranked.predict_embeddings([encoded])
    assert np.array_equal(together[1].mask, alone.mask)
    assert together[1].presence == pytest.approx(alone.presence, abs=1e-4)


@pytest.mark.parametrize("method", [PerSAM, PerSAMF])
def test_saved_and_loaded(
    method: Any, cats: list[Photo], encoded: ImageEmbedding, tmp_path: Path
) -> None:
    sam = load_sam("sam_lite")
    reference = Reference(cats[0].image, mask=cats[0].mask)
    fitted = method(sam, candidates="proposals", max_instances=4).fit(reference)
    fitted.save(tmp_path / "cat.safetensors")
    again = method.load(tmp_path / "cat.safetensors", sam)
    assert again.candidates == "proposals"
    (one,), (other,) = (m.predict_embeddings([encoded]) for m in (fitted, again))
    assert np.array_equal(one.mask, other.mask) and one.presence == other.presence


def test_a_small_object_in_the_reference(cats: list[Photo]) -> None:
    """What would be nothing at a smaller size is looked at as it is."""
    mask = np.zeros(cats[0].mask.shape, np.bool_)
    mask[10:14, 10:14] = True
    fitted = PerSAM(load_sam("sam_lite"), candidates="proposals").fit(
        Reference(cats[0].image, mask=mask)
    )
    assert not any(name.startswith("smaller.") for name in fitted.state.more)
    assert fitted.predict([cats[1].image])[0].mask.shape == cats[1].mask.shape


def test_several_objects_are_ranked_proposals_by_default(
    ranked: PerSAM, cats: list[Photo], encoded: ImageEmbedding
) -> None:
    reference = Reference(cats[0].image, mask=cats[0].mask)
    own = PerSAM(ranked.sam, max_instances=4).fit(reference)
    (found,), (expected,) = (m.predict_embeddings([encoded]) for m in (own, ranked))
    assert len(found.instances) == 2 and np.array_equal(found.mask, expected.mask)
    repeated = PerSAM(ranked.sam, candidates="repeat", max_instances=4).fit(reference)
    (other,) = repeated.predict_embeddings([encoded])
    assert not np.array_equal(found.mask, other.mask)


def test_other_models_look_again(sam: PromptableSam, cats: list[Photo]) -> None:
    reference = Reference(cats[0].image, mask=cats[0].mask)
    given = {"max_instances": 3, "presence_threshold": 0}
    found, expected = (
        method.fit(reference).predict([cats[1].image])[0]
        for method in (PerSAM(sam, **given), PerSAM(sam, candidates="repeat", **given))
    )
    assert np.array_equal(found.mask, expected.mask)


def test_a_source_of_ones_own(cats: list[Photo]) -> None:
    class First:
        name, help, always = "first", "what the passes have led to", True

        def check(self, sam: Any) -> None: ...

        def learn(self, sam: Any, views: Any, masks: Any) -> dict[str, torch.Tensor]:
            return {"count": torch.tensor([float(len(views))])}

        def find(self, scenes: Any) -> Any:
            assert scenes.learned["count"].tolist() == [1.0]
            return [*scenes.first]

    CANDIDATES.register(First)
    try:
        reference = Reference(cats[0].image, mask=cats[0].mask)
        own = PerSAM(load_sam("sam_lite"), candidates="first").fit(reference)
        plain = PerSAM(load_sam("sam_lite")).fit(reference)
        (one,), (other,) = (m.predict([cats[1].image]) for m in (own, plain))
        assert np.array_equal(one.mask, other.mask)
    finally:
        CANDIDATES.unregister("first")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"candidates": "proposal"}, "candidate source 'proposal' is not known: .*'proposals'"),
        ({"candidates": 3}, "candidates 3 is not a text: give 'repeat' or 'proposals'"),
        ({"candidates": "proposals", "mode": "reference"}, "finds one object, as the released"),
    ],
)
def test_what_cannot_be_asked_for(given: dict[str, Any], message: str) -> None:
    with pytest.raises(PersamError, match=message):
        PerSAM(load_sam("sam_lite"), **given)


def test_a_model_whose_embedding_the_detector_does_not_know(sam: PromptableSam) -> None:
    with pytest.raises(PersamError, match=r"needs the embedding of sam_lite, which .* not make"):
        PerSAM(sam, candidates="proposals")
