"""Exporter to PerSeg's layout."""

from __future__ import annotations

import itertools
import logging
import os
import re
import shutil
from collections import defaultdict, deque
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.utils.data as foud
import numpy as np

from ..errors import DatasetLayoutError, PersamError
from ..options import as_plain
from ..sam.masks import MaskImage, fit_mask, mask_of_array, object_in, read_mask_file
from ..sam.pasting import FARTHEST, paste_instance
from .layout import ANNOTATIONS, IMAGES, natural_key
from .mask_files import BoolMask, check_photo, write_perseg_mask
from .named_files import files_below
from .photo_copies import copy_as_jpeg
from .staging import Stage, put_in_place, staging

logger = logging.getLogger(__name__)

_DEFAULT_OBJECT = "object"
_MAX_NAME = 80
# Windows refuses these as file names, with any extension.
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)


@dataclass(frozen=True)
class _Staged:
    """One photo that waits in the staging folder for its number."""

    source: Path
    photo: Path | None
    mask: Path
    is_reference: bool
    has_object: bool


class PerSegExporter(foud.LabeledImageDatasetExporter):  # type: ignore[misc]
    """Writes photos and masks in PerSeg's layout, see :class:`PerSegDataset`.

    Each object's reference becomes ``00``, the others ``01``, ``02``, ... in the view's order, so
    the published PerSAM code can read the folder as well as this package. Everything is prepared
    aside and moved into place at the end: a failed export leaves nothing behind. Photos are copied
    upright, as they are shown. Files that a dataset of this database names are never replaced or
    renamed: photos that are in the folder already keep their numbers.

    Exported are ``Segmentation`` (whatever is not 0), ``Detection`` and ``Detections`` (instance
    masks united; boxes without one count as filled). Samples without a label are left out, and
    counted in a warning. The reference is the first sample of an object with role "reference" and
    a mask that is not empty, else its first sample with a mask that is not empty.

    Args:
        export_dir: folder to write to. Other files in it are left alone; ``overwrite=True`` of
            ``export()`` replaces its ``Images`` and ``Annotations``.
        object_field: field with the object's name, which becomes a folder's name; characters that
            no folder may have are replaced. Samples without a name go to "object".
        role_field: field that says "reference" or "target".
        mask_value: export only this value of a Segmentation; None for all but 0.
        export_media: True copies JPEG photos and converts others to JPEG; "symlink" links photos
            as they are; False writes masks only.

    Raises:
        DatasetLayoutError: an object's folder exists already, nothing to export, an object without
            any mask, or a file that is to be replaced is a dataset's.
        PhotoError: an unreadable photo.
        PersamError: an option that isn't one, or a label without a mask.
    """

    # FiftyOne would delete all of export_dir for overwrite=True, and before anything was read.
    _manages_existing_export_dir = True

    def __init__(
        self,
        export_dir: str | os.PathLike[str] | None = None,
        object_field: str = "object",
        role_field: str = "role",
        mask_value: int | None = None,
        export_media: bool | str = True,
    ) -> None:
        super().__init__(export_dir=None if export_dir is None else os.fspath(export_dir))
        self.object_field = object_field
        self.role_field = role_field
        self.mask_value = mask_value
        self.export_media = export_media
        self.overwrite = False
        self._rows: dict[str, deque[tuple[Any, Any]]] = {}
        self._folders = _FolderNames()
        self._staged: dict[str, list[_Staged]] = {}
        self.given: Stage | None = None
        self._stage: Stage | None = None
        self._resources = ExitStack()
        self._unlabelled = 0

    @classmethod
    def on_stage(cls, stage: Stage, **options: Any) -> PerSegExporter:
        """An exporter that prepares an album for somebody else, who puts it in place."""
        exporter = cls(stage.folder, **options)
        exporter.given = stage
        return exporter

    @property
    def requires_image_metadata(self) -> bool:
        """Photos are read anyway."""
        return False

    @property
    def label_cls(self) -> tuple[type[fo.Label], ...]:
        """Labels that have a mask."""
        return (fo.Segmentation, fo.Detections, fo.Detection)

    def setup(self) -> None:
        """Check the options and open the staging folder."""
        if self.export_dir is None:
            raise PersamError("export_dir is missing: pass the folder to write to")
        if self.export_media not in (True, False, "symlink"):
            raise PersamError(
                f"export_media {self.export_media!r} is not known: give True, False or 'symlink'"
            )
        value = self.mask_value = as_plain(self.mask_value)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise PersamError(f"mask_value {value!r} is not a pixel value: give an integer")
        folder = Path(self.export_dir)
        if folder.exists() and not folder.is_dir():
            raise DatasetLayoutError(f"{folder} is a file: pass a folder to export to")
        self._rows, self._staged, self._unlabelled = {}, {}, 0
        self._folders = _FolderNames()
        if self.given is not None:
            self._stage = self.given
            return
        old = [path for top in (IMAGES, ANNOTATIONS) for path in files_below(folder / top)]
        names = [path.relative_to(folder).as_posix() for path in old] if self.overwrite else []
        self._resources = ExitStack()
        self._stage = self._resources.enter_context(staging(folder.absolute(), names))

    def log_collection(self, sample_collection: fo.core.collections.SampleCollection) -> None:
        """Note every photo's object and role: FiftyOne hands over only photos and labels."""
        schema = sample_collection.get_field_schema()
        for name, usual in ((self.object_field, "object"), (self.role_field, "role")):
            if name not in schema and name != usual:
                raise PersamError(f"samples have no field {name!r}: give the name of one")
        columns = [
            sample_collection.values(field) if field in schema else [None] * len(sample_collection)
            for field in (self.object_field, self.role_field)
        ]
        rows: dict[str, deque[tuple[Any, Any]]] = defaultdict(deque)
        paths = sample_collection.values("filepath")
        for path, name, role in zip(paths, *columns, strict=True):
            rows[path].append((name, role))
        self._rows = rows

    def export_sample(
        self,
        image_or_path: str,
        label: fo.Label | None,
        metadata: fo.ImageMetadata | None = None,
    ) -> None:
        """Prepare one photo and its mask in the staging folder.

        Args:
            image_or_path: path of the photo
            label: its label; None to leave the photo out
            metadata: not used
        """
        queue = self._rows.get(image_or_path)
        name, role = queue.popleft() if queue else (None, None)
        if label is None:
            self._unlabelled += 1
            return
        photo = Path(image_or_path)
        size, _ = check_photo(photo)
        self.add(photo, _mask_of(label, size, self.mask_value, photo), name, role)

    def add(self, photo: Path, mask: BoolMask, name: Any = None, role: Any = None) -> None:
        """Prepare one photo and its mask.

        Args:
            photo: the file
            mask: (H, W) of the photo as it is shown
            name: the object's
            role: "reference" or anything else
        """
        if self._stage is None:
            raise PersamError("export_sample() needs setup() first: use the exporter in `with`")
        folder = self._folders.of(_DEFAULT_OBJECT if name is None else str(name))
        waiting = self._staged.get(folder, [])
        stem = self._stage.path / ".waiting" / folder / str(len(waiting))
        stem.parent.mkdir(parents=True, exist_ok=True)
        mask_file = stem.with_suffix(".png")
        copy = self._stage_photo(photo, stem.with_name(f"{stem.name}-photo"))
        write_perseg_mask(mask, mask_file)
        waiting.append(_Staged(photo, copy, mask_file, role == "reference", bool(mask.any())))
        self._staged[folder] = waiting

    def close(self, *args: Any) -> None:
        """Number the photos and move them into place, unless an error is on its way."""
        error = args[1] if len(args) > 1 else None
        try:
            with self._resources:
                if isinstance(error, OSError):
                    raise error  # the stage says which file is to blame
                if error is None:
                    self._finish()
        finally:
            self._stage = None

    def _finish(self) -> None:
        if self._unlabelled:
            logger.warning("Left out %d photos without a label", self._unlabelled)
        if not self._staged:
            raise DatasetLayoutError("no photo has a label in the exported field: nothing to write")
        assert self._stage is not None
        ordered = {name: _reference_first(name, rows) for name, rows in self._staged.items()}
        if self.given is None and not self.overwrite:
            self._refuse_existing(self._stage.folder)
        for name, rows in ordered.items():
            images, annotations = (self._stage.path / top / name for top in (IMAGES, ANNOTATIONS))
            annotations.mkdir(parents=True, exist_ok=True)
            for number, row in zip(_numbers(self._stage, name, rows), rows, strict=True):
                if row.photo is not None:
                    images.mkdir(parents=True, exist_ok=True)
                    os.replace(row.photo, images / f"{number}{row.photo.suffix}")
                os.replace(row.mask, annotations / f"{number}.png")
        shutil.rmtree(self._stage.path / ".waiting")
        if self.given is None:
            put_in_place(self._stage)

    def _stage_photo(self, photo: Path, stem: Path) -> Path | None:
        if self.export_media is False:
            return None
        suffix = photo.suffix.lower()
        if self.export_media == "symlink":
            link = stem.with_suffix(suffix)
            link.symlink_to(photo.absolute())
            return link
        copy = stem.with_suffix(".jpg")
        copy_as_jpeg(photo, copy)
        return copy

    def _refuse_existing(self, root: Path) -> None:
        for name in self._staged:
            for top in (IMAGES, ANNOTATIONS):
                folder = root / top / name
                if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
                    raise DatasetLayoutError(
                        f"{folder} exists: export to another folder or pass overwrite=True"
                    )


