from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.datasets import PerSegDataset
from fiftyone_persam.datasets.perseg_exporter import safe_folder_name
from tests.datasets.albums import disk, make_album, photo_array, save_photo

Make = Callable[..., fo.Dataset]


def load(make: Make, folder: Path, **options: Any) -> fo.Dataset:
    return make(fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=PerSegDataset, **options))


def export(samples: Any, folder: Path, **options: Any) -> Path:
    options = {"label_field": "ground_truth", **options}
    samples.export(export_dir=str(folder), dataset_type=fp.PerSegDataset, **options)
    return folder


def files(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if not p.is_dir())


def labelled(make: Make, folder: Path, count: int, **fields: list[Any]) -> fo.Dataset:
    """Photos 0.jpg, 1.jpg, ... with inline masks, and a list of values per field."""
    samples = []
    for number in range(count):
        path = folder / f"{number}.jpg"
        save_photo(path, photo_array(number))
        mask = disk(number).astype(np.uint8)
        sample = fo.Sample(filepath=str(path), ground_truth=fo.Segmentation(mask=mask))
        for name, values in fields.items():
            sample[name] = values[number]
        samples.append(sample)
    return make(samples)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in files(folder)}


def test_round_trip_is_exact(tmp_path: Path, dataset: Make) -> None:
    root = make_album(tmp_path / "album", {"cat": 12, "dog": 2})
    out = export(load(dataset, root), tmp_path / "out")
    assert snapshot(out).keys() == snapshot(root).keys()
    for name in files(root):
        if name.startswith("Images"):
            assert (out / name).read_bytes() == (root / name).read_bytes()
        else:
            np.testing.assert_array_equal(Image.open(out / name), Image.open(root / name))
    back = load(dataset, out)
    assert back.values("object") == ["cat"] * 12 + ["dog"] * 2
    assert back.match({"role": "reference"}).count() == 2


def test_round_trip_of_real_photos(shared_dir: Path, tmp_path: Path, dataset: Make) -> None:
    loaded = load(dataset, shared_dir / "data/perseg_dev", objects=["cat", "can"], max_samples=5)
    back = load(dataset, export(loaded, tmp_path / "out"))
    for before, after in zip(loaded.sort_by("object"), back.sort_by("object"), strict=True):
        assert Path(before.filepath).read_bytes() == Path(after.filepath).read_bytes()
        np.testing.assert_array_equal(before.ground_truth.get_mask(), after.ground_truth.get_mask())


def test_the_reference_becomes_00(tmp_path: Path, dataset: Make) -> None:
    root = make_album(tmp_path / "album", {"cat": 4})
    out = export(load(dataset, root, reference="02"), tmp_path / "out")
    order = ["02.jpg", "00.jpg", "01.jpg", "03.jpg"]
    for number, source in enumerate(order):
        exported = (out / f"Images/cat/{number:02d}.jpg").read_bytes()
        assert exported == (root / "Images/cat" / source).read_bytes()


def test_without_fields_the_first_photo_with_a_mask_is_the_reference(
    tmp_path: Path, dataset: Make
) -> None:
    samples = labelled(dataset, tmp_path / "in", 3)
    first = samples.first()
    first.ground_truth = fo.Segmentation(mask=np.zeros_like(disk(0), np.uint8))
    first.save()
    out = export(samples, tmp_path / "out")
    assert files(out)[:3] == [f"Annotations/object/{n:02d}.png" for n in range(3)]
    red = np.asarray(Image.open(out / "Annotations/object/00.png"))[..., 0]
    np.testing.assert_array_equal(red == 128, disk(1))


def test_more_than_a_hundred_photos_keep_two_digits_where_they_suffice(
    tmp_path: Path, dataset: Make
) -> None:
    samples = labelled(dataset, tmp_path / "in", 102)
    out = export(samples, tmp_path / "out", export_media=False)
    names = [Path(name).stem for name in files(out)]
    assert {"00", "99", "100", "101"} < set(names) and len(names) == 102


