"""Albums out of zip and tar archives, without trusting the archive. No FiftyOne."""

from __future__ import annotations

import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from ..errors import DatasetLayoutError
from .layout import ANNOTATIONS, IMAGES

MOST_FILES = 200_000
MOST_BYTES = 50 * 2**30
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Member:
    """A file in an archive: its path there, and how to read it; ``kind`` names anything else."""

    path: str
    kind: str
    open: Callable[[], IO[bytes] | None]


def extract_album(archive: Path, folder: Path) -> None:
    """Unpack the ``Images`` and ``Annotations`` folders of an archive, wherever they are in it.

    Other files stay packed. Nothing is written outside ``folder``: a member that is absolute, leads
    upwards or is a link, device or the like makes the whole archive unwelcome.

    Args:
        archive: .zip or .tar, the latter compressed or not.
        folder: an existing folder that gets ``Images`` and ``Annotations``.

    Raises:
        DatasetLayoutError: no such archive, a damaged or hostile one, too large, or no album.
    """
    with _reading(archive) as members:
        paths = _safe_paths(archive, members)
        root = _album_root(archive, paths)

        def inside(path: PurePosixPath) -> PurePosixPath | None:
            inner = path.parts[len(root) :]
            wanted = len(inner) == 3 and inner[0] in (IMAGES, ANNOTATIONS)
            return PurePosixPath(*inner) if path.parts[: len(root)] == root and wanted else None

        _unpack(archive, members, paths, folder, inside)


def extract_folders(archive: Path, folder: Path, names: Sequence[str]) -> None:
    """Unpack the folders of some names, which stand side by side somewhere in an archive.

    Args:
        archive: as in `extract_album`.
        folder: an existing folder that gets them.
        names: of the folders; the first has to be there.

    Raises:
        DatasetLayoutError: no such archive, a damaged or hostile one, too large, or without the
            first folder.
    """
    with _reading(archive) as members:
        paths = _safe_paths(archive, members)
        found = [p.parts[: p.parts.index(names[0])] for p in paths if names[0] in p.parts[:-1]]
        if not found:
            raise DatasetLayoutError(f"{archive} has no folder {names[0]!r}: pass another archive")
        root = min(found, key=len)

        def inside(path: PurePosixPath) -> PurePosixPath | None:
            inner = path.parts[len(root) :]
            wanted = len(inner) > 1 and inner[0] in names
            return PurePosixPath(*inner) if path.parts[: len(root)] == root and wanted else None

        _unpack(archive, members, paths, folder, inside)


@contextmanager
def _reading(archive: Path) -> Iterator[list[_Member]]:
    """The members; whatever goes wrong on the way is the archive's fault, in one line."""
    try:
        with _opened(archive) as members:
            yield members
    except (OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise _refused(archive, str(error) or type(error).__name__) from error
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error) as error:
        raise _refused(archive, f"it is damaged ({error})") from error


@contextmanager
def _opened(archive: Path) -> Iterator[list[_Member]]:
    if not archive.is_file():
        raise DatasetLayoutError(f"{archive} is not a file: pass a .zip or .tar archive")
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            yield [_of_zip(file, info) for info in file.infolist() if not info.is_dir()]
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            yield [_of_tar(file, info) for info in file if not info.isdir()]
    else:
        raise _refused(archive, "it is neither a zip nor a tar archive")


def _of_zip(file: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    mode = info.external_attr >> 16
    special = stat.S_IFMT(mode) not in (0, stat.S_IFREG)
    # orig_filename: ZipFile cuts names at a NUL byte.
    return _Member(info.orig_filename, "a link" if special else "", lambda: file.open(info))


def _of_tar(file: tarfile.TarFile, info: tarfile.TarInfo) -> _Member:
    link = "a link" if info.issym() or info.islnk() else "a device"
    return _Member(info.name, "" if info.isreg() else link, lambda: file.extractfile(info))


def _safe_paths(archive: Path, members: list[_Member]) -> list[PurePosixPath]:
    if len(members) > MOST_FILES:
        raise _refused(archive, f"it has more than {MOST_FILES:,} files")
    return [_safe_path(archive, member) for member in members]


def _unpack(
    archive: Path,
    members: list[_Member],
    paths: list[PurePosixPath],
    folder: Path,
    inside: Callable[[PurePosixPath], PurePosixPath | None],
) -> None:
    """Copy what is wanted: ``inside`` gives its place in the folder, or None."""
    left = MOST_BYTES
    for member, path in zip(members, paths, strict=True):
        inner = inside(path)
        if inner is None or _hidden(path):
            continue
        target = folder.joinpath(*inner.parts)
        if target.exists():
            raise _refused(archive, f"it has {member.path!r} twice")
        target.parent.mkdir(parents=True, exist_ok=True)
        source = member.open()
        if source is None:
            raise _refused(archive, f"{member.path!r} cannot be read")
        with source, target.open("xb") as file:
            # Headers may lie about sizes, so what really comes out is counted.
            while chunk := source.read(_CHUNK):
                left -= len(chunk)
                if left < 0:
                    raise _refused(archive, f"it unpacks to more than {MOST_BYTES >> 30} GiB")
                file.write(chunk)


def _safe_path(archive: Path, member: _Member) -> PurePosixPath:
    path = PurePosixPath(member.path)
    inside = not path.is_absolute() and ".." not in path.parts
    plain = not any(sign in member.path for sign in ("\\", "\0", ":"))
    if not (inside and plain):
        raise _refused(archive, f"its member {member.path!r} would leave the folder")
    if member.kind:
        raise _refused(archive, f"its member {member.path!r} is {member.kind}, not a file")
    return path


def _album_root(archive: Path, paths: list[PurePosixPath]) -> tuple[str, ...]:
    """The folder inside the archive that holds both folders of an album."""
    found: dict[str, dict[tuple[str, ...], None]] = {IMAGES: {}, ANNOTATIONS: {}}
    for path in paths:
        for name, roots in found.items():
            if len(path.parts) >= 3 and path.parts[-3] == name and not _hidden(path):
                roots[path.parts[:-3]] = None
    for root in found[IMAGES]:
        if root in found[ANNOTATIONS]:
            return root
    raise DatasetLayoutError(
        f"{archive} holds no album: it needs {IMAGES}/<object>/00.jpg and "
        f"{ANNOTATIONS}/<object>/00.png, in any folder"
    )


def _hidden(path: PurePosixPath) -> bool:
    """What macOS adds to archives, and hidden files."""
    return any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def _refused(archive: Path, reason: str) -> DatasetLayoutError:
    return DatasetLayoutError(f"{archive} cannot be unpacked: {' '.join(reason.split())}")


def copy_file(source: Path, target: Path) -> None:
    """Copy contents alone: no links, no permissions."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
