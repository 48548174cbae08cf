"""Masks of a run exported: what the files hold, in every format, and of which photos."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from fiftyone_persam.curation.handover.export import FORMATS, coco_annotation, export_masks
from fiftyone_persam.curation.review.editing import make_editable
from fiftyone_persam.datasets import PerSegDataset

from ..reviewed_run import RUN, disc, ids_of
from .training_sets import accepted_album


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return accepted_album(dataset, tmp_path / "album", "sure", "good", "low_presence")


def test_coco_masks_are_exact_when_pycocotools_reads_them(album, tmp_path):
    assert export_masks(album, RUN, tmp_path / "out", format="coco", group_by="object") == 3
    coco = COCO(str(tmp_path / "out" / "labels.json"))
    assert {c["name"] for c in coco.cats.values()} == {"cup", "cat"}
    for image in coco.imgs.values():
        (annotation,) = coco.loadAnns(coco.getAnnIds(imgIds=image["id"]))
        photo = image["file_name"].removesuffix(".png")
        sample = album.match(fo.ViewField("photo") == photo).first()
        assert np.array_equal(coco.annToMask(annotation) > 0, sample[RUN].get_mask() > 0)
        assert annotation["area"] == (sample[RUN].get_mask() > 0).sum()
        assert annotation["score"] == pytest.approx(sample["mine_score"])
        assert Image.open(tmp_path / "out" / "data" / image["file_name"]).size == (60, 40)


def test_coco_box_is_the_mask_s_bounds():
    mask = np.zeros((40, 60), bool)
    mask[10:15, 20:40] = True
    assert coco_annotation(mask, 1, 1, 1)["bbox"] == [20, 10, 20, 5]


def test_perseg_folders_load_again(album, tmp_path, dataset):
    export_masks(album, RUN, tmp_path / "out", format="perseg", group_by="object")
    again = dataset(
        fo.Dataset.from_dir(dataset_dir=str(tmp_path / "out"), dataset_type=PerSegDataset)
    )
    assert sorted(again.values("object")) == ["cat", "cup", "cup"]
    areas = sorted(int((s["ground_truth"].get_mask() > 0).sum()) for s in again)
    assert areas == sorted([int(disc(22, 20).sum())] * 3)


def test_mask_folders(album, tmp_path):
    export_masks(album, RUN, tmp_path / "out", format="masks")
    masks = sorted(p.stem for p in (tmp_path / "out" / "labels").iterdir())
    assert masks == ["good", "low_presence", "sure"]
    mask = np.asarray(Image.open(tmp_path / "out" / "labels" / "sure.png"))
    assert set(np.unique(mask)) == {0, 255} and np.array_equal(mask > 0, disc(22, 20))


def test_fiftyone_s_own_type_loads_again(album, tmp_path, dataset):
    export_masks(album, RUN, tmp_path / "out", format="fiftyone")
    again = dataset(
        fo.Dataset.from_dir(
            dataset_dir=str(tmp_path / "out"), dataset_type=fo.types.FiftyOneDataset
        )
    )
    assert len(again) == 3
    assert all(s[RUN].get_mask().any() for s in again)


@pytest.mark.parametrize("format", ["perseg", "coco", "masks"])
def test_corrections_by_hand_are_exported(album, tmp_path, format):
    before = fo.list_datasets()
    field = make_editable(album, RUN, ids_of(album, "sure"))
    corrected = disc(45, 12, 6)
    (sure,) = ids_of(album, "sure")
    sample = album[sure]
    sample[field] = fo.Detections(detections=[fo.Detection.from_mask(corrected, label="cup")])
    sample.save()
    out = tmp_path / "out"
    assert export_masks(album, RUN, out, format=format, group_by="object") == 3
    if format == "coco":
        coco = COCO(str(out / "labels.json"))
        masks = [coco.annToMask(a) > 0 for a in coco.anns.values()]
    else:
        masks = [np.asarray(Image.open(p).convert("L")) > 0 for p in out.rglob("*.png")]
        masks = [mask for mask in masks if mask.shape == corrected.shape]
    assert sum(np.array_equal(mask, corrected) for mask in masks) == 1
    assert fo.list_datasets() == before  # nothing that helped is left


def test_every_format_is_described():
    assert all(FORMATS.values())


@pytest.mark.parametrize("format", list(FORMATS))
def test_names_that_differ_only_by_case(album, tmp_path, dataset, format):
    names = ["IMG.png", "img.png", "IMG.PNG"]
    for photo, folder, name in zip(["sure", "good", "low_presence"], "abc", names, strict=True):
        sample = album[ids_of(album, photo)[0]]
        (tmp_path / folder).mkdir()
        Path(sample.filepath).rename(tmp_path / folder / name)
        sample.filepath = str(tmp_path / folder / name)
        sample.save()
    contents = {(tmp_path / f / n).read_bytes() for f, n in zip("abc", names, strict=True)}
    out = tmp_path / "out"
    assert export_masks(album, RUN, out, format=format) == 3
    files = [p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()]
    assert len({name.casefold() for name in files}) == len(files)
    if format == "fiftyone":
        again = dataset(
            fo.Dataset.from_dir(dataset_dir=str(out), dataset_type=fo.types.FiftyOneDataset)
        )
        assert {Path(p).read_bytes() for p in again.values("filepath")} == contents
        assert all(sample[RUN].get_mask().any() for sample in again)
    elif format != "perseg":
        assert {p.read_bytes() for p in (out / "data").iterdir()} == contents


def test_the_order_is_the_view_s(album, tmp_path):
    export_masks(album.sort_by("photo"), RUN, tmp_path / "out", format="coco")
    images = json.loads((tmp_path / "out" / "labels.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["good.png", "low_presence.png", "sure.png"]


VIEWS: dict[str, tuple[Callable[[fo.Dataset], Any], int]] = {
    "one photo": (lambda a: a.select(ids_of(a, "good")), 1),
    "few fields": (lambda a: a.select_fields("tags"), 3),
    "without the run": (lambda a: a.exclude_fields([RUN, f"{RUN}_score", "object"]), 3),
    "grouped by a field": (lambda a: a.group_by("object"), 3),
}


@pytest.mark.parametrize("format", list(FORMATS))
@pytest.mark.parametrize("view", VIEWS)
def test_of_a_view_its_photos_are_exported(album, tmp_path, view, format):
    make, count = VIEWS[view]
    out = tmp_path / "out"
    assert export_masks(make(album), RUN, out, format=format, group_by="object") == count
    if format == "coco":
        assert len(COCO(str(out / "labels.json")).imgs) == count
    elif format == "perseg":
        assert {p.name for p in (out / "Images").iterdir()} <= {"cup", "cat"}


RUN_OF_ANOTHER = """
import sys
import fiftyone as fo
dataset = fo.load_dataset(sys.argv[1])
dataset.add_sample_field("other_score", fo.FloatField)
dataset.register_run("other", dataset.init_run(method="other"))
"""


def test_another_process_has_added_a_run(album, tmp_path):
    album.persistent = True
    list(album.view())
    done = subprocess.run([sys.executable, "-c", RUN_OF_ANOTHER, album.name], capture_output=True)
    assert done.returncode == 0, done.stderr
    for format in FORMATS:
        assert export_masks(album, RUN, tmp_path / format, format=format) == 3
