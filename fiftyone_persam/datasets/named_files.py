"""Which files the datasets of this database name, and removing only those that none names.

A file may be named by any dataset (clones, grouped ones, frames of videos, patches) and in any
field of media: ``filepath``, ``mask_path`` and ``map_path`` of labels, the App's media fields, and
declared fields of texts called ``..._path`` or ``..._paths``. Spelling does not matter: paths are
compared by what they lead to, so through links, in relative form, and without case where the file
system ignores it.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import eta.core.utils as etau
import fiftyone.core.odm as foo

logger = logging.getLogger(__name__)

_PATH_NAME = re.compile(r"(.*_)?(file)?paths?")
_SEPARATORS = os.sep + (os.altsep or "")
_NOT_SEPARATOR = f"[^{re.escape(_SEPARATORS)}]"
_MOST_LINKS = 40  # as the kernel follows
_EMBEDDED = "EmbeddedDocumentField"
_OF_LABELS = ("mask_path", "map_path", "filepath")

_Identity = tuple[int, int]
_Folder = _Identity | str


def named_files(paths: Iterable[str | os.PathLike[str]]) -> set[Path]:
    """Those of ``paths`` that some dataset of this database names; they need not exist.

    A link counts as named where it is on the way to what a dataset names; a link *to* a named file
    that no dataset goes through does not. Hard links are one file.

    Args:
        paths: of files, in any spelling.

    Returns:
        The named ones, spelled as they were given.
    """
    wanted = _Wanted.of(Path(path) for path in paths)
    if not wanted.places:
        return set()
    found: set[Path] = set()
    looked: dict[str, _Look] = {}
    for collection, fields in _collections():
        for folder in _folders(collection, fields):
            if folder not in looked:
                looked[folder] = _look(folder, wanted)
            look = looked[folder]
            found |= look.named
            if look.names or look.exact:
                for value in _values(collection, fields, folder):
                    name = value[len(folder) :]
                    if name in look.exact or folded(name) in look.names:
                        found |= wanted.named_by(_absolute(value))
    return found


def named_below(folder: str | os.PathLike[str]) -> set[Path]:
    """The files and links in a folder, at any depth, that some dataset of this database names."""
    return named_files(files_below(folder))


def files_below(folder: str | os.PathLike[str]) -> list[Path]:
    """All files and links in a folder, at any depth, in order; links are not followed."""
    found = []
    for place, folders, files in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found += [Path(place, name) for name in (*files, *links)]
    return sorted(found)


def remove_unnamed(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """Remove those files that no dataset of this database names.

    What cannot be removed (somebody took the permission away) stays and is told of in the log:
    an old file that is left over must not undo what was done before.

    Returns:
        The files that are still there.
    """
    candidates = [Path(path) for path in paths if os.path.lexists(path)]
    named = named_files(candidates)
    left, reason = sorted(named), ""
    for path in candidates:
        if path in named:
            continue
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            left.append(path)
            reason = error.strerror or type(error).__name__
    if reason:
        logger.warning(
            "%d files that nobody needs cannot be removed (%s), the last: %s",
            len(left) - len(named),
            reason,
            left[-1],
        )
    return left


# The files asked about ----------------------------------------------------------------------------


@dataclass
class _Wanted:
    """The files asked about, by where they are and by what they are."""

    places: dict[_Folder, dict[str, list[Path]]] = field(default_factory=dict)
    identities: dict[_Identity, list[Path]] = field(default_factory=dict)
    missing: set[Path] = field(default_factory=set)
    linked: set[int] = field(default_factory=set)  # inodes of files with several names
    has_links: bool = False

    @classmethod
    def of(cls, paths: Iterable[Path]) -> _Wanted:
        wanted = cls()
        folders: dict[str, _Folder] = {}
        for path in paths:
            parent, name = os.path.split(_absolute(path))
            if parent not in folders:
                folders[parent] = _folder(parent)
            names = wanted.places.setdefault(folders[parent], {})
            names.setdefault(folded(name), []).append(path)
            try:
                status = os.lstat(path)
            except (OSError, ValueError):
                wanted.missing.add(path)
                continue
            wanted.identities.setdefault((status.st_dev, status.st_ino), []).append(path)
            wanted.has_links |= os.path.islink(path)
            if status.st_nlink > 1:
                wanted.linked.add(status.st_ino)
        return wanted

    def named_by(self, path: str) -> set[Path]:
        """Those that somebody needs who needs ``path``: itself, and what it links to."""
        found: set[Path] = set()
        for _ in range(_MOST_LINKS):
            try:
                status = os.lstat(path)
            except (OSError, ValueError):
                there = self.places.get(_folder(os.path.dirname(path)), {})
                same = there.get(folded(os.path.basename(path)), [])
                return found | (self.missing & set(same))
            found.update(self.identities.get((status.st_dev, status.st_ino), ()))
            if not os.path.islink(path):
                break
            path = _absolute(os.path.join(os.path.dirname(path), os.readlink(path)))
        return found

    def ways_to(self, folder: str) -> set[Path]:
        """Those that are links on the way to a folder."""
        if not self.has_links:
            return set()
        found: set[Path] = set()
        while folder != os.path.dirname(folder):
            if os.path.islink(folder):
                found |= self.named_by(folder)
                folder = os.path.join(os.path.dirname(folder), os.readlink(folder))
            else:
                folder = os.path.dirname(folder)
        return found


@dataclass(frozen=True)
class _Look:
    """What is known of a folder that datasets name: which of its names may be asked about."""

    names: Mapping[str, Any] = field(default_factory=dict)  # folded
    exact: frozenset[str] = frozenset()  # links, and files with several names
    named: frozenset[Path] = frozenset()


def _look(folder: str, wanted: _Wanted) -> _Look:
    if "://" in folder:  # in a cloud
        return _Look()
    place = _absolute(folder or os.curdir)
    exact: set[str] = set()
    try:
        with os.scandir(place) as entries:
            for entry in entries:
                if (
                    entry.is_symlink() and wanted.named_by(entry.path)
                ) or entry.inode() in wanted.linked:
                    exact.add(entry.name)
    except OSError:
        pass  # gone, or not ours to read: its names are compared as they are
    names = wanted.places.get(_folder(place), {})
    return _Look(names, frozenset(exact), frozenset(wanted.ways_to(place)))


def _absolute(path: str | os.PathLike[str]) -> str:
    return os.path.join(os.getcwd(), os.path.expanduser(path))  # `..` after a link is not lexical


def _folder(path: str) -> _Folder:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return folded(os.path.realpath(path))
    return (status.st_dev, status.st_ino)


def folded(name: str) -> str:
    """A name as file systems compare it that ignore case, or compose letters otherwise."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


