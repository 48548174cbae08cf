"""Composed scenes: the masks say where the objects are, and both photos of a pair show them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from training.bank import Bank
from training.compose import MIN_COVERAGE, OBJECTS, Scenes, compose
from training.degrade import degrade, relight

SIDE, PAIRS = 96, 24
SHARES = {"cut-outs": 0.0, "photos": 1.0}


@pytest.fixture(scope="module")
def plain_bank(bank: Bank) -> Bank:
    """Cut-outs over photos without coloured objects: whatever has colour is an object."""
    weights = bank.photo_weights.clone()
    weights[bank.object_photo] = 0
    return replace(bank, photo_weights=weights)


@pytest.fixture(scope="module", params=SHARES)
def scenes(plain_bank: Bank, request: pytest.FixtureRequest) -> Iterator[Scenes]:
    generator = torch.Generator().manual_seed(1)
    with pytest.MonkeyPatch.context() as patch:
        # Colour tells the objects apart here, so they keep their own.
        patch.setattr("training.compose.BLOCKS_SHARE", 0.0)
        patch.setattr("training.compose.PATCHED_SHARE", 0.0)
        yield compose(plain_bank, PAIRS, SIDE, generator, photo_share=SHARES[request.param])


def saturation(images: Tensor) -> Tensor:
    """(B, S / 4, S / 4) how coloured each cell of 4 x 4 pixels is, 0 to 1."""
    cells = functional.avg_pool2d(images, 4)
    return (cells.amax(1) - cells.amin(1)) / cells.amax(1).clamp(min=16)


def test_shapes_and_ranges(scenes: Scenes) -> None:
    cells = SIDE // 4
    assert scenes.images.shape == (2 * PAIRS, 3, SIDE, SIDE)
    assert scenes.valid.shape == (2 * PAIRS, SIDE, SIDE)
    assert scenes.coverage.shape == (2 * PAIRS, OBJECTS, cells, cells)
    assert scenes.present.shape == (2 * PAIRS, OBJECTS)
    assert scenes.images.min() >= 0
    assert scenes.images.max() <= 255
    assert scenes.coverage.min() >= -1e-5
    assert scenes.coverage.max() <= 1 + 1e-5


def test_padding_is_grey_and_belongs_to_no_object(scenes: Scenes) -> None:
    outside = ~scenes.valid
    assert 0 < outside.float().mean() < 0.5
    assert (scenes.images.permute(0, 2, 3, 1)[outside] == 127).all()
    all_padding = functional.avg_pool2d(scenes.valid[:, None].float(), 4)[:, 0] == 0
    assert (scenes.coverage.amax(1)[all_padding] == 0).all()


def test_masks_match_the_pixels(scenes: Scenes) -> None:
    """Coloured cells are covered by an object and grey ones are not."""
    covered = scenes.coverage.amax(1)
    inside = functional.avg_pool2d(scenes.valid[:, None].float(), 4)[:, 0] == 1
    coloured = saturation(scenes.images)
    on, off = coloured[(covered > 0.95) & inside], coloured[(covered == 0) & inside]
    assert len(on) > 1000
    assert len(off) > 1000
    right = torch.cat([on > 0.3, off < 0.3]).float().mean()
    assert right > 0.97


def test_present_objects_are_those_that_are_seen(scenes: Scenes) -> None:
    area = scenes.coverage.mean((2, 3))
    assert (area[scenes.present] > MIN_COVERAGE * 0.99).all()
    assert (area[~scenes.present] < MIN_COVERAGE * 1.01).all()
    assert scenes.present.any(1).float().mean() > 0.8


def test_slots_of_a_pair_show_the_same_object(scenes: Scenes) -> None:
    """Object k has one colour in both photos, whatever the light."""
    compared = 0
    cells = functional.avg_pool2d(scenes.images, 4)
    for pair in range(PAIRS):
        for slot in range(OBJECTS):
            shades = []
            for photo in (2 * pair, 2 * pair + 1):
                solid = scenes.coverage[photo, slot] > 0.99
                if solid.sum() >= 12:
                    shades.append(cells[photo][:, solid].mean(1))
            if len(shades) == 2 and all(is_one_colour(shade) for shade in shades):
                compared += 1
                assert int(shades[0].argmax()) == int(shades[1].argmax())
    assert compared > PAIRS / 2


def is_one_colour(shade: Tensor) -> bool:
    """False for the person, whose garments have different colours."""
    low, high = shade.sort().values[-2:].tolist()
    return high > 1.5 * low


def test_views_of_a_pair_differ(scenes: Scenes) -> None:
    one, other = scenes.images[0::2], scenes.images[1::2]
    assert ((one - other).abs().mean((1, 2, 3)) > 2).all()


@pytest.mark.parametrize("share", SHARES.values(), ids=SHARES)
def test_chance_follows_the_seed(bank: Bank, share: float) -> None:
    first, again, other = (
        compose(bank, 2, 64, torch.Generator().manual_seed(seed), share) for seed in (5, 5, 6)
    )
    for field in fields(Scenes):
        assert torch.equal(getattr(first, field.name), getattr(again, field.name)), field.name
    assert not torch.equal(first.images, other.images)


def test_photo_share_is_the_share_of_photos(
    plain_bank: Bank, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With grey cut-outs, only pairs of annotated photos have colour."""
    for name in ("BLOCKS_SHARE", "PATCHED_SHARE"):
        monkeypatch.setattr(f"training.compose.{name}", 0.0)
    cutouts = plain_bank.cutouts.clone()
    cutouts[:, :3] = 120
    grey = replace(plain_bank, cutouts=cutouts)
    scenes = compose(grey, 60, 64, torch.Generator().manual_seed(2), photo_share=0.25)
    coloured = (saturation(scenes.images) > 0.4).flatten(1).float().mean(1) > 0.02
    photos = coloured.reshape(60, 2).any(1).float().mean()
    assert 0.1 < photos < 0.4


@pytest.mark.parametrize("strength", [0.0, 1.0])
def test_relight_keeps_the_range_and_does_nothing_at_zero(strength: float) -> None:
    images = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 255
    lit = relight(images, torch.Generator().manual_seed(1), strength)
    assert lit.min() >= 0
    assert lit.max() <= 255
    changed = (lit - images).abs().mean((1, 2, 3))
    assert (changed > 5).all() if strength else (changed < 1e-3).all()


def test_relight_stays_inside_the_object() -> None:
    alpha = torch.zeros(3, 1, 32, 32)
    alpha[:, :, 8:20, 8:20] = 0.5
    colours = torch.full((3, 3, 32, 32), 100.0) * alpha
    lit = relight(colours, torch.Generator().manual_seed(1), 1.0, alpha)
    assert (lit[alpha.expand_as(lit) == 0] == 0).all()
    assert (lit <= 255 * alpha).all()


def test_degrade_changes_some_photos_and_keeps_their_content() -> None:
    ramp = torch.linspace(40, 220, 64).expand(16, 3, 64, 64).contiguous()
    worse = degrade(ramp, torch.Generator().manual_seed(0))
    assert worse.shape == ramp.shape
    assert worse.min() >= 0
    assert worse.max() <= 255
    # Still a ramp: the right side is lighter than the left one in every photo.
    assert (worse[..., 48:].mean((1, 2, 3)) > worse[..., :16].mean((1, 2, 3)) + 20).all()
