"""Exports that are whole or not there, and that never touch a file which a dataset names.

Everything is written into a hidden folder beside the one to write, and put in place at the end. An
export that was killed leaves its hidden folder, which the next one into that place removes.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import json
import os
import re
import shutil
import socket
import uuid
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import psutil

from ..errors import DatasetLayoutError, PersamError
from .named_files import files_below, folded, named_files

MARKER = ".fiftyone-persam-export"
"""Left in every exported folder with the list of its files: only these are ever replaced."""

_NEW, _OLD = "new", "earlier"
# The reader of a file cannot be to blame for these.
_WRITING = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG}


@dataclass
class Stage:
    """An export in preparation.

    Attributes:
        folder: where it goes in the end.
        path: where it is prepared; empty at first.
        earlier: files of an earlier export, which the new one replaces, relative to ``folder``.
        named: files in ``folder`` that a dataset of this database names: they stay as they are.
    """

    folder: Path
    path: Path
    earlier: frozenset[str] = frozenset()
    named: frozenset[str] = frozenset()
    _folded: dict[str, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._folded = {folded(name): name for name in self.named}

    def fits(self, name: str, source: Path | None = None) -> bool:
        """Whether a file may get this name: none that a dataset names has it, or the same content.

        Args:
            name: relative to the folder.
            source: what would be written there; None if that is not known.
        """
        there = self._folded.get(folded(name))
        return there is None or (source is not None and same_file(self.folder / there, source))

    def own_name(self, source: str | os.PathLike[str]) -> str | None:
        """The name in the folder of a photo that is in it already, and that a dataset names."""
        place = os.path.realpath(os.path.dirname(os.path.join(os.getcwd(), source)))
        home = os.path.realpath(self.folder)
        if place != home and not place.startswith(home.rstrip(os.sep) + os.sep):
            return None
        name = os.path.relpath(os.path.join(place, os.path.basename(source)), home)
        return self._folded.get(folded(Path(name).as_posix()))


@contextmanager
def staged(folder: Path, overwrite: bool = False) -> Iterator[Stage]:
    """Prepare an export aside, and put it in place at the end; an error leaves all as it was.

    Args:
        folder: where to export: empty or missing unless ``overwrite``.
        overwrite: replace the files of an earlier export, which has left a list of them. Files that
            somebody added, and those that a dataset of this database names, stay as they are.

    Raises:
        PersamError: the folder is occupied or cannot be written, or the export would replace a file
            that is not of an earlier one, or that a dataset names.
    """
    try:
        _clean_up(
            folder
        )  # an earlier export that was moved away comes back before it is looked for
    except OSError as error:
        raise _not_written(folder, error) from None
    earlier = check_folder(folder, overwrite)
    with staging(folder, earlier) as stage:
        yield stage
        put_in_place(stage, marked=True)


def check_folder(folder: Path, overwrite: bool) -> list[str]:
    """The files of an earlier export that a new one replaces, as paths inside ``folder``.

    Raises:
        PersamError: ``folder`` is a file, or holds something, and is not to be overwritten or
            holds no export.
    """
    if folder.is_file():
        raise PersamError(f"{folder} is a file: give a folder to export into")
    try:
        if not folder.is_dir() or not _content(folder):
            return []
    except OSError as error:
        raise _not_written(folder, error) from None
    if not overwrite:
        raise PersamError(f"{folder} is not empty: choose an empty folder")
    try:
        files = json.loads((folder / MARKER).read_text(encoding="utf-8"))["files"]
        named = [name for name in files if isinstance(name, str)]
    except (OSError, ValueError, KeyError, TypeError):
        # Never empty a folder that somebody filled with something else.
        raise PersamError(
            f"{folder} holds more than an earlier export: choose an empty folder"
        ) from None
    return [name for name in named if _is_inside(folder, name)]


@contextmanager
def staging(folder: Path, earlier: Collection[str] = ()) -> Iterator[Stage]:
    """A stage that is gone in the end, whatever happens; nothing is put in place.

    Args:
        folder: where the export goes.
        earlier: files in it that may be replaced.

    Raises:
        PersamError: the folder cannot be written, or a file to export cannot be read.
    """
    made = [parent for parent in folder.parents if not parent.exists()]
    aside: Path | None = None
    try:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            _clean_up(folder)
            aside = _beside(folder)
            (aside / _NEW).mkdir()
            named = {path.relative_to(folder).as_posix() for path in named_files(_files_of(folder))}
        except OSError as error:
            raise _not_written(folder, error) from None
        yield Stage(folder, aside / _NEW, frozenset(earlier), frozenset(named))
    except OSError as error:
        raise _explained(folder, aside, error) from error
    finally:
        if aside is not None:
            shutil.rmtree(aside, ignore_errors=True)
        for parent in made:
            with suppress(OSError):  # something is in it
                parent.rmdir()


def put_in_place(stage: Stage, marked: bool = False, restore: bool = False) -> None:
    """Move what was prepared into its folder, in place of the earlier files.

    A folder that holds nothing but the earlier export is swapped as a whole.

    Args:
        stage: what was prepared.
        marked: leave a list of the files, so that a later export may replace them.
        restore: write files, too, that a dataset names and that are gone.

    Raises:
        PersamError: a file that is not of the earlier export, or that a dataset names, would be
            replaced.
    """
    folder = stage.folder
    files = [path.relative_to(stage.path).as_posix() for path in files_below(stage.path)]
    present = [path.relative_to(folder).as_posix() for path in _files_of(folder)]
    # Asked once more: an export takes long, and others work meanwhile.
    asked = {name: folder / name for name in {*files, *present}}
    named_paths = named_files(asked.values())
    named = {name for name, path in asked.items() if path in named_paths}
    if restore:
        named = {name for name in named if os.path.lexists(asked[name])}
    unchanged = _checked(stage, files, named)
    if marked:
        _mark(stage.path, files)
    if not named and _swap(stage, present):
        return
    files = [name for name in files if name not in unchanged]
    stale = [name for name in stage.earlier if name not in named]
    kept = [name for name in stage.earlier if name in named]
    folder.mkdir(exist_ok=True)
    if marked:
        # Listed first: a move that is cut off can be overwritten.
        _mark(folder, {*files, *unchanged, *stale, *kept})
    for name in stale:
        (folder / name).unlink(missing_ok=True)
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(stage.path / name, folder / name)
    for name in stale:
        _remove_empty((folder / name).parent, folder)
    if marked:
        # What stays for a dataset's sake is of an export still, and goes when nobody names it.
        _mark(folder, {*files, *unchanged, *kept})


# ----------------------------------------------------------------------------------------------


def _is_inside(folder: Path, name: str) -> bool:
    """Whether this is a file in a folder: lists of files may come from strangers."""
    path = PurePosixPath(name)
    plain = bool(path.name) and not path.is_absolute() and ".." not in path.parts
    target, home = folder / path, folder.resolve()
    if not plain or (target.is_dir() and not target.is_symlink()):
        return False
    return target.parent.resolve() == home or home in target.parent.resolve().parents


def _checked(stage: Stage, files: list[str], named: set[str]) -> set[str]:
    """The files that are in the folder already, byte for byte; raise for those of others."""
    unchanged = set()
    for name in files:
        target = stage.folder / name
        if name in named:
            if not same_file(target, stage.path / name):
                raise DatasetLayoutError(
                    f"{target} is a file of a dataset, and the export would replace it: choose "
                    "another folder"
                )
            unchanged.add(name)
        elif name not in stage.earlier and os.path.lexists(target):
            raise DatasetLayoutError(
                f"{target} is not of the earlier export: move it, or choose another folder"
            )
    return unchanged


def _swap(stage: Stage, present: Collection[str]) -> bool:
    """Swap the whole folder for the new one; False if something else is in it, or the system says
    no, as for a mounted disk.
    """
    if stage.folder.is_symlink() or not set(present) <= {*stage.earlier, MARKER}:
        return False
    if any(not (folders or files) for _, folders, files in os.walk(stage.folder) if present):
        return False  # somebody's folder, empty yet
    old = stage.path.parent / _OLD
    try:
        there = stage.folder.exists()
        if there:
            shutil.copymode(stage.folder, stage.path)
            os.rename(stage.folder, old)
    except OSError:
        return False
    try:
        os.rename(stage.path, stage.folder)
    except OSError:
        if there:
            os.rename(old, stage.folder)
        return False
    return True


def _mark(folder: Path, files: Iterable[str]) -> None:
    draft = folder / f"{MARKER}.part"
    draft.write_text(json.dumps({"files": sorted(files)}), encoding="utf-8")
    os.replace(draft, folder / MARKER)


def same_file(one: Path, other: Path) -> bool:
    """Whether two files have the same content."""
    try:
        return filecmp.cmp(one, other, shallow=False)
    except OSError:
        return False


def _remove_empty(inner: Path, folder: Path) -> None:
    with suppress(OSError):  # something is in it
        while inner != folder and inner.is_relative_to(folder):
            inner.rmdir()
            inner = inner.parent


# Hidden folders -------------------------------------------------------------------------------


def _beside(folder: Path) -> Path:
    """A new hidden folder on the same disk as ``folder``, named after its maker."""
    started = int(psutil.Process().create_time())
    name = f"{_prefix(folder)}{_host()}.{os.getpid()}.{started}.{uuid.uuid4().hex[:8]}"
    there = Path(os.path.realpath(folder))
    if there.is_dir() and there.stat().st_dev != there.parent.stat().st_dev:
        places = [there]  # a mounted disk: nothing can be moved into it from outside
    else:
        places = [there.parent, there] if there.is_dir() else [there.parent]
    for place in places:
        try:
            (place / name).mkdir()
        except PermissionError:
            if place == places[-1]:
                raise
        else:
            break
    return place / name


def _clean_up(folder: Path) -> None:
    """Remove hidden folders of exports into this place whose processes are gone."""
    there = Path(os.path.realpath(folder))
    for place in (there.parent, there):
        if not place.is_dir():
            continue
        for entry in [e for e in os.scandir(place) if e.name.startswith(_prefix(folder))]:
            if not _is_live(entry.name):
                old = Path(entry.path, _OLD)
                if old.is_dir() and not there.exists():
                    os.rename(old, there)  # killed between the two moves of a swap
                shutil.rmtree(entry.path, ignore_errors=True)


def _content(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if not name.startswith(_prefix(folder))]


def _files_of(folder: Path) -> list[Path]:
    prefix = _prefix(folder)
    found = files_below(folder)
    return [path for path in found if not path.relative_to(folder).parts[0].startswith(prefix)]


def _prefix(folder: Path) -> str:
    name = os.path.basename(os.path.realpath(folder))
    return f".fiftyone-persam-{hashlib.sha256(os.fsencode(name)).hexdigest()[:12]}."


def _is_live(name: str) -> bool:
    """Whether the process that made a hidden folder is at work, as far as this machine can tell."""
    *_, host, pid, started, _ = name.split(".")
    if host != _host():
        return True
    try:
        return abs(psutil.Process(int(pid)).create_time() - int(started)) < 2
    except (ValueError, psutil.NoSuchProcess):
        return False
    except psutil.Error:  # it is there, but somebody else's
        return True


def _host() -> str:
    return re.sub("[^0-9A-Za-z-]", "-", socket.gethostname())[:40]


# What went wrong ------------------------------------------------------------------------------


def _explained(folder: Path, aside: Path | None, error: OSError) -> PersamError:
    source = error.filename
    if error.errno in _WRITING or not isinstance(source, str) or error.filename2 is not None:
        return _not_written(folder, error)
    for inside in (folder, aside):
        if inside is not None and Path(source).is_relative_to(inside):
            return _not_written(folder, error)
    return _not_read(source, error)


def _not_written(folder: Path, error: OSError) -> PersamError:
    reason = error.strerror or str(error) or type(error).__name__
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return PersamError(f"{folder} cannot be written ({reason}): make room, or choose another")
    return PersamError(f"{folder} cannot be written ({reason}): choose another folder")


def _not_read(source: str | os.PathLike[str], error: OSError) -> PersamError:
    reason = error.strerror or type(error).__name__
    return PersamError(
        f"{os.fspath(source)} cannot be read ({reason}): restore it, or leave its photo out"
    )
