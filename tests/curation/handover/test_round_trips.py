"""Export, import, review, export again into the same folder: the user's photos stay as they are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_persam.curation.handover.export import export_masks
from fiftyone_persam.curation.handover.importing import import_perseg
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.errors import PersamError

from ..discs import files_of
from ..reviewed_run import PHOTOS, RUN, add_run, ids_of, reviewed_run

AGAIN = "again"
CHOSEN = ("sure", "good", "low_presence", "low_score")


def of_type(kind: Any, **options: Any) -> Callable[[Path], fo.Dataset]:
    return lambda folder: fo.Dataset.from_dir(
        dataset_dir=str(folder), dataset_type=kind, progress=False, **options
    )


LOAD: dict[str, Callable[[Path], fo.Dataset]] = {
    "perseg": lambda folder: import_perseg(folder, "back", persistent=False, progress=False),
    "coco": of_type(fo.types.COCODetectionDataset, label_types="segmentations"),
    "masks": of_type(fo.types.ImageSegmentationDirectory),
    "fiftyone": of_type(fo.types.FiftyOneDataset),
}


def exported(make: Any, folder: Path, format: str) -> fo.Dataset:
    """An album that the product exported, imported and segmented."""
    album = reviewed_run(make, folder / "album")
    for index, sample in enumerate(album):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 60, 3), np.uint8)
        Image.fromarray(pixels).save(sample.filepath)
    set_review(album, RUN, "accepted", ids_of(album, *CHOSEN))
    assert export_masks(album, RUN, folder / "out", format=format) == 4
    back = make(LOAD[format](folder / "out"))
    names = [name for name in PHOTOS if name in CHOSEN]
    if format == "perseg":
        back.set_values("photo", names)
    else:
        back.set_values("photo", [Path(path).stem for path in back.values("filepath")])
    add_run(back, folder / "again", AGAIN, shift=-4)
    set_review(back, AGAIN, "accepted")
    return back


def photos_of(dataset: fo.Dataset) -> dict[str, bytes]:
    return {path: Path(path).read_bytes() for path in dataset.values("filepath")}


@pytest.mark.parametrize("format", LOAD)
def test_all_photos_again(dataset, tmp_path, format):
    back = exported(dataset, tmp_path, format)
    before, out = photos_of(back), tmp_path / "out"
    if format == "masks":  # FiftyOne's importer names the files of masks, and these have changed
        files = files_of(out)
        with pytest.raises(
            PersamError, match=r"out/data/.*png is a file of a dataset, which stays"
        ):
            export_masks(back, AGAIN, out, format=format, overwrite=True)
        assert files_of(out) == files
        back.delete_sample_field("ground_truth")
    names = []
    for _ in range(2):
        assert export_masks(back, AGAIN, out, format=format, overwrite=True) == 4
        assert photos_of(back) == before
        names.append(set(files_of(out)))
    assert names[0] == names[1]
    if format == "perseg":
        again = dataset(import_perseg(out, "once-more", persistent=False, progress=False))
    else:
        again = dataset(LOAD[format](out))
    assert photos_of(again) == before
    if format in ("perseg", "masks"):
        for sample in again:
            (mine,) = back.match({"filepath": sample.filepath})
            mask = sample.ground_truth.get_mask() > 0
            assert np.array_equal(mask, mine[AGAIN].get_mask() > 0)


@pytest.mark.parametrize("format", LOAD)
def test_some_photos_again(dataset, tmp_path, format):
    back = exported(dataset, tmp_path, format)
    before, files = photos_of(back), files_of(tmp_path / "out")
    (left, *rest) = ids_of(back, "good", "sure", "low_presence", "low_score")
    set_review(back, AGAIN, "rejected", [left])
    if format in ("perseg", "masks"):  # what stays would be a part of the album
        with pytest.raises(PersamError, match=r"is a (photo|file) of a dataset.*another folder"):
            export_masks(back, AGAIN, tmp_path / "out", format=format, overwrite=True)
        assert files_of(tmp_path / "out") == files
    else:
        assert export_masks(back, AGAIN, tmp_path / "out", format=format, overwrite=True) == 3
    assert photos_of(back) == before
    # Once nobody names them any more, they are an earlier export's like all others.
    view = back.select(rest)
    assert export_masks(view, AGAIN, tmp_path / "new", format=format) == 3
    back.delete()
    other = reviewed_run(dataset, tmp_path / "other")
    set_review(other, RUN, "accepted", ids_of(other, "absent"))
    assert export_masks(other, RUN, tmp_path / "out", format=format, overwrite=True) == 1
    left_over = [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".jpg", ".png")]
    assert all("good" not in p.name for p in left_over)


@pytest.mark.parametrize("format", ["coco", "fiftyone"])
def test_photos_of_one_name_do_not_take_each_other_s_place(dataset, tmp_path, format):
    back = exported(dataset, tmp_path, format)
    before = photos_of(back)
    other = reviewed_run(dataset, tmp_path / "other")  # of the same names, and other content
    set_review(other, RUN, "accepted", ids_of(other, "sure", "good"))
    assert export_masks(other, RUN, tmp_path / "out", format=format, overwrite=True) == 2
    assert photos_of(back) == before
    new = {p.name for p in (tmp_path / "out" / "data").iterdir()}
    assert {"sure.png", "sure-2.png", "good-2.png"} <= new
    again = dataset(LOAD[format](tmp_path / "out"))
    if format == "fiftyone":
        stored = {Path(p).name: Path(p).read_bytes() for p in again.values("filepath")}
        assert set(stored) == {"sure-2.png", "good-2.png"}
        for sample in other.select(ids_of(other, "sure", "good")):
            assert stored[f"{sample.photo}-2.png"] == Path(sample.filepath).read_bytes()
            (copy,) = again.match({"photo": sample.photo})
            assert np.array_equal(copy[RUN].get_mask(), sample[RUN].get_mask())


@pytest.mark.parametrize("spelling", ["link", "case", "clone"])
def test_however_a_dataset_names_the_photos(dataset, tmp_path, spelling):
    album = reviewed_run(dataset, tmp_path / "album")
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good"))
    out = tmp_path / "out"
    export_masks(album, RUN, out, format="coco")
    before = {p.name: p.read_bytes() for p in (out / "data").iterdir()}
    folder = out / "data"
    if spelling == "link":
        folder = tmp_path / "link"
        folder.symlink_to(out / "data", target_is_directory=True)
    owner = dataset([fo.Sample(str(folder / name)) for name in before])
    if spelling == "clone":
        clone = dataset(owner.clone())
        owner.delete()
        assert len(clone) == 2
    elif spelling == "case":  # as a file system that ignores case may be asked for it
        owner.set_values("filepath", [p.replace("sure", "SURE") for p in owner.values("filepath")])
        (out / "data" / "SURE.png").hardlink_to(out / "data" / "sure.png")
    set_review(album, RUN, "accepted", ids_of(album, "low_score"))
    set_review(album, RUN, "rejected", ids_of(album, "sure", "good"))
    assert export_masks(album, RUN, out, format="coco", overwrite=True) == 1
    after = {p.name: p.read_bytes() for p in (out / "data").iterdir()}
    assert {name: after[name] for name in before} == before
