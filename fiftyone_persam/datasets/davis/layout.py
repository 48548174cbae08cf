"""DAVIS's folders: photos, annotations and lists of sequences. No FiftyOne.

JPEGImages/480p/<sequence>/00000.jpg
Annotations/480p/<sequence>/00000.png    palette index = object (2017), or 0 / 255 (2016)
ImageSets/2016/val.txt                   a sequence a line, or a photo and its annotation a line
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import DatasetLayoutError, PhotoError, did_you_mean
from ...sam.photo_files import shown_size, use_image

PHOTOS, ANNOTATIONS, SETS = "JPEGImages", "Annotations", "ImageSets"
YEARS = ("2016", "2017")
VOID = 255
"""Pixels that no object's score counts; in the masks of 2016 it is the object."""


@dataclass(frozen=True)
class DavisSequence:
    """One sequence.

    Attributes:
        name: its folder's.
        frames: its photos, in order.
        annotations: of each frame, or None where it has none.
        single: all that is not background is one object, as in 2016.
    """

    name: str
    frames: tuple[Path, ...]
    annotations: tuple[Path | None, ...]
    single: bool

    def index_map(self, frame: int) -> npt.NDArray[np.uint8] | None:
        """(H, W) uint8, which object each pixel of a frame is, 0 for none; None if not annotated.

        Raises:
            DatasetLayoutError: the annotation is unreadable, or is not of its photo's size.
        """
        path = self.annotations[frame]
        if path is None:
            return None
        found = read_index_map(path, self.single)
        try:
            size = use_image(self.frames[frame], lambda image, _: shown_size(_known(image)))
        except PhotoError as error:
            raise DatasetLayoutError(str(error)) from None
        if found.shape != size:
            raise DatasetLayoutError(
                f"annotation {path} is {found.shape[1]} x {found.shape[0]} but its photo "
                f"{size[1]} x {size[0]}: use those of one resolution"
            )
        return found

    def first_objects(self) -> tuple[int, ...]:
        """Numbers of the objects of the first frame, which the task is about.

        Raises:
            DatasetLayoutError: it is not annotated, or shows none.
        """
        first = self.index_map(0)
        objects = () if first is None else objects_of(first)
        if not objects:
            what = "has no annotation" if first is None else "shows no object"
            raise DatasetLayoutError(
                f"the first frame of {self.name} {what}: {ANNOTATIONS}/*/{self.name}/"
                f"{self.frames[0].stem}.png has to label the objects"
            )
        return objects


def objects_of(index_map: npt.NDArray[np.uint8]) -> tuple[int, ...]:
    """The objects of an index map."""
    return tuple(int(v) for v in np.unique(index_map) if v not in (0, VOID))


def _known(image: Image.Image | None) -> Image.Image:
    if image is None:
        raise ValueError("its pixels are of a kind that DAVIS does not have")
    return image


def read_index_map(path: Path, single: bool = False) -> npt.NDArray[np.uint8]:
    """(H, W) uint8 of an annotation.

    Args:
        path: a palette, grey or colour PNG.
        single: what is not black is object 1.

    Raises:
        DatasetLayoutError: the file is missing, damaged, or a colour image that has to tell objects
            apart.
    """
    try:
        pixels = use_image(path, lambda image, _: np.asarray(_known(image)), "annotation")
    except PhotoError as error:
        raise DatasetLayoutError(str(error)) from None
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8)
    if pixels.dtype != np.uint8:
        raise DatasetLayoutError(f"annotation {path} has values of {pixels.dtype}: save 8 bits")
    if pixels.ndim == 3:
        shown = pixels[:, :, :3].any(axis=2)
        if not single and np.unique(pixels[:, :, :3][shown], axis=0).shape[0] > 1:
            raise DatasetLayoutError(
                f"annotation {path} is a colour image, which does not number its objects: use the "
                "palette PNG that DAVIS comes with"
            )
        return np.asarray(shown, np.uint8)
    if single or set(np.unique(pixels)) <= {0, VOID}:
        pixels = pixels > 0
    return np.asarray(pixels, np.uint8)


