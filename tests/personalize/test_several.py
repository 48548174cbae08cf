"""Several objects in one photo, as arrays: who gets which pixel."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from fiftyone_persam.engine import Job, OutputSettings
from fiftyone_persam.engine.worker import pack
from fiftyone_persam.errors import CheckpointError, PersamError
from fiftyone_persam.personalize import PerSAM, Reference
from fiftyone_persam.personalize.prediction import Prediction
from fiftyone_persam.personalize.several import SeveralObjects, _shared_out
from fiftyone_persam.sam import ImageEmbedding, PromptableSam


@pytest.fixture(scope="module")
def pair(sam: PromptableSam, reference: Reference) -> dict[str, PerSAM]:
    assert reference.mask is not None
    other = Reference(reference.photo, mask=np.roll(reference.mask, 90, axis=1))
    options = {"presence_threshold": 0, "location_prior": "background_removed"}
    return {
        "face": PerSAM(sam, **options).fit(reference),
        "other": PerSAM(sam, **options).fit([other, reference]),
    }


def test_maps_of_one_product_are_those_of_each_alone(
    pair: dict[str, PerSAM], embeddings: list[ImageEmbedding]
) -> None:
    """Each object alone, its map behind where the other's is higher."""
    both = SeveralObjects(pair).predict_embeddings(embeddings[:2])
    for row, embedding in enumerate(embeddings[:2]):
        own = {name: one.locate([embedding])[0].similarity[0] for name, one in pair.items()}
        for name, rival in (("face", "other"), ("other", "face")):
            behind = own[name] - (own[rival] - own[name]).clamp_min(0)
            rows, columns = both[row].objects[name].similarity.shape
            found = torch.from_numpy(both[row].objects[name].similarity)
            assert torch.allclose(found, behind[:rows, :columns], atol=1e-5)


def test_no_pixel_is_in_two_masks_in_any_batch(
    pair: dict[str, PerSAM], embeddings: list[ImageEmbedding], tmp_path: Path, sam: PromptableSam
) -> None:
    several = SeveralObjects(pair)
    together = several.predict_embeddings(embeddings)
    alone = [several.predict_embeddings([one], batch_size=1)[0] for one in embeddings]
    loaded = SeveralObjects.load(several.save(tmp_path / "both"), sam)
    again = loaded.predict_embeddings(embeddings)
    for scenes in zip(together, alone, again, strict=True):
        assert not (
            scenes[0].objects["face"].candidate & scenes[0].objects["other"].candidate
        ).any()
        for name in pair:
            first, *others = (scene.objects[name] for scene in scenes)
            for other in others:
                assert np.mean(first.candidate != other.candidate) < 0.01
                assert other.presence == pytest.approx(first.presence, abs=1e-3)
    with pytest.raises(CheckpointError, match="not one of several objects"):
        SeveralObjects.load(pair["face"].save(tmp_path / "one"), sam)


def prediction(mask: np.ndarray, presence: float) -> Prediction:
    box, grid = None, np.zeros((4, 4), np.float32)
    points, labels = np.zeros((1, 2), np.int64), np.ones(1, np.int64)
    return Prediction(mask, 0.9, presence, grid, points, labels, box, "refinement_2", 1.0, mask)


@pytest.mark.parametrize(
    ("presences", "spans", "left"),
    [
        # They touch: each pixel is of the mask that is surer of it, here the second.
        ((0.9, 0.8), ((0, 20), (15, 40)), (15, 25)),
        # They mean the same thing: the object of the higher presence has it.
        ((0.9, 0.8), ((0, 20), (2, 22)), (20, 2)),
        ((0.7, 0.8), ((0, 20), (2, 22)), (2, 20)),
        # One that is absent takes nothing.
        ((0.9, 0.1), ((0, 20), (15, 40)), (20, 20)),
        ((0.1, 0.2), ((0, 20), (30, 40)), (20, 10)),
    ],
)
def test_who_gets_the_pixels(
    embeddings: list[ImageEmbedding], sam: PromptableSam, presences, spans, left
) -> None:
    embedding = embeddings[3]
    shape = embedding.original_size
    masks = [np.zeros(shape, np.bool_) for _ in spans]
    for mask, (start, end) in zip(masks, spans, strict=True):
        mask[:, start:end] = True
    scores = torch.stack([torch.full((8, 8), 1.0), torch.full((8, 8), 2.0)])
    found = [prediction(m, p) for m, p in zip(masks, presences, strict=True)]
    shared = _shared_out(sam, embedding, found, scores, [0.5, 0.5])
    assert tuple(int(one.candidate[0].sum()) for one in shared) == left
    assert not (shared[0].candidate & shared[1].candidate).any()
    for one, before in zip(shared, found, strict=True):
        lost = one.candidate.sum() < 0.5 * before.candidate.sum()
        assert (one.presence < before.presence) == lost
        assert one.mask.any() == (one.presence >= 0.5 or one is before)


def test_refused(pair: dict[str, PerSAM], sam: PromptableSam, reference: Reference) -> None:
    with pytest.raises(PersamError, match="0 objects cannot be segmented"):
        SeveralObjects({})
    released = PerSAM(sam, "reference").fit(reference)
    with pytest.raises(PersamError, match="knows one object"):
        SeveralObjects({"a": released, "b": pair["face"]})


def test_sent_to_another_process(
    pair: dict[str, PerSAM], embeddings: list[ImageEmbedding], sam: PromptableSam
) -> None:
    """As the back ends of several devices and of Ray do."""
    several = SeveralObjects(pair)
    job = Job((), sam, {"": several}, OutputSettings(Path("masks"), objects=tuple(pair)))
    arrived = pickle.loads(pack(job, None)).unpack("cpu").predictors[""]
    assert list(arrived.objects) == list(pair)
    (here,), (there,) = (one.predict_embeddings(embeddings[:1]) for one in (several, arrived))
    for name in pair:
        assert np.array_equal(here.objects[name].candidate, there.objects[name].candidate)
