from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch.nn import functional as F

from fiftyone_persam.datasets import build_album
from fiftyone_persam.datasets.mask_files import read_mask
from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.personalize.appearance import PARTS, describe, together
from fiftyone_persam.personalize.presence import (
    DEFAULT_THRESHOLD,
    calibrate,
    gather,
    handicap,
    probability,
)
from fiftyone_persam.sam import PromptableSam, load_sam

SIDE, CHANNELS = 8, 16
VALID = torch.ones(SIDE, SIDE, dtype=torch.bool)
CELLS = torch.zeros(SIDE, SIDE, dtype=torch.bool)
CELLS[2:6, 2:6] = True


def scene(seed: int, cells: torch.Tensor = CELLS, background: int = 0) -> torch.Tensor:
    """(C, h, w): a thing of its own kind (by seed) on a background that all photos share."""
    kind = torch.Generator().manual_seed(seed)
    noise = torch.Generator().manual_seed(1000 + seed + background)
    thing = torch.randn(CHANNELS, generator=kind)
    rest = torch.randn(CHANNELS, generator=torch.Generator().manual_seed(99))
    features = torch.where(cells, thing[:, None, None], 2 * rest[:, None, None])
    return features + 0.3 * torch.randn(CHANNELS, SIDE, SIDE, generator=noise)


def logits(cells: torch.Tensor) -> torch.Tensor:
    return torch.where(cells, 1.0, -1.0).repeat_interleave(4, 0).repeat_interleave(4, 1)[None]


def ask(features: torch.Tensor, *references: torch.Tensor, cells: torch.Tensor = CELLS) -> float:
    known = together([describe(one, CELLS, VALID) for one in references])
    return float(probability(gather(features[None], logits(cells), VALID[None], known)))


def test_levels_are_the_means_of_object_and_rest() -> None:
    similarity = torch.where(CELLS, 0.8, 0.2)
    assert calibrate(similarity, CELLS, VALID) == pytest.approx((0.8, 0.2))
    padded = VALID.clone()
    padded[:, 7] = False
    similarity[:, 7] = -9
    assert calibrate(similarity, CELLS, padded) == pytest.approx((0.8, 0.2))
    assert calibrate(torch.full((SIDE, SIDE), 0.8), VALID, VALID) == pytest.approx((0.8, 0))
    inside, outside = calibrate(torch.where(CELLS, 0.5, 0.6), CELLS, VALID)
    assert outside < inside


@pytest.mark.parametrize("background", [1, 2, 3])
def test_the_same_thing_again_is_there_and_another_is_not(background: int) -> None:
    assert ask(scene(1, background=background), scene(1)) > 0.9
    assert ask(scene(2, background=background), scene(1)) < 0.1


def test_the_other_place_of_the_mask_is_not_the_object() -> None:
    corner = torch.zeros_like(CELLS)
    corner[:2] = True
    assert ask(scene(1, background=1), scene(1), cells=corner) < 0.1


def test_an_empty_mask_is_absent() -> None:
    assert ask(scene(1), scene(1), cells=torch.zeros_like(CELLS)) == 0


@pytest.mark.parametrize(
    "model",
    [lambda f: 7 * f, lambda f: f * torch.linspace(1, 3, SIDE)[:, None], lambda f: f.half()],
    ids=["scale", "strength of cells", "half precision"],
)
def test_the_scale_of_a_models_features_means_nothing(
    model: Callable[[torch.Tensor], torch.Tensor],
) -> None:
    for seed in (1, 2):
        plain = ask(scene(seed, background=1), scene(1))
        assert ask(model(scene(seed, background=1)), model(scene(1))) == pytest.approx(
            plain, abs=0.01
        )


def test_what_all_cells_have_in_common_means_nothing() -> None:
    """A model may give every cell the same large vector: similarities then are all near 1."""
    common = 5 * F.normalize(torch.ones(CHANNELS), dim=0)[:, None, None]
    for seed in (1, 2):
        shifted = ask(scene(seed, background=1) + common, scene(1) + common)
        assert (shifted >= 0.5) == (seed == 1)


def test_padding_counts_for_nothing() -> None:
    valid = VALID.clone()
    valid[6:] = False
    features = scene(1, background=1)
    known = describe(scene(1), CELLS, VALID)
    found = gather(features[None], logits(CELLS), valid[None], known).columns
    features[:, 6:] = 50
    assert torch.equal(gather(features[None], logits(CELLS), valid[None], known).columns, found)


