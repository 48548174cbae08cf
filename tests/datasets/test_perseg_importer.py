from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.curation import import_perseg
from fiftyone_persam.datasets import PerSegDataset, PerSegImporter
from tests.datasets.albums import disk, make_album, photo_array, save_mask, save_photo

Make = Callable[..., fo.Dataset]


def load(make: Make, folder: Path, **options: Any) -> fo.Dataset:
    return make(fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=PerSegDataset, **options))


def mask_of(sample: fo.Sample, field: str = "ground_truth") -> np.ndarray:
    return np.asarray(sample[field].get_mask())


def test_fields_masks_and_targets(tmp_path: Path, dataset: Make) -> None:
    root = make_album(tmp_path / "album", {"cat": 3, "dog": 2})
    loaded = load(dataset, root)
    rows = [(s.object, s.role, Path(s.filepath).name) for s in loaded]
    assert rows == [
        ("cat", "reference", "00.jpg"),
        ("cat", "target", "01.jpg"),
        ("cat", "target", "02.jpg"),
        ("dog", "reference", "00.jpg"),
        ("dog", "target", "01.jpg"),
    ]
    assert loaded.mask_targets == {"ground_truth": {255: "object"}}
    assert "skipped" not in loaded.info
    for sample in loaded:
        number = int(Path(sample.filepath).stem)
        mask = mask_of(sample)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, np.where(disk(number), 255, 0))
        assert (sample.metadata.height, sample.metadata.width) == mask.shape


def test_fiftyones_own_evaluation_and_conversion_take_the_masks(
    tmp_path: Path, dataset: Make
) -> None:
    loaded = load(dataset, make_album(tmp_path / "album", {"cat": 2}))
    results = loaded.evaluate_segmentations(
        "ground_truth", gt_field="ground_truth", mask_targets={0: "none", 255: "object"}
    )
    assert results.metrics()["accuracy"] == 1
    detections = loaded.first().ground_truth.to_detections(mask_targets={255: "object"})
    assert [d.label for d in detections.detections] == ["object"]


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(values.astype(np.uint8))


def _palette(mask: np.ndarray) -> Image.Image:
    image = Image.fromarray(mask.astype(np.uint8), mode="P")
    image.putpalette([0, 0, 0, 128, 0, 0] + [0] * 756)
    return image


def _colour(mask: np.ndarray, colour: tuple[int, ...]) -> Image.Image:
    pixels = np.zeros((*mask.shape, len(colour)), np.uint8)
    pixels[mask] = colour
    return Image.fromarray(pixels)


def _feathered(mask: np.ndarray) -> Image.Image:
    values = np.where(mask, 255, 0).astype(np.uint8)
    values[0, :3] = (1, 60, 127)
    return _grey(values)


@pytest.mark.parametrize("masks", ["files", "inline"])
@pytest.mark.parametrize(
    ("draw", "suffix"),
    [
        (lambda m: Image.fromarray(m), ".png"),
        (lambda m: _grey(m), ".png"),
        (lambda m: _grey(m * 255), ".png"),
        (lambda m: _grey(m * 128), ".png"),
        (lambda m: _grey(np.where(m, np.where(np.arange(m.shape[1]) % 2, 1, 2), 0)), ".png"),
        (_palette, ".png"),
        (lambda m: _colour(m, (128, 0, 0)), ".png"),
        (lambda m: _colour(m, (0, 255, 0)), ".webp"),
        (lambda m: _colour(m, (128, 0, 0, 255)), ".png"),
        (lambda m: Image.fromarray(m.astype(np.uint16) * 65535), ".png"),
        (lambda m: _grey(m * 255), ".tif"),
        (_feathered, ".png"),
    ],
    ids=["1-bit", "0-1", "0-255", "0-128", "ids", "palette", "perseg", "webp", "rgba", "16-bit",
         "tiff", "feathered"],
)  # fmt: skip
def test_every_kind_of_mask(
    tmp_path: Path, dataset: Make, draw: Callable[..., Any], suffix: str, masks: str
) -> None:
    root = make_album(tmp_path / "album", {"cat": 1})
    (root / "Annotations/cat/00.png").unlink()
    options = {"lossless": True} if suffix == ".webp" else {}
    draw(disk(0)).save(root / f"Annotations/cat/00{suffix}", **options)
    loaded = load(dataset, root, masks=masks)
    label = loaded.first().ground_truth
    assert (label.mask_path is None) == (masks == "inline")
    np.testing.assert_array_equal(label.get_mask(), np.where(disk(0), 255, 0))


