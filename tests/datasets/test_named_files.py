from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import fiftyone as fo
import pytest

from fiftyone_persam.datasets.named_files import named_below, named_files, remove_unnamed
from tests.curation.discs import Make


def write(folder: Path, *names: str) -> list[Path]:
    paths = [folder / name for name in names]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(path.name)
    return paths


def boxed(path: Path) -> fo.Detection:
    return fo.Detection(label="x", bounding_box=[0, 0, 1, 1], mask_path=str(path))


def frames_of(make: Make, path: Path) -> fo.Dataset:
    video = fo.Sample(str(path.parent / "film.mp4"))
    video.frames[1] = fo.Frame(mask=fo.Segmentation(mask_path=str(path)))
    return make([video])


def backup_of(make: Make, path: Path, change: str) -> fo.Dataset:
    dataset = make([fo.Sample("photo.jpg", x=fo.Segmentation(mask_path=str(path)))])
    getattr(dataset, change)("x", "backup")
    if change == "clone_sample_field":
        dataset.delete_sample_field("x")
    return dataset


def clone_of(make: Make, path: Path) -> fo.Dataset:
    original = make([fo.Sample(str(path))])
    clone = make(original.clone())
    original.delete()
    return clone


def group_of(make: Make, path: Path) -> fo.Dataset:
    group = fo.Group()
    slices = {"left": path.with_name("left.jpg"), "right": path}
    return make([fo.Sample(str(p), group=group.element(name)) for name, p in slices.items()])


def thumbnails_of(make: Make, path: Path) -> fo.Dataset:
    dataset = make([fo.Sample("photo.jpg", thumbnail=str(path))])
    dataset.app_config.media_fields.append("thumbnail")
    dataset.save()
    return dataset


NAMING: dict[str, Callable[[Make, Path], fo.Dataset]] = {
    "filepath": lambda make, path: make([fo.Sample(str(path))]),
    "mask": lambda make, path: make([fo.Sample("a.jpg", x=fo.Segmentation(mask_path=str(path)))]),
    "heatmap": lambda make, path: make([fo.Sample("a.jpg", x=fo.Heatmap(map_path=str(path)))]),
    "instances": lambda make, path: make(
        [fo.Sample("a.jpg", x=fo.Detections(detections=[boxed(Path("/else/x.png")), boxed(path)]))]
    ),
    "one detection": lambda make, path: make([fo.Sample("a.jpg", x=boxed(path))]),
    "frames": frames_of,
    "frames as samples": lambda make, path: make(frames_of(make, path).to_frames().clone()),
    "clone": clone_of,
    "group": group_of,
    "cloned field": lambda make, path: backup_of(make, path, "clone_sample_field"),
    "renamed field": lambda make, path: backup_of(make, path, "rename_sample_field"),
    "the App's media": thumbnails_of,
    "a path": lambda make, path: make([fo.Sample("a.jpg", original_path=str(path))]),
    "paths": lambda make, path: make([fo.Sample("a.jpg", source_paths=["/b", str(path)])]),
}


@pytest.mark.parametrize("way", NAMING)
def test_whoever_names_a_file(dataset: Make, tmp_path: Path, way: str) -> None:
    named, other = write(tmp_path, "one.png", "two.png")
    NAMING[way](dataset, named)
    assert named_files([named, other]) == {named}
    assert named_below(tmp_path) == {named}
    assert remove_unnamed([named, other]) == [named]
    assert named.exists() and not other.exists()


def test_a_schema_that_does_not_declare_the_path(dataset: Make, tmp_path: Path) -> None:
    import fiftyone.core.odm as foo

    (named,) = write(tmp_path, "one.png")
    made = dataset([fo.Sample("a.jpg", x=fo.Segmentation(mask_path=str(named)))])
    foo.get_db_conn().datasets.update_one(
        {"_id": made._doc.id},
        {"$set": {"sample_fields.$[x].fields": []}},
        array_filters=[{"x.name": "x"}],
    )
    assert named_files([named]) == {named}


def through_link(path: Path, folder: Path) -> str:
    (folder / "way").symlink_to(path.parent, target_is_directory=True)
    return str(folder / "way" / path.name)


def by_link(path: Path, folder: Path) -> str:
    (folder / "elsewhere.png").symlink_to(os.path.relpath(path, folder))
    (folder / "further.png").symlink_to(folder / "elsewhere.png")
    return str(folder / "further.png")


def by_hard_link(path: Path, folder: Path) -> str:
    os.link(path, folder / "second.png")
    return str(folder / "second.png")


