"""The folder of a run's mask files: where it is, whose it is, and how it is removed.

A run removes only files that it can have written, names made of sample ids in a folder that has its
own mark, and of those only the ones that no field of any dataset names. So a folder that somebody
chose by mistake, the files of a cloned dataset's original, and those that a copy of the run's field
names are never touched.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import uuid
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

import fiftyone as fo

from ...engine.rendering import ABSENT
from ...engine.writing import PART_SUFFIX, write_bytes
from ...errors import PersamError, RunConflictError
from ..checks import folder_path
from ..database import make_durable
from ..fiftyone_api import dataset_id, stored_runs
from ..named_files import remove_unnamed

MARK = ".fiftyone-persam-run.json"
_OURS = re.compile(r"[0-9a-f]{24}(\.[a-z0-9]+){0,2}\.png")
_PART = re.compile(rf"\.[0-9a-zA-Z_.-]+\.[0-9a-f]{{32}}{re.escape(PART_SUFFIX)}")


def choose_folder(
    dataset: Any, run: str, masks_dir: str | os.PathLike[str] | None, run_id: str
) -> Path:
    """Where a new run's masks go. Makes nothing.

    Args:
        dataset: the run's dataset.
        run: the run's name.
        masks_dir: the user's choice, or None for a free folder in FiftyOne's dataset folder.
        run_id: the run's own id.

    Raises:
        RunConflictError: the chosen folder belongs to another run.
        PersamError: the chosen folder is a file, or cannot be written to.
    """
    if masks_dir is not None:
        folder = folder_path("masks_dir", masks_dir)
        owner = read_mark(folder)
        if owner is not None and owner.get("run_id") != run_id:
            raise RunConflictError(
                f"folder {folder} belongs to run {owner.get('run')!r} of dataset "
                f"{owner.get('dataset')!r}: choose another masks_dir"
            )
        check_writable(folder)
        return folder
    base = Path(fo.config.default_dataset_dir).absolute() / dataset.slug / "persam"
    folder, number = base / run, 1
    while not is_free(folder, run_id):
        number += 1
        folder = base / f"{run}-{number}"
    check_writable(folder)
    return folder


def is_free(folder: Path, run_id: str) -> bool:
    """Whether a folder is this run's, or nobody's: it has at most a mark that was cut off."""
    if (mark := read_mark(folder)) is not None:
        return bool(mark.get("run_id") == run_id)
    if folder.exists() and not folder.is_dir():
        return False
    return all(name.startswith(f".{MARK}") and _PART.fullmatch(name) for name in _names(folder))


def claim_folder(folder: Path, dataset: Any, run: str, run_id: str) -> None:
    """Make the folder and mark it as the run's."""
    mark = {
        "run_id": run_id,
        "run": run,
        "dataset": dataset.name,
        "dataset_id": str(dataset_id(dataset)),
    }
    write_bytes(json.dumps(mark).encode(), folder / MARK)
    _remove_parts(folder, MARK)  # of a process that was killed before the folder was anybody's


