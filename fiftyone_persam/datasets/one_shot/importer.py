"""The one-shot benchmarks as FiftyOne datasets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import fiftyone as fo
import numpy as np

from ...errors import DatasetLayoutError, PersamError
from ...options import as_plain
from ..whole_importer import WholeImporter
from .benchmarks import read_benchmark
from .records import Example, OneShotIndex
from .regions import load_mask


class OneShotImporter(WholeImporter):
    """Reads a benchmark from its official layout, see :class:`OneShotDataset`.

    A photo becomes one sample, however many classes it has:

    - ``ground_truth``: :class:`fiftyone.core.labels.Detections` with an instance mask per class, or
      per object and part. Each has ``label``, its class; ``fold``, where that is tested; and
      ``part``, the part's name, or None
    - ``classes``, ``folds``, ``parts``: what there is in the photo, as lists

    Args:
        dataset_dir: the benchmark's folder.
        benchmark: its name, one of `BENCHMARKS`.
        folds: only the classes of these folds; None for all.
        on_error: "raise" stops at an annotation or file that cannot be used; "skip" leaves it out
            and lists it in ``dataset.info["skipped"]``.
        gt_field: field that takes the masks.
        shuffle: read the photos in random order.
        seed: for ``shuffle``.
        max_samples: read at most this many photos.

    Raises:
        DatasetLayoutError: not this layout, or an annotation that cannot be used.
        PersamError: an option that is not one.
    """

    source = "the benchmark's folder"
    fields = ("classes", "folds", "parts")

    def __init__(
        self,
        dataset_dir: str | os.PathLike[str] | None = None,
        benchmark: str = "fss1000",
        folds: Sequence[int] | int | None = None,
        on_error: str = "raise",
        gt_field: str = "ground_truth",
        shuffle: bool = False,
        seed: int | None = None,
        max_samples: int | None = None,
    ) -> None:
        super().__init__(dataset_dir, on_error, gt_field, shuffle, seed, max_samples)
        self.benchmark = benchmark
        folds = as_plain(folds)
        self.folds = [folds] if isinstance(folds, int) else folds
        self._index: OneShotIndex | None = None

    @property
    def index(self) -> OneShotIndex:
        """What was found on the disk.

        Raises:
            PersamError: `setup` has not been called.
        """
        if self._index is None:
            raise PersamError("nothing has been read yet: FiftyOne calls setup() first")
        return self._index

    def find(self) -> list[Any]:
        """Find all photos and annotations, and decode every mask once."""
        self._index = read_benchmark(self.benchmark, self.dataset_dir, self.on_error)
        folds = self._index.folds if self.folds is None else self.folds
        wanted = {i for fold in folds for i in self._index.of_fold(fold)}
        photos: dict[str, list[Example]] = {}
        for (one, _), examples in self._index.examples.items():
            for example in examples:
                if one in wanted and example is not None:
                    photos.setdefault(str(example.photo), []).append(example)
        sound = [kept for found in photos.values() if (kept := self._sound(found))]
        if not sound:
            raise DatasetLayoutError(f"{self.dataset_dir}: no photo of {self.benchmark} is usable")
        chosen: list[Any] = self._preprocess_list(sound)
        return chosen

    def sample_of(self, item: list[Example]) -> fo.Sample:
        """A photo, with all that is annotated in it."""
        infos = [self.index.classes[example.class_index] for example in item]
        detections = []
        for example, info in zip(item, infos, strict=True):
            detection = fo.Detection.from_mask(_whole_mask(example), label=info.name)
            detection["fold"], detection["part"] = info.fold, info.part
            detections.append(detection)
        return fo.Sample(
            filepath=str(item[0].photo),
            classes=list(dict.fromkeys(info.name for info in infos)),
            folds=sorted({info.fold for info in infos}),
            parts=list(dict.fromkeys(info.part for info in infos if info.part)),
            **{self.gt_field: fo.Detections(detections=detections)},
        )

    @property
    def has_sample_field_schema(self) -> bool:
        """Fields are found from the samples."""
        return False

    def get_dataset_info(self) -> dict[str, Any]:
        """What FiftyOne stores on the dataset itself."""
        info: dict[str, Any] = {"benchmark": self.benchmark}
        if self.index.skipped:
            info["skipped"] = [{"what": w, "reason": r} for w, r in self.index.skipped]
        return info

    def _sound(self, examples: list[Example]) -> list[Example]:
        """Those whose mask can be read and is not empty."""
        kept = []
        for example in examples:
            name = self.index.classes[example.class_index].name
            try:
                if not _whole_mask(example).any():
                    raise DatasetLayoutError("its mask is empty")
            except PersamError as error:
                what = f"{name} in {example.photo}"
                if self.on_error == "raise":
                    raise DatasetLayoutError(
                        f"{what}: {error} (on_error='skip' leaves it out)"
                    ) from None
                self.index.skipped.append((what, str(error)))
                continue
            kept.append(example)
        return kept


class OneShotDataset(fo.types.Dataset):  # type: ignore[misc]
    """A one-shot benchmark in its official layout::

        dataset = fo.Dataset.from_dir(
            dataset_dir="FSS-1000", dataset_type=OneShotDataset, benchmark="fss1000"
        )

    For the options see :class:`OneShotImporter`, for each layout the benchmark's own module.
    """

    def get_dataset_importer_cls(self) -> type[OneShotImporter]:
        """The importer that ``from_dir`` uses."""
        return OneShotImporter


def _whole_mask(example: Example) -> np.ndarray:
    """(H, W) bool mask at the photo's own size: parts are cropped in episodes only."""
    if example.crop is None:
        return load_mask(example)
    x0, y0, x1, y1 = example.crop
    if example.size is None:
        raise DatasetLayoutError(f"the annotation of {example.photo} does not say its photo's size")
    whole = np.zeros(example.size, np.bool_)
    whole[y0:y1, x0:x1] = load_mask(example)
    return whole
