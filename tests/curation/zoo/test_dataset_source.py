"""The dataset source, through FiftyOne's own zoo: from an archive or a folder on this machine."""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import fiftyone.zoo as foz
import pytest

import fiftyone_persam as fp
from fiftyone_persam.datasets.perseg_zoo import prepare_perseg

OBJECTS, PHOTOS = 2, 6


@pytest.fixture
def source(repository_url: str) -> Iterator[str]:
    yield repository_url
    if fo.dataset_exists("perseg"):
        fo.delete_dataset("perseg")
    shutil.rmtree(Path(fo.config.dataset_zoo_dir) / "perseg", ignore_errors=True)


@pytest.fixture(scope="module")
def archives(album: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The album as it may lie on a disk; the published archive has its folders in "data 3"."""
    folder = tmp_path_factory.mktemp("archives")
    files = sorted(path for path in album.rglob("*") if path.is_file())
    with zipfile.ZipFile(folder / "PerSeg.zip", "w") as archive:
        for path in files:
            archive.write(path, f"data 3/{path.relative_to(album)}")
            archive.writestr(f"__MACOSX/data 3/{path.relative_to(album)}", b"resource fork")
    with tarfile.open(folder / "album.tar.gz", "w:gz") as tar:
        tar.add(album, arcname="album")
    return {"zip": folder / "PerSeg.zip", "tar": folder / "album.tar.gz", "folder": album}


@pytest.mark.parametrize("kind", ["zip", "tar", "folder"])
def test_perseg_is_loaded_from_disk(source: str, archives: dict[str, Path], kind: str) -> None:
    dataset = foz.load_zoo_dataset(source, source=str(archives[kind]))
    assert dataset.name == "perseg"
    assert len(dataset) == PHOTOS
    assert dataset.count_values("role") == {"reference": OBJECTS, "target": PHOTOS - OBJECTS}
    assert set(dataset.distinct("object")) == {"cat", "cup"}
    home = Path(fo.config.dataset_zoo_dir) / "perseg"
    for sample in dataset:
        # All of it lies in the zoo: what it was made from may go.
        assert Path(sample.filepath).is_relative_to(home)
        assert Path(sample["ground_truth"].mask_path).is_relative_to(home)
        assert sample["ground_truth"].get_mask().any()
    assert foz.load_zoo_dataset_info("perseg").num_samples == PHOTOS
    # The second time it is there, whether asked for by name or by source.
    assert foz.load_zoo_dataset("perseg") == dataset
    assert foz.load_zoo_dataset(source) == dataset


def test_another_source_is_loaded_when_asked_to(
    source: str, archives: dict[str, Path], tmp_path: Path
) -> None:
    foz.load_zoo_dataset(source, source=str(archives["folder"]))
    other = tmp_path / "other"
    for part in ("Images", "Annotations"):
        shutil.copytree(archives["folder"] / part / "cat", other / part / "cat")
    again = foz.load_zoo_dataset(source, source=str(other))
    assert len(again) == PHOTOS  # as the README says: what is there stays
    new = foz.load_zoo_dataset(
        source, source=str(other), overwrite=True, drop_existing_dataset=True
    )
    assert new.distinct("object") == ["cat"]


def test_options_reach_the_importer(source: str, archives: dict[str, Path]) -> None:
    dataset = foz.load_zoo_dataset(
        source, source=str(archives["zip"]), objects=["cup"], reference="02", max_samples=2
    )
    try:
        assert dataset.distinct("object") == ["cup"]
        assert len(dataset) == 2
        everything = foz.load_zoo_dataset("perseg", dataset_name="all of it")
        assert len(everything) == PHOTOS
        everything.delete()
    finally:
        dataset.delete()


def test_loaded_dataset_can_be_segmented(source: str, archives: dict[str, Path]) -> None:
    dataset = foz.load_zoo_dataset(source, source=str(archives["folder"]), objects=["cat"])
    references = dataset.match(fo.ViewField("role") == "reference")
    run = fp.segment(dataset, references, out_field="mine", group_by="object", device="cpu")
    assert run.state == "done"


def test_a_failed_source_leaves_nothing_behind(
    source: str, archives: dict[str, Path], tmp_path: Path
) -> None:
    (tmp_path / "empty.zip").write_bytes(b"PK\5\6" + bytes(18))
    for wrong, message in (
        (tmp_path / "none.zip", "is not a file"),
        (tmp_path / "empty.zip", "holds no album"),
        (tmp_path, "has no folder Images/"),
    ):
        with pytest.raises(fp.DatasetLayoutError, match=message):
            foz.load_zoo_dataset(source, source=str(wrong))
        assert not fo.dataset_exists("perseg")
        home = Path(fo.config.dataset_zoo_dir) / "perseg"
        assert {path.name for path in home.iterdir()} <= {"__init__.py", "fiftyone.yml"}
    assert len(foz.load_zoo_dataset(source, source=str(archives["zip"]))) == PHOTOS


def test_a_fault_in_the_album_leaves_no_empty_dataset(
    source: str, album: Path, tmp_path: Path
) -> None:
    """FiftyOne would take an empty "perseg" for the loaded one ever after."""
    faulty = tmp_path / "faulty"
    shutil.copytree(album, faulty)
    (faulty / "Annotations/cat/01.png").unlink()
    with pytest.raises(fp.DatasetLayoutError, match=r"01\.jpg has no mask"):
        foz.load_zoo_dataset(source, source=str(faulty))
    assert not fo.dataset_exists("perseg")
    dataset = foz.load_zoo_dataset("perseg", on_error="skip")
    assert len(dataset) == PHOTOS - 1


def test_archive_is_checked_where_a_hash_is_given(
    archives: dict[str, Path], tmp_path: Path
) -> None:
    digest = hashlib.sha256(archives["zip"].read_bytes()).hexdigest()
    assert prepare_perseg(tmp_path, archives["zip"], sha256=digest.upper()) == PHOTOS
    with pytest.raises(fp.DatasetLayoutError, match=f"has sha256 {digest}, not"):
        prepare_perseg(tmp_path, archives["zip"], sha256="0" * 64)
    with pytest.raises(fp.DatasetLayoutError, match="is a folder: sha256 is for an archive"):
        prepare_perseg(tmp_path, archives["folder"], sha256=digest)
    # What was there before is still there.
    assert {path.name for path in tmp_path.iterdir()} == {"Images", "Annotations"}


def test_a_failed_download_says_where_perseg_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise ConnectionError("no route\nto host")

    monkeypatch.setattr("requests.Session.request", unreachable)
    with pytest.raises(fp.PersamError, match=r"drive\.google\.com.*pass source=") as failed:
        prepare_perseg(tmp_path)
    assert "\n" not in str(failed.value)
    assert list(tmp_path.iterdir()) == []


def test_zoo_deletes_all_of_it(source: str, archives: dict[str, Path]) -> None:
    foz.load_zoo_dataset(source, source=str(archives["folder"]))
    foz.delete_zoo_dataset("perseg")
    assert not (Path(fo.config.dataset_zoo_dir) / "perseg").exists()
