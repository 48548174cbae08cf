"""What somebody has deleted of a run by hand: fields, mask files, their folder."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from ...engine.rendering import ABSENT
from ...errors import PersamError
from .. import database
from . import queries
from .fields import RunFields, read_fields
from .presence import is_absent, presence_threshold
from .suffixes import PRESENCE, WITHHELD

_EMPTY = f".{ABSENT}.png"


def done_ids(dataset: Any, name: str) -> set[str]:
    """The photos that have a mask of a run."""
    return set(queries.ids(database.photos_of(dataset), queries.done(name)))


def kept_ids(dataset: Any, name: str) -> set[str]:
    """The photos that have all labels of a run, and their files are there; others are made again.

    Reads folders, not files: a hundred thousand masks cost a second.
    """
    fields, done = read_fields(dataset, name), done_ids(dataset, name)
    for field in (fields.masks, fields.instances):
        if done and field is not None and field != name:
            done &= done_ids(dataset, field)
    if not done:
        return done
    return done - lost_files(dataset, name).keys() - lost_withheld(dataset, fields)


def lost_fields(dataset: Any, fields: RunFields) -> list[str]:
    """The fields of a run that somebody has deleted; see `lost_withheld` for those of withheld."""
    return [
        name
        for name in fields.types()
        if not name.endswith(WITHHELD) and not dataset.has_field(name)
    ]


def lost_files(dataset: Any, name: str, ids: Iterable[str] | None = None) -> dict[str, str]:
    """Sample id -> the first file of a run's masks, shown or withheld, that is not there.

    Args:
        dataset: the run's dataset.
        name: the run's name.
        ids: the photos to look at; all if None.
    """
    fields = read_fields(dataset, name)
    paths: list[str] = []
    for field in (fields.masks, fields.instances):
        suffix = "mask_path" if field == fields.masks else "detections.mask_path"
        for label in (field, f"{field}{WITHHELD}"):
            if field is not None and dataset.has_field(label):
                paths.append(f"{label}.{suffix}")
    photos, lost, files = database.photos_of(dataset), dict[str, str](), Files()
    parts = [None] if ids is None else database.in_parts(ids)
    for part in parts if paths else ():
        view = photos if part is None else photos.select(part)
        known, *columns = view.values(["id", *paths])
        for column in columns:
            for sample_id, value in zip(known, column, strict=True):
                named = value if isinstance(value, list) else [value]
                gone = next((one for one in named if one and one not in files), None)
                if gone is not None:
                    lost.setdefault(sample_id, gone)
    return lost


def lost_withheld(dataset: Any, fields: RunFields) -> set[str]:
    """Photos whose mask was emptied, and what was found in them is gone with its field."""
    lost: set[str] = set()
    for field in (fields.masks, fields.instances):
        gone = field is not None and not dataset.has_field(f"{field}{WITHHELD}")
        if gone and dataset.has_field(field):
            lost |= _emptied(dataset, fields, str(field))
    return lost


def _emptied(dataset: Any, fields: RunFields, field: str) -> set[str]:
    photos = database.photos_of(dataset).exists(field)
    presence = f"{fields.run}{PRESENCE}"
    names = ["id"]
    names += [presence] if dataset.has_field(presence) else []
    names += [f"{field}.mask_path"] if field == fields.masks else []
    columns = dict(zip(names, photos.values(names), strict=True))
    ids = columns["id"]
    blank: list[Any] = [None] * len(ids)
    threshold = presence_threshold(dataset, fields.run)
    absent = [is_absent(value, threshold) for value in columns.get(presence, blank)]
    # Files of emptied masks tell it by their names; what is inline, or instances, by the presence.
    files = columns.get(f"{field}.mask_path", blank)
    rows = zip(ids, absent, files, strict=True)
    return {i for i, low, file in rows if (file.endswith(_EMPTY) if file else low)}


def withheld_ids(dataset: Any, run: str) -> set[str]:
    """The photos whose mask waits while the object counts as absent."""
    return withheld_of(dataset, read_fields(dataset, run))


def withheld_of(dataset: Any, fields: RunFields) -> set[str]:
    """Like `withheld_ids`, by the run's fields."""
    return done_ids(dataset, f"{fields.masks or fields.instances}{WITHHELD}")


def low_presence(dataset: Any, run: str, threshold: float) -> dict[str, Any]:
    """The query for photos in which the object counts as absent at a threshold.

    Where their presence was deleted by hand, what is withheld still tells it.
    """
    if dataset.has_field(f"{run}{PRESENCE}"):
        return queries.below(run, threshold)
    fields = read_fields(dataset, run)
    return queries.done(f"{fields.masks or fields.instances}{WITHHELD}")


def check_has_masks(dataset: Any, run: str) -> None:
    """Raise PersamError if somebody has deleted the main field of a run that is there."""
    if not dataset.has_field(run):
        raise PersamError(
            f"run {run!r} has no masks, because field {run!r} was deleted: resume_run(dataset, "
            f"{run!r}) makes them again"
        )


class Files:
    """Which files there are, by a look into each folder rather than at each file.

    Args:
        of_any_kind: whether folders, pipes and devices count, too.
    """

    def __init__(self, of_any_kind: bool = False) -> None:
        self._folders: dict[str, set[str]] = {}
        self._any = of_any_kind

    def __contains__(self, path: str) -> bool:
        folder, name = os.path.split(path)
        if folder not in self._folders:
            try:
                found = {e.name for e in os.scandir(folder) if self._counts(e)}
            except OSError:
                found = set()
            self._folders[folder] = found
        return name in self._folders[folder]

    def _counts(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_file() or (self._any and os.path.exists(entry.path))
