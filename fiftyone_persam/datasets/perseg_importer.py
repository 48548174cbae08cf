"""Importer for PerSeg's layout."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import shutil
import tempfile
import uuid
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.storage as fos
import numpy as np

from ..errors import DatasetLayoutError, PersamError
from .layout import ANNOTATIONS, AlbumPhoto, is_path, scan_album
from .mask_files import BoolMask, check_photo, fit_mask, is_plain_mask, read_mask, write_mask
from .named_files import named_files
from .staging import same_file
from .whole_importer import WholeImporter

logger = logging.getLogger(__name__)

MASK_VALUE = 255
"""Value of the object's pixels in every mask this importer hands to FiftyOne."""
MASK_TARGETS = {MASK_VALUE: "object"}

_CHUNK = 64  # photos checked at a time: bounds the work wasted beyond max_samples


@dataclass(frozen=True)
class _Checked:
    """A photo that was found sound.

    Attributes:
        entry: the photo.
        size: its (height, width) as it is shown.
        orientation: its EXIF orientation, 1 to 8.
        mask_path: file of its 0/255 mask; None if the mask is to be stored inline.
    """

    entry: AlbumPhoto
    size: tuple[int, int]
    orientation: int
    mask_path: Path | None = None

    def read_mask(self) -> BoolMask:
        """The (H, W) mask, as the photo is shown."""
        if self.entry.mask is None:
            raise DatasetLayoutError(
                f"photo {self.entry.photo} has no mask: {ANNOTATIONS}/{self.entry.object}/"
                f"{self.entry.photo.stem}.png is missing"
            )
        mask = read_mask(self.entry.mask)
        return fit_mask(mask, self.size, self.orientation, self.entry.mask)