# What the database names --------------------------------------------------------------------------


def _collections() -> Iterator[tuple[Any, dict[str, int]]]:
    """Every collection of samples or frames, with its fields of media and how deep their lists are.

    Read as it is stored: loading a dataset takes long, and changes it.
    """
    database = foo.get_db_conn()
    keys = ("sample_collection_name", "frame_collection_name", "sample_fields", "frame_fields")
    wanted = dict.fromkeys((*keys, "app_config.media_fields"), True)
    datasets = list(database.datasets.find({}, wanted))
    for dataset in datasets:
        shown = set((dataset.get("app_config") or {}).get("media_fields") or ())
        for kind in ("sample", "frame"):
            name = dataset.get(f"{kind}_collection_name")
            if name:
                fields = dict(_media_fields(dataset.get(f"{kind}_fields") or (), shown))
                yield database[name], {"filepath": 0, **fields}


def _media_fields(
    fields: Iterable[Mapping[str, Any]],
    shown: set[str],
    path: str = "",
    stored: str = "",
    depth: int = 0,
) -> Iterator[tuple[str, int]]:
    """Stored name of each field of paths, and how many lists are around it."""
    for one in fields:
        name = f"{path}{one['name']}"
        inner = f"{stored}{one.get('db_field') or one['name']}"
        types = [
            kind.rpartition(".")[2] for kind in (one.get("ftype"), one.get("subfield")) if kind
        ]
        lists = depth + types.count("ListField")
        if "StringField" in types and (name in shown or _PATH_NAME.fullmatch(one["name"])):
            yield inner, lists
        if _EMBEDDED in types:
            if media := _media_field_of(one.get("embedded_doc_type")):
                yield f"{inner}.{media}", lists
            yield from _media_fields(one.get("fields") or (), shown, f"{name}.", f"{inner}.", lists)


