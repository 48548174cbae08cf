"""What LVIS, COCO and PACO have in common: one JSON file of images, annotations and categories."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ...errors import DatasetLayoutError
from .records import Faults, Region
from .regions import as_region, as_size, read_json


@dataclass(frozen=True)
class Photo:
    """An image entry whose file is there.

    Attributes:
        id: the entry's id.
        key: folder and file name, such as "val2017/000000000139.jpg".
        path: the file.
        size: (height, width) it states.
    """

    id: int
    key: str
    path: Path
    size: tuple[int, int]


@dataclass(frozen=True)
class CocoFile:
    """A file in COCO's layout, read and checked as far as its lists go."""

    path: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: list[dict[str, Any]]


def find(root: Path, names: tuple[str, ...]) -> Path:
    """The first of some annotation files that is there, looked for in the usual folders.

    Raises:
        DatasetLayoutError: none is.
    """
    for folder in (root, root / "annotations"):
        for name in names:
            if (folder / name).is_file():
                return folder / name
    raise DatasetLayoutError(
        f"annotations {names[0]} are not in {root} or its folder 'annotations': put them there"
    )


def read(path: Path) -> CocoFile:
    """Read a file in COCO's layout.

    Raises:
        DatasetLayoutError: it is not one.
    """
    content = read_json(path)
    lists = []
    for name in ("images", "annotations", "categories"):
        value = content.get(name) if isinstance(content, dict) else None
        if not isinstance(value, list) or not all(
            isinstance(entry, dict) and isinstance(entry.get("id"), int) for entry in value
        ):
            raise DatasetLayoutError(
                f"annotations {path} do not have a list {name!r} of entries with an id: "
                "check that this is the official file"
            )
        lists.append(value)
    return CocoFile(path, *lists)


def photos_of(file: CocoFile, root: Path, folder: str, faults: Faults) -> dict[int, Photo]:
    """The images whose files are there, by id.

    Args:
        file: the annotations.
        root: where ``train2017`` and the like are, or a folder ``coco`` above them.
        folder: where a photo is if its entry does not say.
        faults: where missing files go.
    """
    base = root / "coco" if (root / "coco").is_dir() else root
    found: dict[int, Photo] = {}
    for entry in file.images:
        what = f"image {entry['id']} of {file.path.name}"
        key = _key(entry, folder)
        if key is None:
            faults.report(what, "it states no file")
            continue
        size = faults.attempt(what, partial(as_size, entry))
        if size is None:
            continue
        if not (base / key).is_file():
            faults.report(str(base / key), "the file is missing")
            continue
        found[entry["id"]] = Photo(entry["id"], key, base / key, size)
    return found


def regions_of(
    file: CocoFile, photos: dict[int, Photo], categories: set[int], faults: Faults
) -> Iterator[tuple[dict[str, Any], Photo, Region]]:
    """The annotations of some categories with their photo and region.

    Those of photos that were left out are left out silently: the photo is on the list. A crowd is
    left out and reported, because it is not an object but a region of many.
    """
    stated = {entry["id"] for entry in file.images}
    for entry in file.annotations:
        if entry.get("category_id") not in categories:
            continue
        what = f"annotation {entry['id']} of {file.path.name}"
        photo = photos.get(entry.get("image_id", -1))
        if photo is None:
            if entry.get("image_id") not in stated:
                faults.report(what, f"there is no image {entry.get('image_id')!r}")
            continue
        if entry.get("iscrowd"):
            faults.note(what, "it is a crowd, not an object")
            continue
        region = faults.attempt(what, partial(as_region, entry.get("segmentation"), photo.size))
        if region is not None:
            yield entry, photo, region


def _key(entry: dict[str, Any], folder: str) -> str | None:
    """Folder and name of an image; LVIS has only the address it was downloaded from."""
    stated = entry.get("file_name") or entry.get("coco_url")
    if not isinstance(stated, str) or not stated:
        return None
    parts = [part for part in stated.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    if not parts:
        return None
    return "/".join(parts[-2:]) if len(parts) > 1 else f"{folder}/{parts[0]}"