def test_the_reference_that_matches_best_decides() -> None:
    one, other = scene(1), scene(2)
    assert ask(scene(2, background=1), one) < 0.1
    assert ask(scene(2, background=1), one, other) == pytest.approx(
        ask(scene(2, background=1), other)
    )


@pytest.mark.parametrize("cells", [VALID, CELLS & False], ids=["all object", "one cell"])
def test_extreme_references(cells: torch.Tensor) -> None:
    cells = cells.clone()
    cells[4, 4] = True
    known = describe(scene(1), cells, VALID)
    assert known.parts.shape == (1, PARTS, CHANNELS)
    assert torch.isfinite(known.parts).all() and torch.isfinite(known.own).all()
    found = gather(scene(1)[None], logits(cells), VALID[None], known)
    assert float(probability(found)) > 0.9


def test_a_reference_cut_badly_still_finds_its_object() -> None:
    """A mask of half the object leaves the other half in what counts as its background."""
    half = CELLS.clone()
    half[:, 4:] = False
    known = describe(scene(1), half, VALID)
    found = gather(scene(1, background=1)[None], logits(half), VALID[None], known)
    assert float(probability(found)) > 0.5


def test_features_that_change_from_cell_to_cell_are_smoothed() -> None:
    """What a fine model says of single cells is mostly noise: means of 3 x 3 tell objects apart."""
    generator = torch.Generator().manual_seed(7)
    rough = [
        scene(seed, background=background)
        + 2 * torch.randn(CHANNELS, SIDE, SIDE, generator=generator)
        for seed, background in ((1, 0), (1, 1), (2, 1))
    ]
    assert describe(rough[0], CELLS, VALID).fine.tolist() == [1]
    assert describe(scene(1), CELLS, VALID).fine.tolist() == [0]
    same, other = ask(rough[1], rough[0]), ask(rough[2], rough[0])
    assert same > 0.5 and same > 4 * other
    known = together([describe(scene(1), CELLS, VALID), describe(rough[0], CELLS, VALID)])
    both = gather(rough[1][None], logits(CELLS), VALID[None], known).columns
    assert float(both[0, 1, 0]) > float(both[0, 0, 0]), "each reference as it is described"


def test_a_look_at_another_size_gives_something_away() -> None:
    covered = torch.tensor([16.0, 16.0, 64.0, 4.0])
    found = handicap(covered, torch.tensor([0.0, 4.0]))
    assert found[:, 0].tolist() == [0, 0, 0, 0], "a reference as given never does"
    assert 0 < float(found[0, 1]) == float(found[1, 1]) < float(found[2, 1])
    assert float(found[2, 1]) == pytest.approx(float(found[3, 1])), "twice and half the side"


def test_photos_of_a_batch_do_not_see_one_another() -> None:
    known = describe(scene(1), CELLS, VALID)
    features = torch.stack([scene(1, background=1), scene(2, background=2)])
    masks = torch.cat([logits(CELLS), logits(CELLS)])
    both = gather(features, masks, VALID.expand(2, -1, -1), known).columns
    alone = [
        gather(f[None], m[None], VALID[None], known).columns
        for f, m in zip(features, masks, strict=True)
    ]
    assert torch.allclose(both, torch.cat(alone), atol=1e-6)


@pytest.fixture(scope="module")
def lite() -> PromptableSam:
    return load_sam("sam_lite")


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("presence") / "album"
    return build_album(folder, objects=["cat", "motorcycle"], photos=3)


@pytest.mark.parametrize("cls", [PerSAM, PerSAMF])
def test_real_photos_with_and_without_the_object(
    lite: PromptableSam, album: Path, cls: type[PerSAM]
) -> None:
    """At the default threshold, with the bundled model, each photo gets the right answer."""
    mask: npt.NDArray[np.bool_] = read_mask(album / "Annotations" / "cat" / "00.png")
    method = cls(lite).fit(Reference(album / "Images" / "cat" / "00.jpg", mask=mask))
    assert method.presence_threshold == DEFAULT_THRESHOLD
    names = ["cat/01", "cat/02", "motorcycle/00", "motorcycle/01", "motorcycle/02"]
    found = method.predict([album / "Images" / f"{name}.jpg" for name in names])
    for name, prediction in zip(names, found, strict=True):
        there = name.startswith("cat")
        assert prediction.mask.any() == there, (name, prediction.presence)
        assert (prediction.stage == "absent") != there
        assert prediction.candidate.any(), "the mask is kept aside"