def test_a_view_and_fields_of_other_names(tmp_path: Path, dataset: Make) -> None:
    samples = labelled(
        dataset, tmp_path / "in", 4, thing=["a", "b", "a", "b"],
        kind=["target", "target", "reference", "target"],
    )  # fmt: skip
    samples.clone_sample_field("ground_truth", "mine")
    out = export(
        samples.match({"thing": "a"}), tmp_path / "out", label_field="mine", object_field="thing",
        role_field="kind",
    )  # fmt: skip
    assert files(out) == [
        "Annotations/a/00.png", "Annotations/a/01.png", "Images/a/00.jpg", "Images/a/01.jpg",
    ]  # fmt: skip
    assert (out / "Images/a/00.jpg").read_bytes() == (tmp_path / "in/2.jpg").read_bytes()


def test_the_same_photo_under_two_objects(tmp_path: Path, dataset: Make) -> None:
    samples = labelled(dataset, tmp_path / "in", 2, object=["cat", "cat"])
    twin = fo.Sample(filepath=samples.first().filepath, object="dog")
    twin["ground_truth"] = fo.Segmentation(mask=disk(9).astype(np.uint8))
    samples.add_sample(twin)
    out = export(samples, tmp_path / "out", export_media=False)
    assert files(out) == [
        "Annotations/cat/00.png", "Annotations/cat/01.png", "Annotations/dog/00.png",
    ]  # fmt: skip
    red = np.asarray(Image.open(out / "Annotations/dog/00.png"))[..., 0]
    np.testing.assert_array_equal(red == 128, disk(9))


def test_detections(tmp_path: Path, dataset: Make) -> None:
    """Instance masks are united, boxes filled; (90, 120) photo."""
    samples = labelled(dataset, tmp_path / "in", 1)
    first = samples.first()
    masked = fo.Detection.from_mask(disk(0), label="x")
    first["dets"] = fo.Detections(
        detections=[masked, fo.Detection(label="y", bounding_box=[0.75, 0, 0.25, 0.5])]
    )
    first["det"] = masked
    first.save()
    union = disk(0).copy()
    union[:45, 90:] = True
    for field, expected in (("dets", union), ("det", disk(0))):
        out = export(samples, tmp_path / field, label_field=field)
        red = np.asarray(Image.open(out / "Annotations/object/00.png"))[..., 0]
        np.testing.assert_array_equal(red == 128, expected)


def test_one_value_of_a_mask_with_several(tmp_path: Path, dataset: Make) -> None:
    samples = labelled(dataset, tmp_path / "in", 1)
    first = samples.first()
    first.ground_truth = fo.Segmentation(mask=np.where(disk(0), 3, 7).astype(np.uint8))
    first.save()
    out = export(samples, tmp_path / "out", mask_value=3)
    red = np.asarray(Image.open(out / "Annotations/object/00.png"))[..., 0]
    np.testing.assert_array_equal(red == 128, disk(0))


def test_photos_without_a_label_are_left_out_and_counted(
    tmp_path: Path, dataset: Make, caplog: pytest.LogCaptureFixture
) -> None:
    samples = labelled(dataset, tmp_path / "in", 3)
    samples.first().ground_truth = None
    samples.set_values("ground_truth", [None, *samples.values("ground_truth")[1:]])
    out = export(samples, tmp_path / "out")
    assert len(files(out)) == 4
    assert "Left out 1 photos" in caplog.text


def test_other_formats_become_upright_jpeg(tmp_path: Path, dataset: Make) -> None:
    exif = Image.Exif()
    exif[274] = 6  # shown turned by 90 degrees clockwise
    stored = np.rot90(photo_array(0))
    save_photo(tmp_path / "in/0.png", np.ascontiguousarray(stored), exif=exif)
    samples = dataset([fo.Sample(filepath=str(tmp_path / "in/0.png"))])
    samples.set_values("ground_truth", [fo.Segmentation(mask=disk(0).astype(np.uint8))])
    out = export(samples, tmp_path / "out")
    with Image.open(out / "Images/object/00.jpg") as photo:
        assert photo.format == "JPEG" and not photo.getexif().get(274)
        difference = np.abs(np.asarray(photo, int) - photo_array(0))[disk(0)]
    assert difference.mean() < 12
    np.testing.assert_array_equal(load(dataset, out).first().ground_truth.get_mask() > 0, disk(0))


