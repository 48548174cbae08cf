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


# Upright copies -----------------------------------------------------------------------------------

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


# Names, views, processes --------------------------------------------------------------------------


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


def test_the_order_is_the_view_s(album, tmp_path):
    export_masks(album.sort_by("photo"), RUN, tmp_path / "out", format="coco")
    images = json.loads((tmp_path / "out" / "labels.json").read_text())["images"]
    assert [image["file_name"] for image in images] == ["good.png", "low_presence.png", "sure.png"]


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


# What goes wrong ----------------------------------------------------------------------------------


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


@pytest.fixture
def small_disk(tmp_path) -> Any:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only the superuser may mount a small disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


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