SPELLINGS: dict[str, Callable[[Path, Path], str]] = {
    "plain": lambda path, folder: str(path),
    "doubled": lambda path, folder: f"{path.parent}//.//{path.name}",
    "up and down": lambda path, folder: f"{folder}/../{path.parent.name}/{path.name}",
    "relative": lambda path, folder: os.path.relpath(path),
    "linked folder": through_link,
    "link to a link": by_link,
    "hard link": by_hard_link,
}


@pytest.mark.parametrize(
    ("stored", "asked"),
    [(stored, "plain") for stored in SPELLINGS]
    + [("linked folder", asked) for asked in ("doubled", "up and down", "relative")]
    + [("link to a link", "linked folder"), ("hard link", "relative")],
)
def test_however_a_file_is_spelled(dataset: Make, tmp_path: Path, stored: str, asked: str) -> None:
    photo, other = write(tmp_path / "a b (1)+", "père #1.png", "Père #2.png")
    for name in ("store", "ask"):
        (tmp_path / name).mkdir()
    value = SPELLINGS[stored](photo, tmp_path / "store")
    dataset([fo.Sample("a.jpg", x=fo.Segmentation(mask_path=value))])
    question = Path(SPELLINGS[asked](photo, tmp_path / "ask"))
    assert named_files([question, other]) == {question}


def test_relative_to_the_working_folder(
    dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photo,) = write(tmp_path, "one.png")
    monkeypatch.chdir(tmp_path)
    dataset([fo.Sample("a.jpg", x=fo.Segmentation(mask_path="one.png"))])
    assert named_files([photo, Path("one.png")]) == {photo, Path("one.png")}


def test_a_link_to_a_photo_is_not_the_photo(dataset: Make, tmp_path: Path) -> None:
    (photo,) = write(tmp_path / "photos", "one.png")
    dataset([fo.Sample(str(photo))])
    link = tmp_path / "export" / "00.png"
    link.parent.mkdir()
    link.symlink_to(photo)
    assert remove_unnamed([link, photo]) == [photo]
    assert not link.is_symlink() and photo.exists()


def test_links_on_the_way_are_named(dataset: Make, tmp_path: Path) -> None:
    (photo,) = write(tmp_path / "photos", "one.png")
    for name, target in (("first", "second"), ("second", "photos"), ("third", "photos")):
        (tmp_path / name).symlink_to(tmp_path / target, target_is_directory=True)
    dataset([fo.Sample("a.jpg", x=fo.Segmentation(mask_path=str(tmp_path / "first" / "one.png")))])
    assert named_below(tmp_path) == {photo, tmp_path / "first", tmp_path / "second"}


def test_files_that_are_gone(dataset: Make, tmp_path: Path) -> None:
    gone, other = tmp_path / "gone" / "A.png", tmp_path / "gone" / "B.png"
    dataset([fo.Sample(str(gone))])
    assert named_files([gone, other]) == {gone}
    # Where a file system ignores case, writing this one would bring the missing photo back.
    assert named_files([gone.with_name("a.PNG")]) == {gone.with_name("a.PNG")}


def test_names_that_differ_by_case(dataset: Make, tmp_path: Path) -> None:
    upper, lower = tmp_path / "A.png", tmp_path / "a.png"
    write(tmp_path, "A.png", "a.png")
    dataset([fo.Sample(str(upper))])
    same = os.path.samefile(upper, lower)  # macOS, Windows
    assert named_files([upper, lower]) == ({upper, lower} if same else {upper})


@pytest.mark.parametrize("value", ["s3://bucket/one.png", "", "/", "\\one.png", "é" * 300, "~x/a"])
def test_odd_values_are_no_obstacle(dataset: Make, tmp_path: Path, value: str) -> None:
    paths = write(tmp_path, "one.png", "back\\slash.png")
    dataset(
        [
            fo.Sample("a.jpg", x=fo.Segmentation(mask_path=value), some_path=value),
            fo.Sample(str(paths[1]), x=fo.Segmentation(mask_path="no\nfolder/a")),
        ]
    )
    assert named_files(paths) == {paths[1]}


def test_nothing_asked() -> None:
    assert named_files([]) == set() and remove_unnamed([]) == []


def test_a_file_that_cannot_be_removed_is_told(
    dataset: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path, other = write(tmp_path, "one.png", "two.png")
    remove = Path.unlink

    def refuse(self: Path, missing_ok: bool = False) -> None:
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        remove(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)  # root may remove everything
    assert remove_unnamed([path, other]) == [path]
    assert "Permission denied" in caplog.text and not other.exists()
