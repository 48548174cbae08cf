"""The location prior that compares cells by several layers of the encoder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.errors import CheckpointError
from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.personalize.hypercolumns import HypercolumnsPrior
from fiftyone_persam.personalize.location import ReferenceView
from fiftyone_persam.personalize.several import SeveralObjects
from fiftyone_persam.personalize.stronger_priors import BackgroundRemovedPrior
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_photo, load_sam

Array = np.ndarray


@pytest.fixture(scope="module")
def lite() -> PromptableSam:
    return load_sam("sam_lite")


@pytest.fixture(scope="module")
def cat(album: Path) -> list[tuple[Array, Array]]:
    """Photos and masks of the demo's cat."""
    photos = sorted((album / "Images" / "cat").iterdir())
    masks = [read_mask(album / "Annotations" / "cat" / f"{path.stem}.png") for path in photos]
    return list(zip(map(load_photo, photos), masks, strict=True))


def cosine_by_hand(features: Array, cells: Array) -> Array:
    """(C, h, w) -> (h, w) to the mean of the cells, without the direction of the others' mean."""
    flat = features.reshape(len(features), -1).T.astype(np.float64)
    inside = cells.ravel()
    unit = flat / np.linalg.norm(flat, axis=1, keepdims=True)
    common = unit[~inside].mean(axis=0)
    common /= np.linalg.norm(common)
    target = flat[inside].mean(axis=0)
    target -= (target @ common) * common
    left = flat - np.outer(flat @ common, common)
    cosine = left @ target / np.linalg.norm(left, axis=1) / np.linalg.norm(target)
    return cosine.reshape(features.shape[1:])


def test_both_layers_have_to_look_like_the_object() -> None:
    """Against plain numpy: the weighted geometric mean; the lower one where one is negative."""
    generator = torch.Generator().manual_seed(5)
    seen = torch.randn(6, 5, 7, generator=generator)
    told = torch.randn(4, 5, 7, generator=generator)
    cells = torch.zeros(5, 7, dtype=torch.bool)
    cells[1:4, 2:6] = True
    embedding = ImageEmbedding(seen, (5, 7), (5, 7), 7, descriptors=told.half())
    prior = HypercolumnsPrior()
    features = prior.features(embedding)
    assert features.shape == (10, 5, 7) and features.dtype == torch.float32
    target = F.normalize(features[:, cells].mean(dim=1), dim=0)
    view = ReferenceView(embedding, features, cells, torch.ones_like(cells), target)
    found = prior.similarity(features[None], view.valid[None], target[None], prior.fit([view]))
    one = cosine_by_hand(seen.numpy(), cells.numpy())
    other = cosine_by_hand(told.half().float().numpy(), cells.numpy())
    lower = np.minimum(one, other)
    expected = np.where(
        lower > 0, np.clip(one, 0, 1) ** (1 / 3) * np.clip(other, 0, 1) ** (2 / 3), lower
    )
    assert (lower > 0).any() and (lower < 0).any()
    np.testing.assert_allclose(found[0, 0].numpy(), expected, atol=1e-4)


def test_a_model_without_descriptors_has_the_background_removed(
    sam: PromptableSam, reference: Reference, embeddings: list[ImageEmbedding]
) -> None:
    assert HypercolumnsPrior().dim(sam) == sam.matching_dim
    found, plain = (
        PerSAM(sam, location_prior=name).fit(reference).locate(embeddings)[0].similarity
        for name in ("hypercolumns", "background_removed")
    )
    assert torch.equal(found, plain)


@pytest.mark.parametrize("several", ["max", "parts"])
def test_sam_lite_finds_by_both_and_the_state_comes_back(
    lite: PromptableSam, cat: list[tuple[Array, Array]], several: str, tmp_path: Path
) -> None:
    (first, mask), (second, truth), _ = cat
    reference = Reference(first, mask=mask)
    method = PerSAM(lite, several_references=several).fit(reference)
    assert isinstance(method.prior, HypercolumnsPrior)
    embedding = lite.encode([second])[0]
    found = method.predict_embeddings([embedding])[0]
    x, y = found.points[0]
    assert truth[y, x] and (found.similarity <= 1 + 1e-5).all()
    plain = PerSAM(lite, several_references=several, location_prior="background_removed")
    other = plain.fit(reference).predict_embeddings([embedding])[0]
    assert np.abs(found.similarity - other.similarity).max() > 0.05
    again = PerSAM.load(method.save(tmp_path / "cat"), lite).predict_embeddings([embedding])[0]
    np.testing.assert_array_equal(again.mask, found.mask)
    np.testing.assert_array_equal(again.similarity, found.similarity)
    with pytest.raises(CheckpointError, match="fit again"):  # whose prior has other channels
        PerSAM.from_state(lite, method.state_dict(), {"location_prior": "background_removed"})


def test_objects_of_different_priors_in_one_run(
    lite: PromptableSam, cat: list[tuple[Array, Array]]
) -> None:
    """Each map is that of its own prior, behind where the other one's is higher."""
    (first, mask), (second, _), _ = cat
    reference = Reference(first, mask=mask)
    methods = {
        "one": PerSAM(lite, presence_threshold=0).fit(reference),
        "other": PerSAMF(lite, presence_threshold=0, location_prior="background_removed").fit(
            reference
        ),
    }
    embedding = lite.encode([second])[0]
    scene = SeveralObjects(methods).predict_embeddings([embedding])[0]
    assert isinstance(methods["other"].prior, BackgroundRemovedPrior)
    own = {name: one.locate([embedding])[0].similarity[0] for name, one in methods.items()}
    for name, rival in (("one", "other"), ("other", "one")):
        behind = own[name] - (own[rival] - own[name]).clamp_min(0)
        rows, columns = embedding.valid_grid
        np.testing.assert_allclose(
            scene.objects[name].similarity, behind[:rows, :columns].numpy(), atol=1e-5
        )