def _media_field_of(document_type: str | None) -> str | None:
    """``mask_path`` of a `Segmentation` and so on: schemas of older versions do not declare it."""
    if document_type is None or not document_type.startswith("fiftyone."):
        return None
    try:
        kind = etau.get_class(document_type)
    except (ImportError, AttributeError):  # of another version
        return None
    return next((name for name in _OF_LABELS if hasattr(kind, name)), None)


def _folders(collection: Any, fields: Mapping[str, int]) -> set[str]:
    """The folders of all paths, spelled as they are stored, with a separator at the end.

    Found in the database: those of ``filepath`` from its index alone, the others in one pass.
    """
    found: set[str] = set()
    has_index = "filepath_1" in collection.index_information()
    for indexed in (True, False):
        names = [name for name in fields if (has_index and name == "filepath") == indexed]
        if not names:
            continue
        stages = [{"$group": {"_id": [_folders_in(name, fields[name]) for name in names]}}]
        if not indexed:
            stages.insert(0, {"$match": _any_of(names, {"$type": "string"})})
        options = {"hint": "filepath_1"} if indexed else {}
        for row in collection.aggregate(stages, allowDiskUse=True, **options):
            found.update(_texts(row["_id"]))
    return found


def _folders_in(name: str, depth: int) -> dict[str, Any]:
    """Expression: the folder of a path, or the set of the folders of a list of paths."""
    if not depth:
        return _folder_in(f"${name}")
    paths = _list(f"${name}")
    for _ in range(depth - 1):
        joined = {"$concatArrays": ["$$value", _list("$$this")]}
        paths = {"$reduce": {"input": paths, "initialValue": [], "in": joined}}
    return {"$setUnion": [{"$map": {"input": paths, "in": _folder_in("$$this")}}, []]}


def _list(value: str) -> dict[str, Any]:
    return {"$cond": [{"$isArray": value}, value, []]}


def _folder_in(text: str) -> dict[str, Any]:
    pattern = f"^(.*[{re.escape(_SEPARATORS)}]){_NOT_SEPARATOR}*$"
    match = {"$regexFind": {"input": text, "regex": pattern, "options": "s"}}
    captured = {"$let": {"vars": {"m": match}, "in": {"$arrayElemAt": ["$$m.captures", 0]}}}
    is_text = {"$eq": [{"$type": text}, "string"]}
    return {"$cond": [is_text, {"$ifNull": [captured, ""]}, None]}


def _values(collection: Any, fields: Mapping[str, int], folder: str) -> Iterator[str]:
    """All paths in a folder, spelled as they are stored."""
    within = re.compile(f"^{re.escape(folder)}{_NOT_SEPARATOR}*$")
    by_index: dict[bool, list[str]] = defaultdict(list)
    for name in fields:
        by_index[name == "filepath"].append(name)
    for names in by_index.values():
        query = _any_of(names, {"$regex": within.pattern})
        shown = {"_id": False, **dict.fromkeys(names, True)}
        for row in collection.find(query, shown):
            for text in _texts(row):
                if within.match(text):
                    yield text


def _any_of(names: Iterable[str], condition: Any) -> dict[str, Any]:
    return {"$or": [{name: condition} for name in names]}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