class PerSegImporter(WholeImporter):
    """Reads photos and masks in PerSeg's layout, see :class:`PerSegDataset`.

    Every photo and mask is read to its end before the first sample is added, so an album with a
    fault adds nothing. Samples have the fields

    - ``ground_truth``: :class:`fiftyone.core.labels.Segmentation` with the object at 255, of the
      photo's size as it is shown (EXIF orientation applied), and ``mask_targets`` to match
    - ``object``: name of the object, which is its folder's name
    - ``role``: "reference" or "target"
    - ``metadata``: size and type of the photo

    Masks may be 1-bit, grey (0/1 or 0/255), palette or colour images, also with alpha. The object
    is what is not black; in masks with soft edges or saved as JPEG, what is brighter than half of
    the brightest pixel. A mask that is a pixel or two off its photo's size is resized.
    FiftyOne wants them 2-D: all but grey 0/255 PNGs are converted once, into ``mask_dir``.

    Args:
        dataset_dir: folder with ``Images/<object>/`` and ``Annotations/<object>/``.
        objects: only these objects, in this order; None for all.
        reference: file name of the reference photo in every object's folder, with or without its
            extension, or a dict of one per object; None for the photo numbered 0 ("00"), or else
            the first one. Its mask must not be empty; the others' may.
        on_error: "raise" stops at a missing mask, unreadable file or size mismatch; "skip" leaves
            such photos out, logs them, and lists them in ``dataset.info["skipped"]``.
        gt_field: field that takes the mask.
        masks: "files" keeps masks on disk and paths in the database; "inline" puts them into the
            database, which needs no other folder but grows by some kilobytes per photo.
        mask_dir: folder for converted masks; None for one per album in FiftyOne's default dataset
            directory.
        shuffle: read the photos in random order.
        seed: for ``shuffle``.
        max_samples: read at most this many photos.

    Raises:
        DatasetLayoutError: not this layout, or a mask that is missing, unreadable or does not fit.
        PhotoError: an unreadable photo.
        PersamError: an option that isn't one.
    """

    source = "the album's folder"
    fields = ("object", "role")

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str] | None = None,
        objects: Sequence[str] | None = None,
        reference: str | Mapping[str, str] | None = None,
        on_error: str = "raise",
        gt_field: str = "ground_truth",
        masks: str = "files",
        mask_dir: str | os.PathLike[str] | None = None,
        shuffle: bool = False,
        seed: int | None = None,
        max_samples: int | None = None,
    ) -> None:
        super().__init__(dataset_dir, on_error, gt_field, shuffle, seed, max_samples)
        self.objects = objects
        self.reference = reference
        self.masks = masks
        self.mask_dir = mask_dir
        self.skipped: list[dict[str, str]] = []

    def sample_of(self, item: _Checked) -> fo.Sample:
        """The photo, with its object, role and mask."""
        entry = item.entry
        sample = fo.Sample(
            filepath=str(entry.photo),
            metadata=fo.ImageMetadata.build_for(str(entry.photo)),
            object=entry.object,
            role=entry.role,
        )
        if item.mask_path is not None:
            sample[self.gt_field] = fo.Segmentation(mask_path=str(item.mask_path))
        else:
            mask = item.read_mask()
            sample[self.gt_field] = fo.Segmentation(mask=mask.astype(np.uint8) * MASK_VALUE)
        return sample

    def get_sample_field_schema(self) -> dict[str, Any]:
        """Names and types of the fields that samples have beyond FiftyOne's own."""
        return {
            "object": fo.StringField(),
            "role": fo.StringField(),
            self.gt_field: fo.EmbeddedDocumentField(fo.Segmentation),
        }

    def get_dataset_info(self) -> dict[str, Any]:
        """What FiftyOne stores on the dataset itself."""
        info: dict[str, Any] = {"mask_targets": {self.gt_field: dict(MASK_TARGETS)}}
        if self.skipped:
            info["skipped"] = list(self.skipped)
        return info

    def find(self) -> list[Any]:
        """Find and check all photos and masks."""
        root = Path(self.dataset_dir)
        entries = scan_album(root, self.objects, self.reference)
        if self.shuffle:
            random.Random(self.seed).shuffle(entries)
        self.skipped = []
        if self.masks == "inline":
            photos = self._check_all(entries, None)
        else:
            photos = self._convert_all(entries, self._mask_folder(root))
        if not photos:
            raise DatasetLayoutError(
                f"{root}: no photo is usable, the first of {len(self.skipped)} problems is: "
                f"{self.skipped[0]['reason']}"
            )
        for skipped in self.skipped:
            logger.warning("Skipped %s", skipped["reason"])
        return photos

    def check_options(self) -> None:
        """Raise PersamError for an option that is not one."""
        super().check_options()
        self._check_choice("masks", ("files", "inline"))
        if not (self.objects is None or isinstance(self.objects, (str, list, tuple, set))):
            raise PersamError(f"objects {self.objects!r} is not a list of names: give ['cat', ...]")
        if not (self.reference is None or isinstance(self.reference, (str, Mapping))):
            raise PersamError(
                f"reference {self.reference!r} is not a file's name: give one, or one per object"
            )
        if not (self.mask_dir is None or is_path(self.mask_dir)):
            raise PersamError(f"mask_dir {self.mask_dir!r} is not a folder: give a path")

    def _mask_folder(self, root: Path) -> Path:
        if self.mask_dir is not None:
            return Path(fos.normalize_path(os.fspath(self.mask_dir)))
        # One folder per album: importing it again replaces its masks and adds none.
        key = hashlib.sha256(str(root).encode()).hexdigest()[:12]
        return Path(fo.config.default_dataset_dir) / "perseg-masks" / f"{root.name}-{key}"

    def _convert_all(self, entries: list[AlbumPhoto], folder: Path) -> list[_Checked]:
        """Check everything, converting masks aside, then move the converted masks into place."""
        made = not folder.parent.exists()
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            checked = self._check_all(entries, staging)
            paths = [c.mask_path for c in checked if c.mask_path is not None]
            finals = {p: folder / p.relative_to(staging) for p in paths if staging in p.parents}
            # Another dataset's mask of an album that has changed since stays as it is.
            named = named_files(f for p, f in finals.items() if f.exists() and not same_file(p, f))
            return [
                replace(item, mask_path=_move(item.mask_path, finals, named)) for item in checked
            ]
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            if made:
                with contextlib.suppress(OSError):  # masks are in it
                    folder.parent.rmdir()

    def _check_all(self, entries: list[AlbumPhoto], staging: Path | None) -> list[_Checked]:
        # Photos that are left out don't count against max_samples.
        limit = len(entries) if self.max_samples is None else self.max_samples
        checked: list[_Checked] = []
        # Reading files releases the lock, so threads help even with two cores.
        with ThreadPoolExecutor() as pool, fo.ProgressBar(total=len(entries)) as progress:
            for start in range(0, len(entries), _CHUNK):
                chunk = entries[start : start + _CHUNK]
                for entry, result in zip(
                    chunk, pool.map(lambda item: _check(item, staging), chunk), strict=True
                ):
                    if isinstance(result, _Checked):
                        checked.append(result)
                    elif self.on_error == "raise":
                        raise result
                    else:
                        self.skipped.append({"filepath": str(entry.photo), "reason": str(result)})
                    progress.update()
                    if len(checked) == limit:
                        return checked
        return checked


def _check(entry: AlbumPhoto, staging: Path | None) -> _Checked | PersamError:
    """Read a photo and its mask to their ends; convert the mask into ``staging`` if need be."""
    try:
        size, orientation = check_photo(entry.photo)
        checked = _Checked(entry, size, orientation)
        mask = checked.read_mask()
        if entry.role == "reference" and not mask.any():
            raise DatasetLayoutError(
                f"mask {entry.mask} is empty but its photo is the reference of {entry.object!r}: "
                "name another one with reference="
            )
        if staging is None or entry.mask is None:
            return checked
        if is_plain_mask(entry.mask, mask):
            return replace(checked, mask_path=entry.mask)
        converted = staging / entry.object / f"{entry.photo.stem}.png"
        write_mask(mask, converted)
        return replace(checked, mask_path=converted)
    except PersamError as error:
        return error


def _move(path: Path | None, finals: Mapping[Path, Path], named: set[Path]) -> Path | None:
    if path is None or path not in finals:
        return path
    final = finals[path]
    if final in named:
        final = final.with_stem(f"{final.stem}-{uuid.uuid4().hex[:8]}")
    final.parent.mkdir(parents=True, exist_ok=True)
    os.replace(path, final)
    return final
