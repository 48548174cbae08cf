from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from fiftyone_persam.curation.handover.export import FORMATS, coco_annotation, export_masks
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.curation.review.editing import make_editable
from fiftyone_persam.datasets import PerSegDataset
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, disc, ids_of, reviewed_run


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    album = reviewed_run(dataset, tmp_path / "album")
    album.set_values("object", ["cup", "cup", "cup", "cat", "cat", "cat", "cat"])
    set_review(album, RUN, "accepted", ids_of(album, "sure", "good", "low_presence"))
    return album


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


def test_photos_of_one_name_from_two_folders_stay_apart(album, tmp_path):
    (tmp_path / "other").mkdir()
    sample = album[ids_of(album, "good")[0]]
    Image.open(sample.filepath).save(tmp_path / "other" / "sure.png")
    sample.filepath = str(tmp_path / "other" / "sure.png")
    sample.save()
    export_masks(album, RUN, tmp_path / "out", format="coco")
    content = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert len({i["file_name"] for i in content["images"]}) == 3


def test_an_earlier_export_is_replaced_and_nothing_else(album, tmp_path):
    export_masks(album, RUN, tmp_path / "out", format="masks")
    with pytest.raises(PersamError, match="not empty"):
        export_masks(album, RUN, tmp_path / "out", format="masks")
    export_masks(album, RUN, tmp_path / "out", format="coco", overwrite=True)
    assert not (tmp_path / "out" / "labels").exists()

    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "novel.txt").write_text("chapter one")
    with pytest.raises(PersamError, match="earlier export"):
        export_masks(album, RUN, tmp_path / "precious", overwrite=True)
    assert (tmp_path / "precious" / "novel.txt").read_text() == "chapter one"


@pytest.mark.parametrize("format", list(FORMATS))
def test_files_that_somebody_added_stay(album, tmp_path, format):
    out = tmp_path / "out"
    export_masks(album, RUN, out, format="masks")
    (out / "my_notes.txt").write_text("mine")
    (out / "labels" / "more.txt").write_text("mine too")
    assert export_masks(album, RUN, out, format=format, overwrite=True) == 3
    assert (out / "my_notes.txt").read_text() == "mine"
    assert (out / "labels" / "more.txt").read_text() == "mine too"
    left = [p.name for p in (out / "labels").iterdir()]
    assert sorted(left) == sorted(
        ["more.txt"] + (["good.png", "low_presence.png", "sure.png"] if format == "masks" else [])
    )
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_file_that_somebody_added_is_not_overwritten(album, tmp_path):
    out = tmp_path / "out"
    export_masks(album, RUN, out, format="masks")
    (out / "labels.json").write_text("mine")
    before = sorted(out.rglob("*"))
    with pytest.raises(PersamError, match="not of the earlier export"):
        export_masks(album, RUN, out, format="coco", overwrite=True)
    assert (out / "labels.json").read_text() == "mine"
    assert sorted(out.rglob("*")) == before


def test_a_marker_that_points_elsewhere_removes_nothing(album, tmp_path):
    out = tmp_path / "out"
    export_masks(album, RUN, out, format="masks")
    (tmp_path / "novel.txt").write_text("chapter one")
    marker = out / ".fiftyone-persam-export"
    files = json.loads(marker.read_text())["files"]
    marker.write_text(
        json.dumps({"files": [*files, 7, "../novel.txt", str(tmp_path / "novel.txt")]})
    )
    export_masks(album, RUN, out, format="masks", overwrite=True)
    assert (tmp_path / "novel.txt").read_text() == "chapter one"


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_photo_that_is_gone_is_left_out(album, tmp_path, format):
    Path(album[ids_of(album, "good")[0]].filepath).unlink()
    exported = export_masks(album, RUN, tmp_path / "out", format=format)
    assert exported == 2
    (reason,) = exported.left_out
    assert "good.png" in reason
    photos = [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".png", ".jpg")]
    assert photos and not [p for p in photos if p.stem == "good"]


@pytest.mark.parametrize("format", list(FORMATS))
def test_an_export_that_fails_leaves_everything_as_it_was(album, tmp_path, format):
    out = tmp_path / "out"
    sample = album[ids_of(album, "good")[0]]
    Path(sample[RUN].mask_path).unlink()
    with pytest.raises(PersamError, match=r"cannot (be )?read") as raised:
        export_masks(album, RUN, out / "new", format=format)
    assert "\n" not in str(raised.value)
    assert not out.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["album"]


def test_no_photo_is_left(album, tmp_path):
    for sample in album:
        Path(sample.filepath).unlink()
    with pytest.raises(PersamError, match="no photo can be exported"):
        export_masks(album, RUN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("run", "options", "names"),
    [
        ("other", {}, "'other'"),
        (RUN, {"format": "yolo"}, "'yolo'"),
        (RUN, {"group_by": "nothing"}, "'nothing'"),
        (RUN, {"states": ["rejected"]}, "rejected"),
        (RUN, {"states": ["best"]}, "'best'"),
    ],
)
def test_bad_calls_make_no_folder(album, tmp_path, run, options, names):
    with pytest.raises(PersamError, match=names):
        export_masks(album, run, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_every_format_is_described():
    assert all(FORMATS.values())


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
