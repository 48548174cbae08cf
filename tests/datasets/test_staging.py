from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

from fiftyone_persam.datasets import staging
from fiftyone_persam.datasets.photo_copies import copy_file
from fiftyone_persam.datasets.staging import MARKER, check_folder, staged
from fiftyone_persam.errors import PersamError
from tests import small_disks
from tests.curation.discs import Make, files_of


def put(folder: Path, overwrite: bool = False, **files: str) -> None:
    """Export files: name (a double underscore is a folder's) -> content."""
    with staged(folder, overwrite) as stage:
        for name, content in files.items():
            path = stage.path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)


def content(folder: Path) -> dict[str, str]:
    return {name: (folder / name).read_text() for name in files_of(folder) if name != MARKER}


def hidden(folder: Path) -> list[str]:
    names = [p.name for p in folder.iterdir() if p.name != MARKER]
    return [name for name in names if name.startswith(".fiftyone-persam-")]


@pytest.mark.parametrize("added", [None, "mine.txt", "data/mine.txt"])
def test_an_earlier_export_is_replaced(tmp_path: Path, added: str | None) -> None:
    out = tmp_path / "deep" / "out"
    put(out, data__a="1", data__b="2", old__c="3")
    mine = {}
    if added is not None:
        (out / added).write_text("mine")
        mine = {added: "mine"}
    with pytest.raises(PersamError, match="is not empty"):
        put(out, data__a="4")
    put(out, True, data__a="4", new="5")
    assert content(out) == {"data/a": "4", "new": "5", **mine}
    assert not (out / "old").exists() and hidden(out.parent) == []
    assert sorted(json.loads((out / MARKER).read_text())["files"]) == ["data/a", "new"]
    assert out.stat().st_mode & 0o777 == (tmp_path / "deep").stat().st_mode & 0o777


def test_a_folder_that_somebody_made_stays(tmp_path: Path) -> None:
    put(tmp_path / "out", a="1")
    (tmp_path / "out" / "later").mkdir()
    put(tmp_path / "out", True, a="2")
    assert content(tmp_path / "out") == {"a": "2"} and (tmp_path / "out" / "later").is_dir()


def test_a_linked_folder_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "disk")
    put(tmp_path / "out", a="1")
    put(tmp_path / "out", True, b="2")
    assert (tmp_path / "out").is_symlink() and content(tmp_path / "disk") == {"b": "2"}


def test_files_of_datasets_stay(dataset: Make, tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, a="1", b="2", c="3", d="4")
    dataset([fo.Sample(str(out / "a")), fo.Sample(str(out / "b")), fo.Sample(str(out / "e"))])
    with pytest.raises(PersamError, match=r"out/b is a file of a dataset.*choose another folder"):
        put(out, True, b="another")
    with pytest.raises(PersamError, match=r"out/e is a file of a dataset"):
        put(out, True, e="of a photo that is gone")
    assert content(out) == {"a": "1", "b": "2", "c": "3", "d": "4"}
    inode = (out / "b").stat().st_ino
    put(out, True, b="2", c="5")
    assert content(out) == {"a": "1", "b": "2", "c": "5"}
    assert (out / "b").stat().st_ino == inode
    with pytest.raises(PersamError, match="not of the earlier export"):
        (out / "mine").write_text("mine")
        put(out, True, mine="theirs")


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError, PersamError("no"), ValueError])
def test_an_error_leaves_all_as_it_was(tmp_path: Path, error: Any) -> None:
    put(tmp_path / "out", a="1")
    expected = (PersamError, KeyboardInterrupt, ValueError)
    with pytest.raises(expected), staged(tmp_path / "out", True) as stage:
        (stage.path / "a").write_text("2")
        raise error
    with pytest.raises(expected), staged(tmp_path / "some" / "new") as stage:
        raise error
    assert content(tmp_path / "out") == {"a": "1"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


NAMES = ["..", "../novel", ".", "", "/etc/passwd", "data/../../novel", "data", 7, None]


def test_a_list_of_files_may_come_from_a_stranger(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, data__a="1")
    (tmp_path / "novel").write_text("chapter one")
    names = [*NAMES, str(tmp_path / "novel"), "data/a"]
    (out / MARKER).write_text(json.dumps({"files": names}))
    assert check_folder(out, True) == ["data/a"]
    put(out, True, b="2")
    assert (tmp_path / "novel").read_text() == "chapter one"


KILLED = """
import os, sys
from pathlib import Path
from fiftyone_persam.datasets import staging
staging.named_files = lambda paths: set()  # no database
folder, event = Path(sys.argv[1]), sys.argv[2]
if event == "swap":
    rename = os.rename
    os.rename = lambda one, other: os.kill(os.getpid(), 9) if Path(other) == folder else (
        rename(one, other))
with staging.staged(folder, True) as stage:
    (stage.path / "a").write_text("2")
    if event == "staged":
        os.kill(os.getpid(), 9)
"""


@pytest.mark.parametrize("event", ["staged", "swap"])
def test_what_a_killed_export_leaves_is_cleaned_up(tmp_path: Path, event: str) -> None:
    out = tmp_path / "out"
    put(out, a="1")
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), event], capture_output=True)
    assert done.returncode == -9, done.stderr
    (left,) = hidden(tmp_path)
    assert out.exists() == (event == "staged")
    live, other = staging._prefix(out), staging._prefix(tmp_path / "other")
    host, pid, started, token = left.split(".")[2:]
    others = [
        f"{live}elsewhere.{pid}.{started}.{token}",  # of another machine
        f"{live}{host}.{os.getppid()}.{int(staging.psutil.Process(os.getppid()).create_time())}.x",
        f"{other}{host}.{pid}.{started}.{token}",  # of another folder
    ]
    for name in others:
        (tmp_path / name).mkdir()
    with pytest.raises(ZeroDivisionError), staged(out, True) as stage:
        assert {stage.path.parent.name, *others} == set(hidden(tmp_path))
        1 / 0  # noqa: B018
    assert content(out) == {"a": "1"}  # also where it was moved away
    put(out, True, b="3")
    assert content(out) == {"b": "3"} and sorted(hidden(tmp_path)) == sorted(others)