@pytest.mark.parametrize(
    "suffix", [".jpg", ".JPG", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".avif"]
)
def test_masks_in_files_of_any_format(tmp_path: Path, dataset: Make, suffix: str) -> None:
    root = make_album(tmp_path / "album", {"cat": 2})
    for number in range(2):
        (root / f"Annotations/cat/{number:02d}.png").unlink()
        _grey(disk(number) * 255).save(root / f"Annotations/cat/{number:02d}{suffix}")
    loaded = load(dataset, root)
    assert "skipped" not in loaded.info
    for number, sample in enumerate(loaded):
        mask = mask_of(sample) > 0
        assert (mask & disk(number)).sum() / (mask | disk(number)).sum() > 0.97


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".TIFF", ".gif", ".avif", ".ppm", ".jp2"])
def test_photos_in_files_of_any_format(tmp_path: Path, dataset: Make, suffix: str) -> None:
    root = make_album(tmp_path / "album", {"cat": 2})
    (root / "Images/cat/01.jpg").unlink()
    save_photo(root / f"Images/cat/01{suffix}", photo_array(1))
    loaded = load(dataset, root)
    assert [Path(p).suffix for p in loaded.values("filepath")] == [".jpg", suffix]


@pytest.mark.parametrize("off", [(1, 0), (-2, 1)])
def test_a_mask_a_pixel_or_two_off_is_resized(
    tmp_path: Path, dataset: Make, off: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    root = make_album(tmp_path / "album", {"cat": 1})
    height, width = disk(0).shape
    small = Image.fromarray(disk(0)).resize((width + off[1], height + off[0]), 0)
    save_mask(root / "Annotations/cat/00.png", np.asarray(small))
    mask = mask_of(load(dataset, root).first()) > 0
    assert (mask & disk(0)).sum() / (mask | disk(0)).sum() > 0.9
    assert "resized" in caplog.text and "00.png" in caplog.text


def test_a_mask_that_needs_no_conversion_is_used_where_it_is(tmp_path: Path, dataset: Make) -> None:
    root = make_album(tmp_path / "album", {"cat": 2})
    plain = root / "Annotations/cat/00.png"
    save_mask(plain, disk(0), value=255)
    loaded = load(dataset, root, mask_dir=tmp_path / "masks")
    paths = loaded.values("ground_truth.mask_path")
    assert paths == [str(plain), str(tmp_path / "masks/cat/01.png")]
    assert sorted(p.name for p in (tmp_path / "masks").rglob("*.*")) == ["01.png"]


def test_masks_of_two_albums_and_of_a_second_import_do_not_mix(
    tmp_path: Path, dataset: Make
) -> None:
    first = make_album(tmp_path / "a/album", {"cat": 2})
    second = make_album(tmp_path / "b/album", {"cat": 2}, shift=5)
    one, two, again = (load(dataset, root) for root in (first, second, first))
    assert not set(one.values("ground_truth.mask_path")) & set(two.values("ground_truth.mask_path"))
    assert one.values("ground_truth.mask_path") == again.values("ground_truth.mask_path")
    np.testing.assert_array_equal(mask_of(one.first()), np.where(disk(0), 255, 0))
    np.testing.assert_array_equal(mask_of(two.first()), np.where(disk(5), 255, 0))


def test_any_file_names_in_natural_order(tmp_path: Path, dataset: Make) -> None:
    root = tmp_path / "album"
    names = ["IMG_2.JPG", "IMG_10.jpeg", "a b.png", "ünï.webp", "x.y.jpg"]
    for number, name in enumerate(names):
        save_photo(root / "Images/mug" / name, photo_array(number))
        save_mask(root / "Annotations/mug" / f"{Path(name).stem}.png", disk(number))
    (root / "Images/mug/.DS_Store").write_bytes(b"x")
    (root / "Images/mug/notes.txt").write_text("x")
    (root / "Images/.hidden").mkdir()
    loaded = load(dataset, root)
    got = [(Path(s.filepath).name, s.role) for s in loaded]
    assert got == [
        ("IMG_2.JPG", "reference"),
        ("IMG_10.jpeg", "target"),
        ("a b.png", "target"),
        ("x.y.jpg", "target"),
        ("ünï.webp", "target"),
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"objects": ["dog"]}, ["dog/00*", "dog/01"]),
        ({"objects": ["dog", "cat"], "max_samples": 3}, ["dog/00*", "dog/01", "cat/00*"]),
        ({"max_samples": 1}, ["cat/00*"]),
        ({"reference": "01"}, ["cat/00", "cat/01*", "cat/02", "dog/00", "dog/01*"]),
        ({"reference": "01.jpg", "objects": ["dog"]}, ["dog/00", "dog/01*"]),
        ({"reference": {"cat": "02"}}, ["cat/00", "cat/01", "cat/02*", "dog/00*", "dog/01"]),
    ],
)
def test_options(
    tmp_path: Path, dataset: Make, options: dict[str, Any], expected: list[str]
) -> None:
    loaded = load(dataset, make_album(tmp_path / "album", {"cat": 3, "dog": 2}), **options)
    star = {"reference": "*", "target": ""}
    got = [f"{s.object}/{Path(s.filepath).stem}{star[s.role]}" for s in loaded]
    assert got == expected