@pytest.mark.parametrize(
    ("export_media", "suffixes"), [(True, {".jpg"}), (False, set()), ("symlink", {".png"})]
)
def test_media_modes(tmp_path: Path, dataset: Make, export_media: Any, suffixes: set[str]) -> None:
    save_photo(tmp_path / "in/0.png", photo_array(0))
    samples = dataset([fo.Sample(filepath=str(tmp_path / "in/0.png"))])
    samples.set_values("ground_truth", [fo.Segmentation(mask=disk(0).astype(np.uint8))])
    out = export(samples, tmp_path / "out", export_media=export_media)
    photos = list((out / "Images").rglob("00.*"))
    assert {p.suffix for p in photos} == suffixes
    assert all(p.is_symlink() == (export_media == "symlink") for p in photos)
    assert all(np.asarray(Image.open(p)).shape == (90, 120, 3) for p in photos)


HOSTILE = [
    "../../evil", "/etc/evil", "..", ".", "", " ", "a/b", "a\\b", "C:\\evil", "nul", "con.txt",
    "a\x00b", "a\nb", "~", ".hidden", "trailing.", "x" * 300, "CAT", "cat", "Katze ä 猫",
]  # fmt: skip


def test_no_object_name_leaves_the_folder(tmp_path: Path, dataset: Make) -> None:
    samples = labelled(dataset, tmp_path / "in", len(HOSTILE), object=HOSTILE)
    (tmp_path / "deep/er").mkdir(parents=True)
    before = set(tmp_path.rglob("*"))
    out = export(samples, tmp_path / "deep/er/out")
    new = set(tmp_path.rglob("*")) - before
    assert all(p == out or p.is_relative_to(out) for p in new)
    folders = [p.name for p in (out / "Images").iterdir()]
    assert len({name.casefold() for name in folders}) == len(HOSTILE)  # none merged with another
    assert {len(list((out / "Images" / name).iterdir())) for name in folders} == {1}
    assert "Katze ä 猫" in folders
    assert len(load(dataset, out)) == len(HOSTILE)


@pytest.mark.parametrize("name", HOSTILE)
def test_safe_folder_names_are_one_plain_component(name: str) -> None:
    safe = safe_folder_name(name)
    assert safe and len(safe) <= 81 and Path(safe).name == safe
    assert safe[0] not in ". " and safe[-1] not in ". "
    assert not set(safe) & set('/\\:*?"<>|\0\n')
    assert safe_folder_name(safe) == safe or safe.startswith("_")


def _faulty(fault: str, samples: fo.Dataset, tmp_path: Path) -> dict[str, Any]:
    options: dict[str, Any] = {}
    photo = Path(samples.last().filepath)
    if fault == "unreadable photo":
        photo.write_bytes(photo.read_bytes()[:-300])
    elif fault == "missing photo":
        photo.unlink()
    elif fault == "size mismatch":
        last = samples.last()
        last.ground_truth = fo.Segmentation(mask=np.ones((5, 6), np.uint8))
        last.save()
    elif fault == "no mask in label":
        last = samples.last()
        last.ground_truth = fo.Segmentation()
        last.save()
    elif fault == "lost mask file":
        last = samples.last()
        last.ground_truth = fo.Segmentation(mask_path=str(tmp_path / "gone.png"))
        last.save()
    elif fault == "all empty":
        samples.set_values(
            "ground_truth", [fo.Segmentation(mask=np.zeros((90, 120), np.uint8))] * len(samples)
        )
    elif fault == "no label":
        samples.set_values("ground_truth", [None] * len(samples))
    elif fault == "bad media option":
        options["export_media"] = "manifest"
    elif fault == "file in the way":
        (tmp_path / "out").write_text("x")
    elif fault == "occupied":
        make_album(tmp_path / "out", {"object": 1})
    return options


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("unreadable photo", fp.PhotoError, "cannot read photo .*2.jpg"),
        ("missing photo", fp.PhotoError, "cannot read photo .*2.jpg"),
        ("size mismatch", fp.PersamError, "mask of .*2.jpg is 6 x 5 pixels .* 120 x 90"),
        ("no mask in label", fp.PersamError, "the Segmentation of .*2.jpg has no mask"),
        ("lost mask file", fp.PersamError, "gone.png"),
        ("all empty", fp.DatasetLayoutError, "object 'object' has no photo .* all masks are empty"),
        ("no label", fp.DatasetLayoutError, "no photo has a label"),
        ("bad media option", fp.PersamError, "is not known: give True"),
        ("file in the way", fp.DatasetLayoutError, "out is a file"),
        ("occupied", fp.DatasetLayoutError, "Images/object exists: .*overwrite=True"),
    ],
)
def test_a_failed_export_leaves_nothing_behind(
    tmp_path: Path, dataset: Make, fault: str, error: type[Exception], message: str
) -> None:
    samples = labelled(dataset, tmp_path / "in", 3)
    options = _faulty(fault, samples, tmp_path)
    before = snapshot(tmp_path)
    with pytest.raises(error, match=message) as caught:
        export(samples, tmp_path / "out", **options)
    assert "\n" not in str(caught.value)
    assert snapshot(tmp_path) == before
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


