"""The folder of an export: what stays in it, what is replaced, what failures leave."""

from __future__ import annotations

import json
from pathlib import Path

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_persam.curation.handover.export import FORMATS, export_masks
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, ids_of
from .training_sets import accepted_album


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    return accepted_album(dataset, tmp_path / "album", "sure", "good", "low_presence")


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


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_photo_that_is_gone_is_left_out(album, tmp_path, format):
    Path(album[ids_of(album, "good")[0]].filepath).unlink()
    exported = export_masks(album, RUN, tmp_path / "out", format=format)
    assert exported == 2
    (reason,) = exported.left_out
    assert "good.png" in reason
    photos = [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".png", ".jpg")]
    assert photos and not [p for p in photos if p.stem == "good"]


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


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_photo_that_no_jpeg_can_hold_is_left_out(album, tmp_path, format):
    sample = album[ids_of(album, "sure")[0]]
    Image.new("RGB", (100_000, 4)).save(sample.filepath)
    sample[RUN] = fo.Segmentation(mask=np.full((4, 100_000), 255, np.uint8))
    sample.save()
    exported = export_masks(album, RUN, tmp_path / "out", format=format)
    if format == "perseg":
        assert exported == 2
        (reason,) = exported.left_out
        assert "sure.png is 100000 x 4 pixels, and a JPEG holds 65500" in reason
    else:
        assert (exported, exported.left_out) == (3, [])


@pytest.mark.parametrize("format", list(FORMATS))
def test_masks_that_are_gone_are_named(album, tmp_path, format):
    for photo in ("sure", "good"):
        Path(album[ids_of(album, photo)[0]][RUN].mask_path).unlink()
    with pytest.raises(PersamError, match=r"2 mask files of run 'mine' are gone .*resume_run"):
        export_masks(album, RUN, tmp_path / "out", format=format)
    Path(album[ids_of(album, "low_presence")[0]][RUN].mask_path).parent.rename(tmp_path / "moved")
    with pytest.raises(PersamError, match=r"3 mask files") as raised:
        export_masks(album, RUN, tmp_path / "out", format=format)
    assert "\n" not in str(raised.value) and not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", list(FORMATS))
def test_a_full_disk_is_not_the_photo_s_fault(album, small_disk, format):
    for sample in album:
        noise = np.random.default_rng(0).integers(0, 256, (160, 240, 3), np.uint8)
        Image.fromarray(noise).save(sample.filepath)
        sample[RUN] = fo.Segmentation(mask=np.full((160, 240), 255, np.uint8))
        sample.save()
    with pytest.raises(PersamError, match=r"disk/out cannot be written .*No space left") as raised:
        export_masks(album, RUN, small_disk / "out", format=format)
    assert not any(name in str(raised.value) for name in ("sure", "good", "photos"))
    assert list(small_disk.iterdir()) == []


@pytest.mark.parametrize("spelling", ["relative", "home", "absolute"])
def test_the_folder_may_be_given_in_any_spelling(album, tmp_path, monkeypatch, spelling):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    given = {"relative": "some/out", "home": "~/some/out", "absolute": tmp_path / "some" / "out"}
    export_masks(album, RUN, given[spelling], format="coco")
    assert (tmp_path / "some" / "out" / "labels.json").is_file()
    assert export_masks(album, RUN, given[spelling], format="coco", overwrite=True) == 3
