"""DAVIS's sequences as a FiftyOne dataset of photos in order."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fiftyone as fo

from ...errors import DatasetLayoutError, PersamError
from ..archives import extract_folders
from ..mask_files import check_photo
from ..whole_importer import WholeImporter
from .layout import ANNOTATIONS, PHOTOS, SETS, DavisSequence, objects_of, read_davis

OBJECT = "object"
"""Label of the object of DAVIS 2016; those of 2017 are labelled by their numbers."""


class DavisImporter(WholeImporter):
    """Reads DAVIS 2016 or 2017, see :class:`DavisDataset`.

    Every photo and annotation is read before the first sample is added. Samples have the fields

    - ``sequence``: the sequence's name
    - ``frame_number``: of the photo in its sequence, from 1
    - ``ground_truth``: :class:`fiftyone.core.labels.Detections` with an instance mask per object;
      ``label`` and ``index`` are its number, and ``instance`` is the same in all frames. None where
      the frame is not annotated
    - ``metadata``: size and type of the photo

    Args:
        dataset_dir: DAVIS's folder, or the zip that it comes in, which is unpacked once.
        year: "2016" (one object in each sequence) or "2017"; by the lists that are there if None.
        split: a list of ``ImageSets``; "val" if there is one, if None.
        sequences: only these, in this order.
        resolution: such as "480p"; that one if it is there, if None.
        on_error: "raise" stops at a photo or annotation that cannot be used; "skip" leaves its
            whole sequence out and lists it in ``dataset.info["skipped"]``.
        gt_field: field that takes the masks.
        extract_dir: where a zip is unpacked; FiftyOne's default dataset directory if None.
        shuffle: read the sequences in random order.
        seed: for ``shuffle``.
        max_samples: read at most this many photos.

    Raises:
        DatasetLayoutError: not this layout, or a photo or annotation that cannot be used.
        PersamError: an option that is not one.
    """

    source = "DAVIS's folder or zip"
    fields = ("sequence", "frame_number")

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str] | None = None,
        year: str | int | None = None,
        split: str | None = None,
        sequences: Sequence[str] | None = None,
        resolution: str | None = None,
        on_error: str = "raise",
        gt_field: str = "ground_truth",
        extract_dir: str | os.PathLike[str] | None = None,
        shuffle: bool = False,
        seed: int | None = None,
        max_samples: int | None = None,
    ) -> None:
        super().__init__(dataset_dir, on_error, gt_field, shuffle, seed, max_samples)
        self.year = year
        self.split = split
        self.sequences = sequences
        self.resolution = resolution
        self.extract_dir = extract_dir
        self.skipped: list[dict[str, str]] = []

    def find(self) -> list[Any]:
        """Find and read all photos and annotations."""
        root = Path(self.dataset_dir)
        if not root.exists():
            raise DatasetLayoutError(f"{root} does not exist: pass DAVIS's folder or zip")
        if root.is_file():
            root = self._unpacked(root)
        found = read_davis(root, self.year, self.split, self.sequences, self.resolution)
        frames: list[tuple[DavisSequence, int]] = []
        self.skipped = []
        if self.shuffle:
            random.Random(self.seed).shuffle(found)
        for sequence in found:
            try:
                _check(sequence)
            except PersamError as error:
                if self.on_error == "raise":
                    raise
                self.skipped.append({"sequence": sequence.name, "reason": str(error)})
                continue
            frames += [(sequence, number) for number in range(len(sequence.frames))]
        if not frames:
            raise DatasetLayoutError(
                f"{root}: no sequence is usable, the first problem is: {self.skipped[0]['reason']}"
            )
        return frames[: self.max_samples]

    def sample_of(self, item: tuple[DavisSequence, int]) -> fo.Sample:
        """A frame, with its objects."""
        sequence, number = item
        path = str(sequence.frames[number])
        sample = fo.Sample(
            filepath=path,
            metadata=fo.ImageMetadata.build_for(path),
            sequence=sequence.name,
            frame_number=number + 1,
        )
        map_ = sequence.index_map(number)
        sample[self.gt_field] = None
        if map_ is not None:
            detections = []
            for one in objects_of(map_):
                label = OBJECT if sequence.single else str(one)
                detection = fo.Detection.from_mask(map_ == one, label=label)
                detection.index = one
                detection.instance = _instance(sequence.name, one)
                detections.append(detection)
            sample[self.gt_field] = fo.Detections(detections=detections)
        return sample

    def get_sample_field_schema(self) -> dict[str, Any]:
        """Names and types of the fields that samples have beyond FiftyOne's own."""
        return {
            "sequence": fo.StringField(),
            "frame_number": fo.IntField(),
            self.gt_field: fo.EmbeddedDocumentField(fo.Detections),
        }

    def get_dataset_info(self) -> dict[str, Any]:
        """What FiftyOne stores on the dataset itself."""
        return {"skipped": list(self.skipped)} if self.skipped else {}

    def _unpacked(self, archive: Path) -> Path:
        """The archive's folders, unpacked by an earlier import or now, wholly or not at all."""
        status = archive.stat()
        text = f"{archive.resolve()}|{status.st_size}|{status.st_mtime_ns}"
        key = hashlib.sha256(text.encode()).hexdigest()[:12]
        home = Path(self.extract_dir or Path(fo.config.default_dataset_dir) / "davis")
        folder = home / f"{archive.stem}-{key}"
        if folder.is_dir():
            return folder
        home.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{archive.stem}-", dir=home))
        try:
            extract_folders(archive, staging, (PHOTOS, ANNOTATIONS, SETS))
            os.replace(staging, folder)
        finally:
            shutil.rmtree(staging, ignore_errors=True)
        return folder


class DavisDataset(fo.types.Dataset):  # type: ignore[misc]
    """DAVIS 2016 or 2017 as it is published, its folders or its zip::

        dataset = fo.Dataset.from_dir(dataset_dir="DAVIS", dataset_type=DavisDataset, year="2017")
        dataset.group_by("sequence", order_by="frame_number")     # plays as videos in the App

    For the options see :class:`DavisImporter`.
    """

    def get_dataset_importer_cls(self) -> type[DavisImporter]:
        """The importer that ``from_dir`` uses."""
        return DavisImporter


def _check(sequence: DavisSequence) -> None:
    """Read every file of a sequence; raise PersamError for one that cannot be used."""
    sequence.first_objects()
    with ThreadPoolExecutor() as pool:
        list(pool.map(check_photo, sequence.frames))
        list(pool.map(sequence.index_map, range(len(sequence.frames))))


def _instance(sequence: str, number: int) -> fo.Instance:
    """The same for an object in all frames and all imports."""
    text = f"davis|{sequence}|{number}"
    return fo.Instance(id=hashlib.sha256(text.encode()).hexdigest()[:24])