def read_davis(
    root: str | os.PathLike[str],
    year: str | int | None = None,
    split: str | None = None,
    sequences: Sequence[str] | None = None,
    resolution: str | None = None,
) -> list[DavisSequence]:
    """Find the sequences of DAVIS's folders.

    Args:
        root: the folder that holds ``JPEGImages`` and ``Annotations``, or one above it.
        year: "2016" (one object) or "2017" (each its own); by the lists that are there if None,
            2017 if both are.
        split: a list of ``ImageSets/<year>``, such as "val"; that one if it is there, else all
            sequences, if None.
        sequences: only these.
        resolution: the folder between; "480p" if it is there, else the only one, if None.

    Raises:
        DatasetLayoutError: folders, lists, photos or annotations are missing.
    """
    folder = _root(Path(root))
    if year is not None and str(year) not in YEARS:
        raise DatasetLayoutError(f"year {year!r} is not one of DAVIS: give '2016' or '2017'")
    chosen = str(year) if year is not None else _year_of(folder)
    resolution = _resolution(folder, resolution)
    photos = folder / PHOTOS / resolution
    there = sorted(one.name for one in photos.iterdir() if one.is_dir())
    names = _listed(folder, chosen, split)
    if names is None:
        names = there
    if sequences is not None:
        wanted = [sequences] if isinstance(sequences, str) else list(sequences)
        for name in wanted:
            if name not in names:
                guess = did_you_mean(name, names)
                raise DatasetLayoutError(f"{root} has no sequence {name!r} in its list{guess}")
        names = wanted
    for name in names:
        if name not in there:
            raise DatasetLayoutError(f"sequence {name!r} is listed but {photos / name} is missing")
    if not names:
        raise DatasetLayoutError(f"{photos} has no sequence: it needs a folder of photos for each")
    return [_sequence(folder, resolution, name, chosen == "2016") for name in names]


def _root(root: Path) -> Path:
    for folder in (root, *sorted(one for one in _folders(root))):
        if (folder / PHOTOS).is_dir():
            return folder
    raise DatasetLayoutError(
        f"{root} is not in DAVIS's layout: it needs {PHOTOS}/480p/<sequence>/00000.jpg and "
        f"{ANNOTATIONS}/480p/<sequence>/00000.png"
    )


def _folders(root: Path) -> list[Path]:
    return [one for one in root.iterdir() if one.is_dir()] if root.is_dir() else []


def _year_of(folder: Path) -> str:
    years = [year for year in YEARS if (folder / SETS / year).is_dir()]
    if years:
        return years[-1]
    # The release of 2016 names its lists by resolution.
    return "2016" if any((folder / SETS).glob("*p/*.txt")) else "2017"


def _resolution(folder: Path, wanted: str | None) -> str:
    there = sorted(one.name for one in _folders(folder / PHOTOS))
    if wanted is None:
        wanted = "480p" if "480p" in there or len(there) != 1 else there[0]
    if wanted not in there:
        raise DatasetLayoutError(
            f"{folder / PHOTOS} has no folder {wanted!r}: there is {', '.join(there) or 'none'}"
        )
    return wanted


def _listed(folder: Path, year: str, split: str | None) -> list[str] | None:
    """The sequences of a list; None if none was asked for and there is none."""
    lists = [folder / SETS / year, *sorted((folder / SETS).glob("*p"))]
    files = {
        file.stem: file
        for one in reversed(lists)
        if one.is_dir()
        for file in sorted(one.glob("*.txt"))
    }
    if split is None and "val" not in files:
        return None
    name = split or "val"
    if name not in files:
        raise DatasetLayoutError(
            f"{folder / SETS / year / name}.txt is missing: lists that are there: "
            f"{', '.join(files) or 'none'}"
        )
    try:
        lines = files[name].read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetLayoutError(f"{files[name]} cannot be read as text ({error})") from None
    found = []
    for line in lines:
        if parts := line.split():
            # "bear", or "/JPEGImages/480p/bear/00000.jpg /Annotations/480p/bear/00000.png"
            path = PurePosixPath(parts[0])
            found.append(path.parent.name if path.suffix else path.name)
    return list(dict.fromkeys(found))


def _sequence(folder: Path, resolution: str, name: str, single: bool) -> DavisSequence:
    frames = tuple(
        sorted(
            one
            for one in (folder / PHOTOS / resolution / name).iterdir()
            if one.suffix.lower() in (".jpg", ".jpeg", ".png") and not one.name.startswith(".")
        )
    )
    if not frames:
        raise DatasetLayoutError(f"sequence {name} has no photo in {PHOTOS}/{resolution}/{name}")
    labels = folder / ANNOTATIONS / resolution / name
    paths = [labels / f"{frame.stem}.png" for frame in frames]
    if not any(path.is_file() for path in paths):
        raise DatasetLayoutError(
            f"sequence {name} has no annotation: {labels}/{frames[0].stem}.png is missing"
        )
    found = tuple(path if path.is_file() else None for path in paths)
    return DavisSequence(name, frames, found, single)
