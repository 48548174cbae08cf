"""Pack a folder, decode the archive, and find the same photos, objects and cut-outs."""

from __future__ import annotations

import io
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from training.bank import (
    BACKGROUND_SHARES,
    BUILDING_BOOST,
    OBJECT_SHARES,
    SOURCE_WEIGHTS,
    Bank,
    load_bank,
)
from training.pack import CUTOUT_SIDE, PHOTO_SIDE, pack

from .tiny_data import BACKGROUNDS, CUTOUTS, GARMENTS, PHOTOS, TWO_THINGS, Ellipse, painted


def test_archive_holds_the_annotated_photos(archive: Path) -> None:
    expected = {f"{entry}{end}" for entry in PHOTOS for end in (".webp", ".png")}
    expected |= {f"backgrounds/{name}.webp" for name in BACKGROUNDS}
    expected |= {f"{entry}.webp" for entry in CUTOUTS}
    with zipfile.ZipFile(archive) as file:
        assert set(file.namelist()) == expected
        for entry, (name, objects) in PHOTOS.items():
            photo, ids = painted(name, objects)
            packed = Image.open(io.BytesIO(file.read(f"{entry}.webp")))
            mask = Image.open(io.BytesIO(file.read(f"{entry}.png")))
            scale = PHOTO_SIDE / max(photo.shape[:2])
            size = tuple(round(min(1, scale) * side) for side in photo.shape[:2])
            assert packed.size == mask.size == size[::-1]
            assert set(np.unique(mask)) == set(np.unique(ids))
    assert list(archive.parent.iterdir()) == [archive]


def test_lower_quality_is_smaller(data_folder: Path, archive: Path, tmp_path: Path) -> None:
    assert pack(data_folder, tmp_path / "low.zip", quality=10) < archive.stat().st_size


def test_missing_folders_are_named(data_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(data_folder / "coco_small", tmp_path / "coco_small")
    with pytest.raises(SystemExit, match=r"lacks clothing_coparsing, feral_cats, .*backgrounds"):
        pack(tmp_path, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_photos_come_back(bank: Bank) -> None:
    assert len(bank.photos) == len(PHOTOS) + len(BACKGROUNDS)
    for index, (name, objects) in enumerate(in_bank_order()):
        photo, _ = painted(name, objects)
        height, width = (int(side) for side in bank.sizes[index])
        small = Image.fromarray(photo).resize((width, height), Image.Resampling.LANCZOS)
        stored = bank.photos[index, :, :height, :width].permute(1, 2, 0).float()
        assert (stored - torch.tensor(np.asarray(small)).float()).abs().mean() < 6
        assert (bank.photos[index, :, height:] == 0).all()
        assert (bank.photos[index, :, :, width:] == 0).all()


def test_objects_come_back(bank: Bank) -> None:
    """Every ellipse is one object of its photo; the speck among the cats is none."""
    for index, (name, objects) in enumerate(in_bank_order()):
        size = tuple(int(side) for side in bank.sizes[index])
        found = object_masks(bank, index)
        expected = [item.mask((size[0], size[1])) for item in objects if item.height > 0.05]
        if objects is GARMENTS:  # all of them together are the person, listed twice
            person = np.logical_or.reduce(expected)
            expected = [person, person, *expected]
        assert len(found) == len(expected), name
        for mask, truth in zip(found, expected, strict=True):
            assert not mask[size[0] :].any()
            mask = mask[: size[0], : size[1]]
            assert (mask & truth).sum() / (mask | truth).sum() > 0.98


def test_drawing_shares(bank: Bank) -> None:
    """Each folder of photos is drawn as often as stated, however many photos it has."""
    folders = [entry.split("/")[0] for entry in sorted_entries()]
    for weights, shares, owners in (
        (bank.object_weights, OBJECT_SHARES, [folders[i] for i in bank.object_photo.tolist()]),
        (bank.photo_weights, BACKGROUND_SHARES, folders),
    ):
        for folder, share in shares.items():
            total = sum(weights[i] for i, owner in enumerate(owners) if owner == folder)
            assert float(total) == pytest.approx(share), folder


def test_cutouts_come_back(bank: Bank) -> None:
    listed = sorted(CUTOUTS)
    photographed = len(bank.cutouts) - len(listed)
    # Two objects on each of two photos, two cats, and the person; no garment alone.
    assert photographed == 2 * len(TWO_THINGS) + 2 + 2
    for rgba in bank.cutouts:
        alpha = rgba[3] > 128
        rows, columns = alpha.any(1).nonzero(), alpha.any(0).nonzero()
        middle = torch.stack([rows[0] + rows[-1], columns[0] + columns[-1]]).float() / 2
        assert (middle - CUTOUT_SIDE / 2).abs().max() <= 2
        long_side = max(len(rows), len(columns))
        assert abs(long_side - CUTOUT_SIDE) < 0.05 * CUTOUT_SIDE
    names = [entry.split("/")[1] for entry in listed]
    tigers = [photographed + names.index(f"trellismv__tiger_{view}") for view in (1, 2)]
    for index, views in enumerate(bank.cutout_views):
        assert views == (tigers if index in tigers else [index])
    groups = [list(SOURCE_WEIGHTS).index(entry.split("/")[0]) for entry in listed]
    assert bank.cutout_groups.tolist() == [0] * photographed + groups


def test_cutouts_are_drawn_by_source_and_buildings_more_often(bank: Bank) -> None:
    for index, share in enumerate(SOURCE_WEIGHTS.values()):
        assert float(bank.cutout_weights[bank.cutout_groups == index].sum()) == pytest.approx(share)
    castle, smile = bank.cutout_weights[bank.cutout_groups == 2].tolist()
    assert castle / smile == pytest.approx(BUILDING_BOOST)


def test_limit_keeps_a_few_of_each_folder(archive: Path) -> None:
    few = load_bank(archive, limit=1)
    assert len(few.photos) == 4
    assert (few.cutout_groups > 0).sum() == 3


def sorted_entries() -> list[str]:
    """The bank's photos in its order: folder by folder, each sorted by name."""
    folders = ("coco_small", "clothing_coparsing", "feral_cats")
    entries = [entry for folder in folders for entry in sorted(PHOTOS) if entry.startswith(folder)]
    return entries + [f"backgrounds/{name}" for name in sorted(BACKGROUNDS)]


def in_bank_order() -> list[tuple[str, tuple[Ellipse, ...]]]:
    return [PHOTOS.get(entry, (entry.split("/")[1], ())) for entry in sorted_entries()]


def object_masks(bank: Bank, photo: int) -> list[np.ndarray]:
    """The (512, 512) bool masks of one photo's objects."""
    first, last = bank.first_object[photo : photo + 2].tolist()
    assert (bank.object_photo[first:last] == photo).all()
    ids = bank.ids[photo].long()
    return [bank.object_ids[index][ids].numpy() for index in range(first, last)]
