from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from fiftyone_persam.curation.handover.importing import import_folder
from fiftyone_persam.curation.labels.masks import union_mask
from fiftyone_persam.datasets import IMPORTERS, DavisDataset
from fiftyone_persam.datasets.davis.layout import read_davis
from fiftyone_persam.errors import DatasetLayoutError, PersamError
from tests.datasets.davis import moving, write_davis, zipped


def load(folder: Path, **options: Any) -> fo.Dataset:
    return fo.Dataset.from_dir(dataset_dir=str(folder), dataset_type=DavisDataset, **options)


@pytest.mark.parametrize("packed", [False, True])
def test_2017_has_a_mask_for_each_object(
    tmp_path: Path, dataset: Callable[..., fo.Dataset], packed: bool
) -> None:
    root = write_davis(tmp_path / "DAVIS", ("pets", "more"))
    (root / "ImageSets" / "2017" / "val.txt").write_text("pets\n")
    source = zipped(root, tmp_path / "davis.zip") if packed else root
    assert IMPORTERS["davis"] is DavisDataset
    made = dataset(load(source, extract_dir=str(tmp_path / "out")))
    film = moving()
    assert made.values("sequence") == ["pets"] * 4
    assert made.values("frame_number") == [1, 2, 3, 4]
    instances = set()
    for number, sample in enumerate(made.sort_by("frame_number")):
        found = sample.ground_truth.detections
        assert [one.label for one in found] == ["1", "2"] and [o.index for o in found] == [1, 2]
        instances |= {one.instance.id for one in found}
        size = (sample.metadata.height, sample.metadata.width)
        for one, mask in zip(found, film.masks.values(), strict=True):
            shown = union_mask(fo.Detections(detections=[one]), size)
            np.testing.assert_array_equal(shown, mask[number])
    assert len(instances) == 2  # the same in all frames
    (group,) = made.group_by("sequence", order_by="frame_number").iter_dynamic_groups()
    assert len(group) == 4


def test_2016_has_one_object_and_lists_of_pairs(
    tmp_path: Path, dataset: Callable[..., fo.Dataset]
) -> None:
    root = write_davis(tmp_path, ("pets",), year="2016")
    lists = root / "ImageSets" / "480p"
    (root / "ImageSets" / "2016").rename(lists)
    pairs = "/JPEGImages/480p/pets/{0}.jpg /Annotations/480p/pets/{0}.png \n"
    (lists / "val.txt").write_text(pairs.format("00000") + pairs.format("00001"))
    made = dataset(load(root))
    assert len(made) == 4
    (one,) = made.first().ground_truth.detections
    assert (one.label, one.index) == ("object", 1)
    whole = sum(mask[0] for mask in moving().masks.values())
    shown = union_mask(fo.Detections(detections=[one]), (270, 480))
    np.testing.assert_array_equal(shown, whole > 0)


def test_palette_masks_of_2017_as_one_object(tmp_path: Path) -> None:
    (sequence,) = read_davis(write_davis(tmp_path), year=2016)
    assert sequence.first_objects() == (1,)
    assert read_davis(tmp_path, year="2017", sequences="pets")[0].first_objects() == (1, 2)


def broken(what: str, root: Path) -> None:
    labels = root / "Annotations" / "480p" / "pets"
    photos = root / "JPEGImages" / "480p" / "pets"
    if what == "cut annotation":
        path = labels / "00002.png"
        path.write_bytes(path.read_bytes()[:60])
    elif what == "cut photo":
        path = photos / "00001.jpg"
        path.write_bytes(path.read_bytes()[:900])
    elif what == "size":
        Image.fromarray(np.ones((9, 12), np.uint8)).save(labels / "00001.png")
    elif what == "colour":
        pixels = np.zeros((270, 480, 3), np.uint8)
        pixels[:9], pixels[9:20] = (128, 0, 0), (0, 128, 0)
        Image.fromarray(pixels).save(labels / "00003.png")
    elif what == "empty first":
        Image.fromarray(np.zeros((270, 480), np.uint8)).save(labels / "00000.png")
    elif what == "no first":
        (labels / "00000.png").unlink()
    elif what == "no annotations":
        shutil.rmtree(labels)
    elif what == "no photos":
        shutil.rmtree(photos)
        photos.mkdir()
    elif what == "listed":
        (root / "ImageSets" / "2017" / "val.txt").write_text("pets\nbear\n")
    elif what == "no folders":
        shutil.rmtree(root / "JPEGImages")


FAULTS = {
    "cut annotation": r"annotation .*00002\.png cannot be decoded",
    "cut photo": r"cannot read photo .*00001\.jpg",
    "size": r"00001\.png is 12 x 9 but its photo 480 x 270",
    "colour": r"00003\.png is a colour image, which does not number",
    "empty first": "the first frame of pets shows no object",
    "no first": "the first frame of pets has no annotation",
    "no annotations": "sequence pets has no annotation",
    "no photos": "sequence pets has no photo in",
    "listed": "sequence 'bear' is listed but .* is missing",
    "no folders": "is not in DAVIS's layout",
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_fault_is_one_line_and_leaves_nothing(tmp_path: Path, what: str) -> None:
    root = write_davis(tmp_path / "DAVIS")
    broken(what, root)
    before = fo.list_datasets()
    with pytest.raises(PersamError, match=FAULTS[what]) as caught:
        import_folder(root, "davis-fault", layout="davis")
    assert "\n" not in str(caught.value)
    assert fo.list_datasets() == before


def test_a_sequence_with_a_fault_can_be_left_out(
    tmp_path: Path, dataset: Callable[..., fo.Dataset]
) -> None:
    root = write_davis(tmp_path, ("more", "pets"))
    broken("cut annotation", root)
    made = dataset(load(root, on_error="skip"))
    assert made.distinct("sequence") == ["more"]
    (skipped,) = made.info["skipped"]
    assert skipped["sequence"] == "pets" and "00002.png" in skipped["reason"]
    (root / "Annotations" / "480p" / "more" / "00002.png").unlink()
    assert dataset(load(root, sequences=["more"])).values("ground_truth.detections")[2] is None


BAD = [
    ({"year": "2018"}, "year '2018' is not one of DAVIS"),
    ({"split": "test"}, "test.txt is missing: .*val"),
    ({"sequences": ["pet"]}, "has no sequence 'pet'.*pets"),
    ({"resolution": "1080p"}, "has no folder '1080p': there is 480p"),
    ({"on_error": "go on"}, "on_error 'go on' is not known"),
]


@pytest.mark.parametrize(("options", "says"), BAD)
def test_bad_options(tmp_path: Path, options: dict[str, Any], says: str) -> None:
    root = write_davis(tmp_path)
    with pytest.raises(PersamError, match=says):
        import_folder(root, "davis-bad", layout="davis", **options)


def test_a_hostile_or_foreign_zip(tmp_path: Path) -> None:
    text = tmp_path / "no.zip"
    text.write_text("not a zip")
    other = zipped(write_davis(tmp_path / "DAVIS") / "ImageSets", tmp_path / "other.zip")
    for path, says in (
        (text, "neither a zip nor a tar"),
        (other, "has no folder 'JPEGImages'"),
        (tmp_path / "gone.zip", "does not exist"),
    ):
        with pytest.raises(DatasetLayoutError, match=says):
            import_folder(path, "davis-zip", layout="davis", extract_dir=tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))