def read_mark(folder: Path) -> dict[str, Any] | None:
    """What `claim_folder` wrote, or None."""
    try:
        mark = json.loads((folder / MARK).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return mark if isinstance(mark, dict) else None


def owns_folder(folder: Path, dataset: Any, run_id: str) -> bool:
    """Whether a folder carries this run's mark, made for this very dataset."""
    mark = read_mark(folder) or {}
    return mark.get("run_id") == run_id and mark.get("dataset_id") == str(dataset_id(dataset))


def is_of_dataset(folder: Path, dataset: Any) -> bool:
    """Whether a folder carries the mark of a run of this very dataset."""
    return (read_mark(folder) or {}).get("dataset_id") == str(dataset_id(dataset))


def samples_of(paths: Iterable[str]) -> list[str]:
    """One of the files in each folder."""
    return sorted({os.path.dirname(path): path for path in paths}.values())


def clear_orphans(paths: Iterable[str]) -> None:
    """Remove files that nobody names any more from folders of runs that are gone.

    Whoever copied such a run's fields, and now lets go of its masks, is the last who can.

    Args:
        paths: mask files that somebody has let go of.
    """
    for folder in sorted({Path(os.path.dirname(path)) for path in paths}):
        mark = read_mark(folder)
        if mark is not None and not _has_owner(mark):
            _remove_files(folder)


def _has_owner(mark: dict[str, Any]) -> bool:
    """Whether the run that marked a folder is there; a clone's has the same id, and another home"""
    known = stored_runs({"config.run_id": mark.get("run_id")})
    return any(str(one["_dataset_id"]) == mark.get("dataset_id") for one in known)


def new_tag() -> str:
    """Part of the names of files that are written beside earlier ones."""
    return uuid.uuid4().hex[:8]


def has_masks(folder: Path) -> bool:
    """Whether there are files in a folder whose names a run would write too."""
    return any(_OURS.fullmatch(name) for name in _names(folder))


def own_folder(dataset: Any, run: str, folder: Path, run_id: str) -> tuple[Path, str]:
    """The folder that a run may write into, and the id that marks it: a clone gets its own."""
    if owns_folder(folder, dataset, run_id):
        return folder, run_id
    new_id = uuid.uuid4().hex
    return choose_folder(dataset, run, None, new_id), new_id


def remove_folder(folder: Path, dataset: Any, run_id: str) -> int:
    """Remove a run's files that nobody names, and its folder if nothing else is in it.

    The mark stays with files that somebody still names: whoever lets go of them last removes both.

    Returns:
        how many mask files were removed; 0 if the folder is not this run's
    """
    if read_mark(folder) is None:
        _remove_parts(folder, MARK)  # killed before the folder was anybody's
        _remove_empty(folder)
    if not owns_folder(folder, dataset, run_id):
        return 0
    _remove_parts(folder)
    return _remove_files(folder)


def _remove_files(folder: Path) -> int:
    ours = [folder / name for name in _names(folder) if _OURS.fullmatch(name)]
    left = remove_unnamed(ours)
    if not left:
        (folder / MARK).unlink(missing_ok=True)
        _remove_empty(folder)
    return len(ours) - len(left)


def _remove_empty(folder: Path) -> None:
    with suppress(OSError):  # it is not there, or somebody keeps other files there
        folder.rmdir()
        folder.parent.rmdir()


def sweep(folder: Path, dataset: Any, run_id: str, named: Iterable[str]) -> None:
    """Remove files in a run's folder that nobody names any more, and those half written.

    Args:
        folder: the run's.
        dataset: its dataset.
        run_id: its id.
        named: paths that the run's own fields name: others are asked about the rest only.
    """
    kept = {os.path.basename(path) for path in named}
    remove_files(folder, dataset, run_id, (name for name in _names(folder) if name not in kept))


def remove_files(folder: Path, dataset: Any, run_id: str, files: Iterable[str]) -> None:
    """Remove those of a run's mask files that nobody names, and what is half written.

    Args:
        folder: the run's.
        dataset: its dataset.
        run_id: its id.
        files: names, or paths, of mask files; those in other folders stay.
    """
    if not owns_folder(folder, dataset, run_id):
        return
    _remove_parts(folder)
    paths = (folder / file for file in files)
    rest = [path for path in paths if path.parent == folder and _OURS.fullmatch(path.name)]
    if rest:
        make_durable()  # no file goes before the database has let go of it for good
        remove_unnamed(rest)


def emptied(folder: Path) -> set[str]:
    """The paths of a folder's files of masks that were emptied."""
    return {str(folder / name) for name in _names(folder) if name.endswith(f".{ABSENT}.png")}


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # it is not there
        return []


def check_removable(folder: Path, dataset: Any, run_id: str) -> None:
    """Raise PersamError if files of a run's folder cannot be removed."""
    if owns_folder(folder, dataset, run_id) and not os.access(folder, os.W_OK | os.X_OK):
        raise PersamError(
            f"files in {folder} cannot be removed (no permission to write there): get the "
            "permission, then try again"
        )


def _remove_parts(folder: Path, of: str = "") -> None:
    """Remove what a killed process left half written in a run's folder, of one file or of all."""
    for name in _names(folder):
        if name.startswith(f".{of}") and _PART.fullmatch(name):
            (folder / name).unlink(missing_ok=True)


def check_writable(folder: Path) -> None:
    """Raise PersamError if files cannot be made in a folder, which need not exist yet."""
    there = folder
    try:
        while not there.exists():
            there = there.parent
        if not there.is_dir():
            raise PersamError(
                f"masks cannot be written into {folder}: {there} is a file, choose a folder"
            )
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        reason = error.strerror or type(error).__name__
        name = str(folder)[-150:]
        raise PersamError(
            f"masks cannot be written into {name} ({reason}): choose another folder"
        ) from None