class _FolderNames:
    """Folder names for objects' names: safe on every system, and one for each object."""

    def __init__(self) -> None:
        self._by_object: dict[str, str] = {}

    def of(self, name: str) -> str:
        if name not in self._by_object:
            # Compared without case, since some file systems do.
            taken = {folder.casefold() for folder in self._by_object.values()}
            base = folder = safe_folder_name(name)
            number = 1
            while folder.casefold() in taken:
                number += 1
                folder = f"{base}-{number}"
            self._by_object[name] = folder
        return self._by_object[name]


def safe_folder_name(name: str) -> str:
    """Turn any text into the name of one folder: no separators, no dots at the ends, not empty.

    Letters and digits of any script, spaces, ``_``, ``-`` and dots inside stay; anything else
    becomes ``_``.
    """
    safe = re.sub(r"[^\w .-]", "_", name)[:_MAX_NAME].strip(" .")
    if not safe:
        return _DEFAULT_OBJECT
    return f"_{safe}" if _RESERVED.fullmatch(safe) else safe


def _reference_first(name: str, rows: list[_Staged]) -> list[_Staged]:
    usable = [row for row in rows if row.has_object]
    if not usable:
        raise DatasetLayoutError(
            f"object {name!r} has no photo whose mask could be its reference: all masks are empty"
        )
    chosen = next((row for row in usable if row.is_reference), usable[0])
    if any(row.is_reference for row in rows) and not chosen.is_reference:
        logger.warning("The reference of %r has an empty mask: another photo becomes 00", name)
    return [chosen, *(row for row in rows if row is not chosen)]


