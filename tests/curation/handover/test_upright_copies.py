"""Photos that EXIF turns, exported upright, with masks that fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_persam.curation.handover.export import FORMATS, export_masks

from ..reviewed_run import RUN, ids_of
from .training_sets import accepted_album


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return accepted_album(dataset, tmp_path / "album", "sure", "good", "low_presence")


# What EXIF's orientations say to do with the stored pixels, in plain numpy.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, -1)[:, ::-1],
    8: lambda a: np.rot90(a),
}


def store_turned(album: fo.Dataset, photo: str, orientation: int, suffix: str) -> np.ndarray:
    """Give a photo of the dataset an EXIF orientation; what it shows, (40, 60, 3)."""
    rows, columns = np.mgrid[:40, :60]
    shown = np.stack([rows * 6, columns * 4, (rows + columns) * 2], axis=2).astype(np.uint8)
    (stored,) = [
        a
        for a in (f(shown) for f in TURNS.values())
        if np.array_equal(TURNS[orientation](a), shown)
    ][:1]
    sample = album[ids_of(album, photo)[0]]
    exif = Image.Exif()
    exif[274] = orientation
    path = Path(sample.filepath).with_suffix(suffix)
    options = {"quality": 98, "subsampling": 0} if suffix == ".jpg" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(path, exif=exif, **options)
    sample.filepath = str(path)
    sample.save()
    return shown


def exported_photo(folder: Path, photo: str) -> Path:
    found = [p for p in folder.rglob("*") if p.stem == photo and p.parent.name == "data"]
    return found[0] if found else folder / "Images" / "cup" / "00.jpg"


@pytest.mark.parametrize(
    ("orientation", "suffix"), [(1, ".jpg"), (3, ".jpg"), (6, ".jpg"), (5, ".png"), (8, ".png")]
)
@pytest.mark.parametrize("format", list(FORMATS))
def test_copies_are_upright_for_readers_that_ignore_exif(
    album, tmp_path, format, orientation, suffix
):
    shown = store_turned(album, "sure", orientation, suffix)
    album.compute_metadata(overwrite=True)
    source = Path(album[ids_of(album, "sure")[0]].filepath)
    before = source.read_bytes()
    view = album.select(ids_of(album, "sure"))
    assert export_masks(view, RUN, tmp_path / "out", format=format, group_by="object") == 1
    copy = exported_photo(tmp_path / "out", "sure")
    with Image.open(copy) as image:
        assert image.getexif().get(274, 1) == 1
        pixels = np.asarray(image.convert("RGB"), int)
    assert pixels.shape == shown.shape
    assert np.abs(pixels - shown).mean() < (4 if copy.suffix == ".jpg" else 0.01)
    if orientation == 1 and (format != "perseg" or suffix == ".jpg"):
        assert copy.read_bytes() == before
    assert source.read_bytes() == before
    if format == "coco":
        (image,) = json.loads((tmp_path / "out" / "labels.json").read_text())["images"]
        assert (image["height"], image["width"]) == shown.shape[:2]
    if format == "fiftyone":
        (sample,) = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"]
        metadata = sample["metadata"]
        assert (metadata["height"], metadata["width"]) == shown.shape[:2]
        assert metadata["size_bytes"] == copy.stat().st_size
