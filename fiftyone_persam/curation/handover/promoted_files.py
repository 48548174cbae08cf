"""Files of promoted masks: new names every time, and what becomes of the old ones.

A label that somebody has kept, in a clone of the field or of the dataset, names its file for ever:
so no file is written twice, and one is removed only when no dataset names it any more.
"""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import fiftyone as fo

from ...datasets.photo_copies import copy_file
from ...errors import PersamError, RunConflictError
from ..checks import folder_path
from ..database import make_durable, photos_of
from ..fiftyone_api import dataset_id
from ..named_files import remove_unnamed
from ..runs.folders import check_writable, read_mark
from ..runs.journal import begin, end
from ..runs.lease import Lease

_OURS = re.compile(r"([0-9a-f]{24})(?:-([0-9a-f]{12}))?\.[A-Za-z0-9]+")

Batch = tuple[str, str]
"""A folder and the mark that one promotion's files in it have in their names."""


class NewFiles:
    """Files that one promotion writes: all of them are there before the first label is.

    Args:
        dataset: the photos'.
        label_field: where they go.
        masks_dir: the user's choice; default: a folder named after the field beside the run's, and
            in the dataset's own folder where that belongs to another dataset.
    """

    def __init__(self, dataset: Any, label_field: str, masks_dir: Any = None) -> None:
        self._dataset, self._name = dataset, f"{label_field}_masks"
        self._chosen = None if masks_dir is None else _masks_folder(masks_dir)
        self._mark = uuid.uuid4().hex[:12]
        self.folders: set[Path] = set()

    def prepare(self, sources: Iterable[str]) -> None:
        """Choose the folders for copies of these files.

        Raises:
            PersamError: one cannot be written to.
        """
        self.folders = {self._folder(Path(source).parent) for source in sources}
        for folder in self.folders:
            check_writable(folder)

    @property
    def batches(self) -> list[Batch]:
        """What has to be looked at after a cut."""
        return [(str(folder), self._mark) for folder in sorted(self.folders)]

    def copy(self, sample_id: str, source: str) -> str:
        """Copy a mask; the new file, which is whole or not there.

        Raises:
            PersamError: the source cannot be read, or the copy cannot be written.
        """
        path = Path(source)
        target = self._folder(path.parent) / f"{sample_id}-{self._mark}{path.suffix}"
        part = target.with_name(f".{target.name}.part")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            copy_file(path, part)
            os.replace(part, target)
        except OSError as error:
            raise _not_written(target.parent, error) from None
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)
        return str(target)

    def _folder(self, source: Path) -> Path:
        if self._chosen is not None:
            return self._chosen
        owner = (read_mark(source) or {}).get("dataset_id")
        if owner is None or owner == str(dataset_id(self._dataset)):
            return source.parent / self._name
        base = Path(fo.config.default_dataset_dir).absolute() / self._dataset.slug / "persam"
        return base / self._name


@contextmanager
def promoting(
    dataset: Any, label_field: str, files: NewFiles, replaced: Iterable[Batch]
) -> Iterator[None]:
    """Write labels with new files: in the end no file is left that no label names.

    Whoever comes after a process that was killed removes what it has left.

    Args:
        dataset: the dataset.
        label_field: where labels are written; by one process at a time.
        files: the new ones.
        replaced: the promotions whose files may be left over.
    """
    name = f"*{label_field}*"  # no run can have this name
    details = {"batches": sorted({*files.batches, *replaced})}
    made = [folder for folder in files.folders if not folder.exists()]
    with Lease(dataset, name, what=f"field {label_field!r}"):
        begin(dataset, name, "promote", details)
        try:
            yield
        finally:
            make_durable()
            clear(dataset, details)
            for folder in made:
                with suppress(OSError):  # files are in it
                    folder.rmdir()
            end(dataset, name, "promote")


def clear(dataset: Any, details: dict[str, Any]) -> None:
    """Remove files of promotions that no dataset names any more; see `promoting`."""
    batches = [(str(folder), str(mark)) for folder, mark in details["batches"]]
    # Files of the first versions have no mark: only those of this dataset's photos.
    known = set(photos_of(dataset).values("id")) if any(not mark for _, mark in batches) else set()
    candidates = []
    for folder, mark in batches:
        with suppress(OSError):  # the folder is gone
            for name in os.listdir(folder):
                found = _OURS.fullmatch(name.removeprefix(".").removesuffix(".part"))
                if found and (found[2] or "") == mark and (mark or found[1] in known):
                    candidates.append(Path(folder, name))
    if candidates:
        remove_unnamed(candidates)


def batch_of(sample_id: str, path: str | None, run: str | None) -> Batch | None:
    """The batch that the file of a label belongs to; None if no promotion has written it.

    Args:
        sample_id: the photo.
        path: the label's ``mask_path``.
        run: the label's ``persam_run``.
    """
    found = _OURS.fullmatch(os.path.basename(path)) if path and run is not None else None
    if path is None or found is None or found[1] != sample_id:
        return None
    return os.path.dirname(path), found[2] or ""


def _masks_folder(masks_dir: Any) -> Path:
    folder = folder_path("masks_dir", masks_dir)
    check_writable(folder)
    if (mark := read_mark(folder)) is not None:
        raise RunConflictError(
            f"folder {folder} belongs to run {mark.get('run')!r} of dataset "
            f"{mark.get('dataset')!r}: choose another masks_dir"
        )
    return folder


def _not_written(folder: Path, error: OSError) -> PersamError:
    reason = error.strerror or type(error).__name__
    return PersamError(
        f"masks cannot be written into {folder} ({reason}): mend that, or choose another folder "
        "with masks_dir"
    )
