"""Several references of one object, and references of what it is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fiftyone_persam.datasets import build_album
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.errors import BadReferenceError, PersamError
from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam


@pytest.fixture(scope="module")
def lite() -> PromptableSam:
    return load_sam("sam_lite")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("several") / "album"
    return build_album(folder, objects=["cat", "cup", "flower"], photos=7)


def reference_of(album: Path, name: str) -> Reference:
    mask = read_mask(album / "Annotations" / f"{name}.png")
    return Reference(album / "Images" / f"{name}.jpg", mask=mask)


def on_object(album: Path, name: str, x: int, y: int) -> bool:
    return bool(read_mask(album / "Annotations" / f"{name}.png")[y, x])


def test_the_odd_one_out_counts_least(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    """Two references of the cat and one of something else: agreement outvotes the stranger."""
    assert reference.mask is not None
    shifted = Reference(reference.photo, mask=np.roll(reference.mask, 4, axis=1))
    stranger = Reference(reference.photo, mask=~reference.mask)
    kinds = {
        kind: PerSAM(sam, several_references=kind).fit([reference, shifted, stranger])
        for kind in ("mean", "agreement", "max")
    }
    targets = kinds["agreement"].state.targets
    weights = kinds["agreement"]._weights()
    assert weights.sum().item() == pytest.approx(1) and weights.argmin() == 2
    assert weights[2] < 1 / 3
    alone = PerSAM(sam).fit(reference).locate(embeddings)[0].similarity
    far = {k: (m.locate(embeddings)[0].similarity - alone).abs().mean() for k, m in kinds.items()}
    assert far["agreement"] < far["mean"]
    assert torch.allclose(F.normalize(targets, dim=1), targets, atol=1e-5)


def test_parts_of_all_references_make_one_map(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding], tmp_path: Path
) -> None:
    """By hand: cosines to every part of both, without each one's background; the five highest."""
    assert reference.mask is not None
    other = Reference(reference.photo, mask=np.roll(reference.mask, 30, axis=0))
    method = PerSAM(sam, several_references="parts").fit([reference, other])
    found = method.locate(embeddings[1:2])[0].similarity[0]
    state = method.state
    features = embeddings[1].features.float()
    cosines = []
    for parts, direction in zip(state.more["sets.parts"], state.prior["directions"], strict=True):
        left = features - torch.einsum("c,chw->hw", direction, features) * direction[:, None, None]
        own = F.normalize(parts - (parts @ direction)[:, None] * direction, dim=1)
        cosines.append(torch.einsum("pc,chw->phw", own, F.normalize(left, dim=0)))
    by_hand = torch.cat(cosines).sort(dim=0, descending=True).values[:5].mean(dim=0)
    assert torch.allclose(found, by_hand, atol=1e-4)
    loaded = PerSAM.load(method.save(tmp_path / "state"), sam)
    assert torch.equal(loaded.locate(embeddings[1:2])[0].similarity[0], found)
    predicted = loaded.predict_embeddings(embeddings[1:2])[0]
    assert predicted.mask.shape == embeddings[1].original_size
    parts_prior = PerSAM(sam, several_references="parts", location_prior="parts")
    assert parts_prior.fit([reference, other]).predict_embeddings(embeddings[:1])


def test_two_references_agree_as_much_with_one_another(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    assert reference.mask is not None
    pair = [reference, Reference(reference.photo, mask=np.roll(reference.mask, 4, axis=1))]
    maps = [
        PerSAM(sam, several_references=kind).fit(pair).locate(embeddings)[0].similarity
        for kind in ("mean", "agreement")
    ]
    assert torch.equal(*maps)


@pytest.mark.parametrize("cls", [PerSAM, PerSAMF])
def test_a_negative_reference_takes_the_photo_from_the_object(
    lite: PromptableSam, album: Path, cls: type[PerSAM], tmp_path: Path
) -> None:
    """What was segmented in a photo without the cat, given as a negative, is not the cat again."""
    method = cls(lite, presence_threshold=0)
    cat, flower = reference_of(album, "cat/00"), reference_of(album, "flower/00")
    photo = album / "Images" / "flower" / "01.jpg"
    plain = method.fit(cat).predict([photo])[0]
    learnt = method.fit(cat, negatives=flower).predict([photo])[0]
    assert learnt.presence < plain.presence / 2
    own = album / "Images" / "cat" / "01.jpg"
    assert method.predict([own])[0].presence > 0.5, "the object itself is still there"
    again = cls.load(method.save(tmp_path / "cat"), lite)
    assert again.predict([photo])[0].presence == pytest.approx(learnt.presence, abs=1e-4)


def test_the_right_one_of_two_wins(lite: PromptableSam, album: Path) -> None:
    """In a photo of both, the point of each object's map lies on that object."""
    cup, flower = reference_of(album, "cup/00"), reference_of(album, "flower/00")
    both = album / "Images" / "cup" / "02.jpg"  # a cup, and a flower behind it
    embedding = lite.encode([both])
    for asked, negative, there in ((cup, flower, True), (flower, cup, False)):
        method = PerSAM(lite, presence_threshold=0).fit(asked, negatives=[negative])
        batch, _ = method.locate(embedding)
        x, y = batch.points[0, 0]
        assert on_object(album, "cup/02", int(x), int(y)) == there


def test_wrong_negatives(sam: PromptableSam, reference: Reference) -> None:
    with pytest.raises(PersamError, match="negative references"):
        PerSAM(sam, "reference").fit(reference, negatives=reference)
    with pytest.raises(BadReferenceError):
        PerSAM(sam).fit(reference, negatives=[None])  # type: ignore[list-item]