def test_an_export_goes_on_where_one_was_killed_between_the_moves(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, a="1")
    done = subprocess.run([sys.executable, "-c", KILLED, str(out), "swap"], capture_output=True)
    assert done.returncode == -9 and not out.exists(), done.stderr
    put(out, True, a="3")
    assert content(out) == {"a": "3"} and hidden(tmp_path) == []


def test_two_exports_into_one_folder_at_once(tmp_path: Path) -> None:
    occupied = pytest.raises(PersamError, match="out/a is not of the earlier export")
    with occupied, staged(tmp_path / "out") as first:
        (first.path / "a").write_text("1")
        put(tmp_path / "out", a="2")
        assert hidden(tmp_path) == [first.path.parent.name]
    assert content(tmp_path / "out") == {"a": "2"}


# Full disks ---------------------------------------------------------------------------------------


def test_a_full_disk_is_not_the_photo_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = tmp_path / "photo.jpg"
    photo.write_bytes(bytes(1000))

    class Full:
        def __enter__(self) -> Full:
            return self

        def __exit__(self, *args: Any) -> None:
            pass

        def write(self, data: bytes) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    real = Path.open

    def full(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        return Full() if "w" in mode else real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(PersamError) as raised, staged(tmp_path / "out") as stage:
        copy_file(photo, stage.path / "a.jpg")
    assert "photo.jpg" not in str(raised.value)
    assert f"{tmp_path / 'out'} cannot be written (No space left on device): make room" in str(
        raised.value
    )
    assert os.listdir(tmp_path) == ["photo.jpg"]


def test_a_photo_that_cannot_be_read_is_to_blame(tmp_path: Path) -> None:
    unreadable = pytest.raises(PersamError, match=r"gone.jpg does not exist")
    with unreadable, staged(tmp_path / "out") as stage:
        copy_file(tmp_path / "gone.jpg", stage.path / "a.jpg")


@pytest.fixture
def mounted(tmp_path: Path) -> Any:
    """A disk of one megabyte."""
    with small_disks.mounted(tmp_path, "1m") as disk:
        yield disk


def test_a_mounted_disk_is_written_and_overwritten(mounted: Path) -> None:
    put(mounted, a="1")
    assert content(mounted) == {"a": "1"}
    with pytest.raises(PersamError, match="No space left on device"):
        put(mounted, True, a="2" * 2_000_000)
    assert content(mounted) == {"a": "1"} and hidden(mounted) == []
    put(mounted, True, b="2")
    assert content(mounted) == {"b": "2"} and hidden(mounted) == []
