"""PerSeg's folder layout on disk: which photo belongs to which mask and object. No FiftyOne."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import DatasetLayoutError

IMAGES, ANNOTATIONS = "Images", "Annotations"
PHOTO_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif"),
    *(".heic", ".heif", ".jp2", ".ppm", ".pgm", ".tga"),
)
MASK_SUFFIXES = PHOTO_SUFFIXES
"""A mask's file may be of any format too; what a JPEG has blurred is decided at half."""


@dataclass(frozen=True)
class AlbumPhoto:
    """One photo of an album.

    Attributes:
        object: name of the object, which is its folder's name.
        photo: the photo's file.
        mask: the mask's file; None where there is none.
        role: "reference" or "target".
    """

    object: str
    photo: Path
    mask: Path | None
    role: str


def scan_album(
    root: Path,
    objects: Sequence[str] | None = None,
    reference: str | Mapping[str, str] | None = None,
) -> list[AlbumPhoto]:
    """List an album's photos by object and name; "2" comes before "10".

    Args:
        root: folder with ``Images/<object>/`` and ``Annotations/<object>/``.
        objects: only these objects, in this order; None for all, sorted.
        reference: file name of every object's reference photo, with or without its extension,
            or one per object; None for the photo numbered 0 ("00"), or else the first one.

    Returns:
        Photos, of which those without a mask have ``mask=None``. Hidden files and files that are
        no photos are left out.

    Raises:
        DatasetLayoutError: no such folder, no object or no photo in it, two photos or two masks
            of one name, an object or a reference that isn't there.
    """
    images, annotations = _find_folders(root)
    names = sorted(_folders(images), key=natural_key)
    if not names:
        raise DatasetLayoutError(
            f"{images} has no folders: put each object's photos into {IMAGES}/<object>/"
        )
    chosen = names if objects is None else _choose(names, objects, images)
    if isinstance(reference, Mapping):
        _choose(names, list(reference), images)
    photos: list[AlbumPhoto] = []
    for name in chosen:
        wanted = reference.get(name) if isinstance(reference, Mapping) else reference
        photos.extend(_scan_object(name, images / name, annotations / name, wanted))
    if not photos:
        raise DatasetLayoutError(
            f"{images} has no photos: {', '.join(PHOTO_SUFFIXES)} files are looked for in "
            f"{IMAGES}/<object>/"
        )
    return photos


def is_path(value: object) -> bool:
    """Whether this can be a file's or folder's path; "" would be the working directory."""
    return isinstance(value, (str, os.PathLike)) and bool(str(value)) and "\0" not in str(value)


def natural_key(name: str) -> list[tuple[int, int, str]]:
    """Sort key by which "2" comes before "10" and "a2" before "a10"."""
    parts = re.split(r"([0-9]+)", name)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def _find_folders(root: Path) -> tuple[Path, Path]:
    if not root.is_dir():
        raise DatasetLayoutError(
            f"{root} is not a folder: pass the folder that holds {IMAGES}/ and {ANNOTATIONS}/"
        )
    images, annotations = root / IMAGES, root / ANNOTATIONS
    for folder in (images, annotations):
        if not folder.is_dir():
            inner = [child for child in _folders(root) if (root / child / IMAGES).is_dir()]
            hint = (
                f"did you mean {root / inner[0]}?"
                if inner
                else f"PerSeg's layout is {IMAGES}/<object>/00.jpg, {ANNOTATIONS}/<object>/00.png"
            )
            raise DatasetLayoutError(f"{root} has no folder {folder.name}/: {hint}")
    return images, annotations


def _scan_object(
    name: str, images: Path, annotations: Path, reference: str | None
) -> list[AlbumPhoto]:
    photos = _files_by_stem(images, PHOTO_SUFFIXES)
    if not photos:
        return []
    masks = _files_by_stem(annotations, MASK_SUFFIXES) if annotations.is_dir() else {}
    stems = sorted(photos, key=natural_key)
    first = _reference_stem(name, stems, photos, reference)
    return [
        AlbumPhoto(name, photos[stem], masks.get(stem), "reference" if stem == first else "target")
        for stem in stems
    ]


def _reference_stem(
    name: str, stems: list[str], photos: dict[str, Path], reference: str | None
) -> str:
    if reference is None:
        zeros = [stem for stem in stems if stem and not stem.strip("0")]
        return (zeros or stems)[0]
    for stem in stems:
        if reference in (stem, photos[stem].name):
            return stem
    raise DatasetLayoutError(
        f"object {name!r} has no photo {reference!r} to be the reference: it has "
        f"{_some(stems)}; pass reference={{{name!r}: ...}} for this one"
    )


def _files_by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            path = Path(entry.path)
            if entry.name.startswith(".") or path.suffix.lower() not in suffixes:
                continue
            if not entry.is_file():
                continue
            if path.stem in files:
                raise DatasetLayoutError(
                    f"{files[path.stem]} and {path.name} have one name: rename one, since masks "
                    "are found by it"
                )
            files[path.stem] = path
    return files


def _folders(root: Path) -> list[str]:
    with os.scandir(root) as entries:
        return sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))


def _choose(names: list[str], wanted: Sequence[str], images: Path) -> list[str]:
    if isinstance(wanted, str):
        wanted = [wanted]
    for name in wanted:
        if name not in names:
            raise DatasetLayoutError(f"{images} has no object {name!r}: it has {_some(names)}")
    return list(dict.fromkeys(wanted))


def _some(names: Sequence[str], limit: int = 10) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