def test_overwrite_replaces_the_album_and_nothing_else(tmp_path: Path, dataset: Make) -> None:
    out = make_album(tmp_path / "out", {"old": 2})
    (out / "notes.txt").write_text("mine")
    export(labelled(dataset, tmp_path / "in", 1), out, overwrite=True)
    assert files(out) == ["Annotations/object/00.png", "Images/object/00.jpg", "notes.txt"]


def test_overwrite_keeps_the_old_album_when_the_export_fails(tmp_path: Path, dataset: Make) -> None:
    out = make_album(tmp_path / "out", {"old": 2})
    samples = labelled(dataset, tmp_path / "in", 2)
    Path(samples.last().filepath).unlink()
    before = snapshot(out)
    with pytest.raises(fp.PhotoError):
        export(samples, out, overwrite=True)
    assert snapshot(out) == before


def test_overwrite_leaves_the_photos_of_datasets_alone(tmp_path: Path, dataset: Make) -> None:
    root = make_album(tmp_path / "album", {"cat": 3})
    before = snapshot(root)
    samples = load(dataset, root)
    with pytest.raises(
        fp.DatasetLayoutError, match=r"02.jpg is a photo of a dataset, and it is not"
    ):
        export(samples.limit(2), root, overwrite=True)
    assert snapshot(root) == before
    samples.set_values("role", ["target", "target", "reference"])
    with pytest.raises(fp.DatasetLayoutError, match="not the reference of 'cat'"):
        export(samples, root, overwrite=True)
    assert snapshot(root) == before
    # All of them, in another order, and one more: each keeps its number.
    samples.set_values("role", ["reference", "target", "target"])
    more = labelled(dataset, tmp_path / "more", 1, object=["cat"]).first()
    samples.add_sample(fo.Sample(more.filepath, object="cat", ground_truth=more.ground_truth))
    export(samples.sort_by("filepath", reverse=True), root, overwrite=True)
    after = snapshot(root)
    assert {n: b for n, b in after.items() if n in before and n.startswith("Images")} == {
        n: b for n, b in before.items() if n.startswith("Images")
    }
    assert sorted(set(after) - set(before)) == ["Annotations/cat/03.png", "Images/cat/03.jpg"]


def test_another_object_may_be_added_to_an_album(tmp_path: Path, dataset: Make) -> None:
    out = make_album(tmp_path / "out", {"cat": 2})
    export(labelled(dataset, tmp_path / "in", 1, object=["dog"]), out)
    assert load(dataset, out).values("object") == ["cat", "cat", "dog"]


def test_an_album_beside_the_dataset_s_own_photos_leaves_them(
    tmp_path: Path, dataset: Make
) -> None:
    photos = labelled(dataset, tmp_path, 3)
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.jpg")}
    for _ in range(2):
        export(photos, tmp_path, overwrite=True)
        assert {path.name: path.read_bytes() for path in tmp_path.glob("*.jpg")} == before
    assert len(list((tmp_path / "Images").rglob("*.jpg"))) == 3