def _numbers(stage: Stage, name: str, rows: list[_Staged]) -> list[str]:
    """A number for each row, the reference's first: 00, 01, ...

    Photos of datasets that are in the folder keep theirs.
    """
    images = f"{IMAGES}/{name}/"
    taken = {Path(one).stem: one for one in stage.named if one.startswith(images)}
    if rows[0].photo is None:  # masks alone
        taken = {}
    kept: dict[int, str] = {}
    for index, row in enumerate(rows):
        own = stage.own_name(row.source) or ""
        stem = Path(own).stem
        if own.startswith(images) and stem in taken and stem not in kept.values():
            assert row.photo is not None
            if stage.fits(f"{images}{stem}{row.photo.suffix}", row.photo):
                kept[index] = stem
    left = set(taken) - set(kept.values())
    if left:
        raise DatasetLayoutError(
            f"{stage.folder / taken[min(left)]} is a photo of a dataset, and it is not exported as "
            "it is: choose another folder"
        )
    free = (f"{number:02d}" for number in itertools.count() if f"{number:02d}" not in taken)
    numbers = [kept[index] if index in kept else next(free) for index in range(len(rows))]
    if numbers[0] != min(numbers, key=natural_key):
        raise DatasetLayoutError(
            f"{stage.folder / taken[min(taken, key=natural_key)]} is a photo of a dataset and not "
            f"the reference of {name!r}, which comes first: choose another folder"
        )
    return numbers


def _mask_of(
    label: fo.Label, size: tuple[int, int], mask_value: int | None, photo: Path
) -> BoolMask:
    """(H, W) bool mask of a label."""
    if isinstance(label, fo.Detection):
        label = fo.Detections(detections=[label])
    where = f"the mask of {photo}"
    if isinstance(label, fo.Detections):
        mask: BoolMask = np.zeros(size, np.bool_)
        for detection in label.detections:
            left, top, width, height = _box_of(detection, photo)
            box = (
                left * size[1],
                top * size[0],
                (left + width) * size[1],
                (top + height) * size[0],
            )
            pixels = _pixels_of(detection, photo, where)
            crop = np.ones((1, 1), np.bool_) if pixels is None else object_in(pixels).mask
            paste_instance(mask, crop, box)
        return mask
    if not isinstance(label, fo.Segmentation) or not label.has_mask:
        raise PersamError(
            f"the {type(label).__name__} of {photo} has no mask: export a field with masks"
        )
    pixels = _pixels_of(label, photo, where)
    assert pixels is not None
    return fit_mask(object_in(pixels, mask_value, where=where).mask, size, where)


def _pixels_of(label: Any, photo: Path, where: str) -> MaskImage | None:
    try:
        if label.mask is not None:
            return mask_of_array(np.asarray(label.mask), where)
        return read_mask_file(Path(label.mask_path)) if label.mask_path else None
    except PersamError as error:
        raise PersamError(
            f"cannot read mask {label.mask_path or 'in the database'} of photo {photo} ({error}): "
            "put the file back, or leave the photo out"
        ) from None


def _box_of(detection: Any, photo: Path) -> list[float]:
    box = detection.bounding_box
    try:
        sound = len(box) == 4 and np.isfinite(box).all() and np.abs(box).max() <= FARTHEST
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise PersamError(
            f"the box {box} of photo {photo} is not shares of its width and height: draw it again"
        )
    return [float(side) for side in box]
