"""Unpacking albums: every way out of the folder is closed, and a bad archive gets a clear word."""

from __future__ import annotations

import io
import stat
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from fiftyone_persam.datasets import archives
from fiftyone_persam.datasets.archives import extract_album
from fiftyone_persam.errors import DatasetLayoutError

ALBUM = {
    "Images/cat/00.jpg": b"photo",
    "Images/cat/01.jpg": b"another photo",
    "Annotations/cat/00.png": b"mask",
}
Pack = Callable[[Path, dict[str, bytes]], Path]


def pack_zip(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "album.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo("placeholder")
            info.filename = name  # as it is: ZipInfo would clean it
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def pack_tar(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "album.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


PACKERS = {"zip": pack_zip, "tar": pack_tar}


@pytest.fixture(params=PACKERS.values(), ids=PACKERS)
def pack(request: pytest.FixtureRequest) -> Pack:
    return request.param


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "deep" / "out"
    folder.mkdir(parents=True)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("prefix", ["", "data 3/", "./", "a/b/c/"])
def test_album_is_found_wherever_it_is(pack: Pack, tmp_path: Path, out: Path, prefix: str) -> None:
    others = {
        "README.txt": b"hello",
        f"{prefix}Images/notes.txt": b"beside the objects",
        f"{prefix}Images/cat/deeper/02.jpg": b"too deep",
        f"__MACOSX/{prefix}Images/cat/00.jpg": b"resource fork",
        f"__MACOSX/{prefix}Annotations/cat/00.png": b"resource fork",
        f"{prefix}Images/cat/.DS_Store": b"finder",
    }
    files = {**others, **{prefix + name: content for name, content in ALBUM.items()}}
    extract_album(pack(tmp_path, files), out)
    assert contents(out) == ALBUM


@pytest.mark.parametrize(
    "name",
    [
        "../escaped.jpg",
        "Images/../../escaped.jpg",
        "Images/cat/../../../escaped.jpg",
        "/tmp/escaped-persam.jpg",
        "Images\\cat\\..\\..\\escaped.jpg",
        "C:/escaped.jpg",
        "Images/cat/00.jpg:stream",
    ],
)
def test_nothing_leaves_the_folder(pack: Pack, tmp_path: Path, out: Path, name: str) -> None:
    archive = pack(tmp_path, {**ALBUM, name: b"escaped"})
    with pytest.raises(DatasetLayoutError, match="would leave the folder") as refused:
        extract_album(archive, out)
    assert "\n" not in str(refused.value)
    assert contents(tmp_path) == {archive.name: archive.read_bytes()}
    assert not Path("/tmp/escaped-persam.jpg").exists()


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
    ],
)
def test_tar_members_that_are_no_files(tmp_path: Path, out: Path, kind: bytes, word: str) -> None:
    path = pack_tar(tmp_path, ALBUM)
    with tarfile.open(path, "w") as archive:
        info = tarfile.TarInfo("Images/cat")
        info.type, info.linkname = kind, "../../.."
        archive.addfile(info)
    with pytest.raises(DatasetLayoutError, match=f"'Images/cat' is {word}, not a file"):
        extract_album(path, out)
    assert contents(out) == {}


def test_zip_member_that_is_a_link(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "album.zip"
    with zipfile.ZipFile(path, "w") as archive:
        info = zipfile.ZipInfo("Images/cat/00.jpg")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/hostname")
    with pytest.raises(DatasetLayoutError, match="is a link, not a file"):
        extract_album(path, out)
    assert contents(out) == {}


def test_what_is_there_twice_is_refused(tmp_path: Path, out: Path) -> None:
    path = tmp_path / "album.tar"
    with tarfile.open(path, "w") as archive:
        for name in [*ALBUM, "Images/cat/00.jpg"]:
            archive.addfile(tarfile.TarInfo(name))
    with pytest.raises(DatasetLayoutError, match="twice"):
        extract_album(path, out)


def test_bombs_are_stopped_while_they_unpack(
    pack: Pack, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_BYTES", 3 << 20)
    archive = pack(tmp_path, {**ALBUM, "Images/cat/02.jpg": bytes(20 << 20)})
    assert archive.stat().st_size < 100_000
    with pytest.raises(DatasetLayoutError, match="unpacks to more than"):
        extract_album(archive, out)
    assert sum(map(len, contents(out).values())) <= 3 << 20


def test_too_many_files(
    pack: Pack, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "MOST_FILES", 2)
    with pytest.raises(DatasetLayoutError, match="more than 2 files"):
        extract_album(pack(tmp_path, ALBUM), out)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no album|neither"),
        ({"Images/cat/00.jpg": b""}, "holds no album"),
        ({"a/Images/cat/00.jpg": b"", "b/Annotations/cat/00.png": b""}, "holds no album"),
    ],
)
def test_archives_without_an_album(
    pack: Pack, tmp_path: Path, out: Path, files: dict[str, bytes], message: str
) -> None:
    with pytest.raises(DatasetLayoutError, match=message):
        extract_album(pack(tmp_path, files), out)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_archives(pack: Pack, tmp_path: Path, out: Path, share: float) -> None:
    noise = {f"Images/cat/{n:02d}.jpg": bytes([n]) * 5000 for n in range(30)}
    archive = pack(tmp_path, {**ALBUM, **noise})
    archive.write_bytes(archive.read_bytes()[: int(share * archive.stat().st_size)])
    with pytest.raises(DatasetLayoutError, match=str(archive.name)) as refused:
        extract_album(archive, out)
    assert "\n" not in str(refused.value)


def test_damaged_contents(tmp_path: Path, out: Path) -> None:
    archive = pack_zip(tmp_path, ALBUM)
    data = bytearray(archive.read_bytes())
    data[len("Images/cat/00.jpg") + 32] ^= 0xFF
    archive.write_bytes(data)
    with pytest.raises(DatasetLayoutError, match="cannot be unpacked"):
        extract_album(archive, out)


def test_what_is_no_archive(tmp_path: Path, out: Path) -> None:
    (tmp_path / "photo.zip").write_bytes(b"\xff\xd8\xff not an archive" * 100)
    with pytest.raises(DatasetLayoutError, match="neither a zip nor a tar archive"):
        extract_album(tmp_path / "photo.zip", out)
    with pytest.raises(DatasetLayoutError, match="is not a file"):
        extract_album(tmp_path, out)