def test_shuffle_is_reproducible(tmp_path: Path, dataset: Make) -> None:
    root = make_album(tmp_path / "album", {"cat": 6, "dog": 6})
    options = {"shuffle": True, "seed": 3, "max_samples": 5}
    first, second = (load(dataset, root, **options).values("filepath") for _ in range(2))
    assert first == second
    assert first != sorted(first) and len(first) == 5


def test_another_field_name(tmp_path: Path, dataset: Make) -> None:
    loaded = load(dataset, make_album(tmp_path / "album", {"cat": 1}), gt_field="truth")
    assert loaded.mask_targets == {"truth": {255: "object"}}
    np.testing.assert_array_equal(mask_of(loaded.first(), "truth"), np.where(disk(0), 255, 0))


@pytest.mark.parametrize("drawn_over", ["shown", "stored"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_exif_rotation(tmp_path: Path, dataset: Make, orientation: int, drawn_over: str) -> None:
    """Masks come out as the photo is shown, whichever way they were drawn."""
    if orientation == 3 and drawn_over == "stored":
        drawn_over = "shown"  # 180 degrees: the sizes agree, so only one reading is possible
    root = tmp_path / "album"
    turn = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90,
            8: Image.Transpose.ROTATE_270}[orientation]  # fmt: skip
    stored = Image.fromarray(photo_array(0)).transpose(turn)
    exif = Image.Exif()
    exif[274] = orientation
    save_photo(root / "Images/cat/00.jpg", np.asarray(stored), exif=exif)
    mask = Image.fromarray(disk(0))
    mask = mask.transpose(turn) if drawn_over == "stored" else mask
    save_mask(root / "Annotations/cat/00.png", np.asarray(mask))
    sample = load(dataset, root).first()
    np.testing.assert_array_equal(mask_of(sample), np.where(disk(0), 255, 0))
    assert (sample.metadata.height, sample.metadata.width) == disk(0).shape


def test_a_target_may_have_an_empty_mask(tmp_path: Path, dataset: Make) -> None:
    root = make_album(tmp_path / "album", {"cat": 2})
    save_mask(root / "Annotations/cat/01.png", np.zeros_like(disk(0)))
    assert not mask_of(load(dataset, root).last()).any()


def _break(root: Path, fault: str) -> None:
    photo, mask = root / "Images/cat/01.jpg", root / "Annotations/cat/01.png"
    if fault == "no mask":
        mask.unlink()
    elif fault == "no mask folder":
        for file in (root / "Annotations/cat").iterdir():
            file.unlink()
        (root / "Annotations/cat").rmdir()
    elif fault == "other size":
        save_mask(mask, np.ones((7, 9), bool))
    elif fault == "truncated photo":
        photo.write_bytes(photo.read_bytes()[:-200])
    elif fault == "empty photo":
        photo.write_bytes(b"")
    elif fault == "text as photo":
        photo.write_text("hello")
    elif fault == "truncated mask":
        mask.write_bytes(mask.read_bytes()[:60])
    elif fault == "text as mask":
        mask.write_text("hello")
    elif fault == "empty reference mask":
        save_mask(root / "Annotations/cat/00.png", np.zeros_like(disk(0)))


FAULTS = [
    ("no mask", fp.DatasetLayoutError, "Images/cat/01.jpg has no mask: Annotations/cat/01.png"),
    ("no mask folder", fp.DatasetLayoutError, "Images/cat/00.jpg has no mask"),
    ("other size", fp.DatasetLayoutError, "cat/01.png is 9 x 7 pixels but its photo is 120 x 90"),
    ("truncated photo", fp.PhotoError, "cannot read photo .*cat/01.jpg: .*truncated"),
    ("empty photo", fp.PhotoError, "cannot read photo .*cat/01.jpg: not an image"),
    ("text as photo", fp.PhotoError, "cannot read photo .*cat/01.jpg: not an image"),
    ("truncated mask", fp.DatasetLayoutError, "cannot read mask .*cat/01.png"),
    ("text as mask", fp.DatasetLayoutError, "cannot read mask .*cat/01.png: not an image"),
    ("empty reference mask", fp.DatasetLayoutError, "00.png is empty but .* reference of 'cat'"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "error", "message"), FAULTS, ids=[f[0] for f in FAULTS])
def test_a_fault_stops_the_import_before_anything_is_added(
    tmp_path: Path, dataset: Make, fault: str, error: type[Exception], message: str
) -> None:
    root = make_album(tmp_path / "album", {"a": 2, "cat": 3})
    _break(root, fault)
    target = dataset()
    with pytest.raises(error, match=message) as caught:
        target.add_dir(
            dataset_dir=str(root), dataset_type=PerSegDataset, mask_dir=tmp_path / "masks/album"
        )
    assert "\n" not in str(caught.value)
    assert len(target) == 0 and "ground_truth" not in target.get_field_schema()
    assert not [path for path in (tmp_path / "masks").rglob("*") if path.is_file()]


@pytest.mark.parametrize(("fault", "message"), [(f, m) for f, _, m in FAULTS])
def test_a_fault_can_be_skipped_and_is_reported(
    tmp_path: Path, dataset: Make, fault: str, message: str
) -> None:
    root = make_album(tmp_path / "album", {"a": 2, "cat": 3})
    _break(root, fault)
    loaded = load(dataset, root, on_error="skip")
    lost = {"no mask folder": ["00", "01", "02"], "empty reference mask": ["00"]}.get(fault, ["01"])
    skipped = loaded.info["skipped"]
    assert [s["filepath"] for s in skipped] == [str(root / f"Images/cat/{n}.jpg") for n in lost]
    assert re.search(message, skipped[0]["reason"])
    assert len(loaded) == 5 - len(lost)
    assert all(label is not None for label in loaded.values("ground_truth"))


def _layout(tmp_path: Path, layout: str) -> Path:
    root = tmp_path / "album"
    if layout == "nothing":
        return root
    root.mkdir()
    if layout == "inner":
        make_album(root / "PerSeg", {"cat": 1})
    elif layout == "images only":
        (root / "Images/cat").mkdir(parents=True)
    elif layout == "no objects":
        (root / "Images").mkdir()
        (root / "Annotations").mkdir()
        save_photo(root / "Images/00.jpg", photo_array(0))
    elif layout == "no photos":
        (root / "Images/cat").mkdir(parents=True)
        (root / "Annotations/cat").mkdir(parents=True)
    elif layout == "same stem":
        make_album(root, {"cat": 2})
        save_photo(root / "Images/cat/01.png", photo_array(0))
    elif layout == "sound":
        make_album(root, {"cat": 2})
    elif layout == "all faulty":
        make_album(root, {"cat": 1})
        _break(root, "empty reference mask")
    return root


@pytest.mark.parametrize(
    ("layout", "options", "message"),
    [
        ("nothing", {}, "album is not a folder"),
        ("empty", {}, "has no folder Images/: PerSeg's layout is"),
        ("inner", {}, r"did you mean .*PerSeg\?"),
        ("images only", {}, "has no folder Annotations/"),
        ("no objects", {}, "put each object's photos into Images/<object>/"),
        ("no photos", {}, "has no photos"),
        ("same stem", {}, "01.jpg and 01.png have one name"),
        ("all faulty", {"on_error": "skip"}, "no photo is usable, the first of 1 problems"),
        ("sound", {"objects": ["dog"]}, "has no object 'dog': it has cat"),
        ("sound", {"objects": "dog"}, "has no object 'dog': it has cat"),
        ("sound", {"reference": "07"}, "object 'cat' has no photo '07' .* it has 00, 01"),
        ("sound", {"reference": {"dog": "00"}}, "has no object 'dog'"),
        ("sound", {"on_error": "ignore"}, "on_error 'ignore' is not known"),
        ("sound", {"masks": "db"}, "masks 'db' is not known"),
        ("sound", {"max_samples": 0}, "max_samples 0 is not a number"),
        ("sound", {"max_samples": "2"}, "max_samples '2' is not a number"),
    ],
)
def test_wrong_layouts_and_options(
    tmp_path: Path, layout: str, options: dict[str, Any], message: str
) -> None:
    before = fo.list_datasets()
    with pytest.raises(fp.PersamError, match=message) as caught:
        import_perseg(_layout(tmp_path, layout), "wrong", progress=False, **options)
    assert "\n" not in str(caught.value)
    assert fo.list_datasets() == before


def test_missing_folder_argument() -> None:
    with pytest.raises(fp.PersamError, match="dataset_dir is missing"):
        PerSegImporter().setup()


def test_real_album(shared_dir: Path, dataset: Make) -> None:
    loaded = load(dataset, shared_dir / "data/perseg_dev")
    assert len(loaded) == 36 and len(loaded.distinct("object")) == 8
    assert loaded.match({"role": "reference"}).values("object") == loaded.distinct("object")
    for sample in loaded.match({"role": "reference"}):
        path = sample.filepath.replace("/Images/", "/Annotations/").replace(".jpg", ".png")
        red = np.asarray(Image.open(path))[..., 0]
        np.testing.assert_array_equal(mask_of(sample), np.where(red == 128, 255, 0))
