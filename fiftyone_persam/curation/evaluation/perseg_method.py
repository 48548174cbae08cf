"""The PerSeg protocol as one of FiftyOne's segmentation evaluation methods."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import fiftyone.utils.eval.segmentation as foues
import numpy as np

from ...engine.loading import load_ahead
from ...errors import PersamError
from ...metrics import DILATION_RATIO, PerSegAccumulator, PerSegScores, PhotoCounts, count_photo
from ..fiftyone_api import dataset_of_sample, own_dataset
from ..labels.masks import named_masks
from ..labels.pixels import targets_of
from ..labels.shapes import label_mask
from ..labels.sizes import read_shown_size
from .stored_evaluation import (
    BACKGROUND,
    URI,
    Progress,
    StoredEvaluation,
    StoredResults,
    label_id,
    reporting,
)

OBJECT = "object"
FIELDS = ("iou", "boundary_iou", "accuracy")
# Results' attributes, with short names because the App's table is narrow. "objects": pixels pooled
# per object, then the mean over objects.
METRICS = {
    "mIoU": ("miou", "mIoU, objects"),
    "bIoU": ("mean_boundary_iou", "bIoU, objects"),
    "mAcc": ("mean_accuracy", "mAcc, objects"),
    "photo_mIoU": ("photo_miou", "mIoU, photos"),
    "photo_bIoU": ("photo_mean_boundary_iou", "bIoU, photos"),
}


@dataclass(frozen=True)
class PhotoRow:
    """What was counted in one photo.

    Attributes:
        id: the sample.
        group: its object.
        counts: pixels.
        size: H * W.
        gt_id: id of the ground-truth label, for the App.
        pred_id: id of the predicted label.
    """

    id: str
    group: str
    counts: PhotoCounts
    size: int
    gt_id: str | None
    pred_id: str | None


class PerSegEvaluationConfig(foues.SegmentationEvaluationConfig):  # type: ignore[misc]
    """Settings of a `PerSegEvaluation`.

    Args:
        pred_field: field of predicted Segmentation or Detections.
        gt_field: field of true Segmentation or Detections.
        group_by: field that names each photo's object; None for one object.
        mask_value: which value of the ground truth's masks is the object; None for all above 0.
        dilation_ratio: width of the contour band as a share of the photo's diagonal.
        objects: of a run of several: their names. Each is compared with what the ground truth calls
            so, where it is in the photo or predicted; ``group_by`` then names what the ground truth
            shows.
    """

    def __init__(
        self,
        pred_field: str,
        gt_field: str,
        group_by: str | None = None,
        mask_value: int | str | None = None,
        dilation_ratio: float = DILATION_RATIO,
        objects: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(pred_field, gt_field, **kwargs)
        self.group_by = group_by
        self.mask_value = mask_value
        self.dilation_ratio = dilation_ratio
        self.objects = list(objects)

    @property
    def method(self) -> str:
        """The name of the method."""
        return "perseg"


class PerSegEvaluation(StoredEvaluation):
    """Evaluation by the PerSeg protocol; see `evaluate`."""

    fields = FIELDS

    def count(
        self, samples: Any, progress: Progress = None, skip_faulty: bool = True
    ) -> tuple[list[PhotoRow], dict[str, str]]:
        """Count pixels photo by photo, writing nothing.

        Photos without ground truth are left out; a missing prediction counts as an empty mask.

        Returns:
            the photos, and sample id -> why a photo could not be counted.

        Raises:
            PersamError: a mask cannot be read or does not fit, and photos like that are not to be
                skipped, or there is no other one.
        """
        config = self.config
        names = [config.pred_field, config.gt_field]
        if config.group_by is not None:
            names.append(config.group_by)
        chosen = samples.exists(config.gt_field)
        total = len(chosen)
        rows: list[PhotoRow] = []
        skipped: dict[str, str] = {}
        through = 0
        # Masks are read and counted in threads; NumPy and OpenCV let go of the interpreter.
        photos = load_ahead(chosen.select_fields(names).iter_samples(), self._count_one, 4, 16)
        with reporting(progress, total) as report, closing(photos):  # type: ignore[type-var]
            for sample, counted in photos:
                if isinstance(counted, Exception):
                    error = _in_one_line(counted, sample)
                    if not skip_faulty or total == 1:
                        raise error from counted
                    skipped[sample.id] = str(error)
                else:
                    rows += counted
                through += 1
                report(through)
        if config.objects and not rows and not skipped:
            raise PersamError(
                f"no object of {config.pred_field!r} ({', '.join(config.objects)}) is in the "
                f"ground truth {config.gt_field!r} or predicted: call them the same"
            )
        if skipped and len(skipped) == total:
            first = next(iter(skipped.values()))
            raise PersamError(f"none of {total} photos can be compared, the first: {first}")
        return rows, skipped

    def sum_up(
        self,
        samples: Any,
        eval_key: str | None,
        rows: Sequence[PhotoRow],
        skipped: dict[str, str],
    ) -> PerSegResults:
        """Write the per-photo fields and make the results."""
        if eval_key is not None:
            for name in FIELDS:
                each: dict[str, list[float]] = {}
                for row in rows:
                    each.setdefault(row.id, []).append(float(getattr(row.counts, name)))
                values = {i: sum(one) / len(one) for i, one in each.items()}
                own_dataset(samples).set_values(f"{eval_key}_{name}", values, key_field="id")
        scores = _score([(row.group, row.counts) for row in rows], self.config.dilation_ratio)
        classes = [BACKGROUND, *sorted({row.group for row in rows})]
        matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
        matches = []
        for row in rows:
            index = classes.index(row.group)
            for true, predicted, pixels in _cells(row):
                matrix[index * true, index * predicted] += pixels
                if pixels:
                    matches.append(
                        (
                            classes[index * true],
                            classes[index * predicted],
                            pixels,
                            row.gt_id,
                            row.pred_id,
                        )
                    )
        results = PerSegResults(
            samples,
            self.config,
            eval_key,
            matrix,
            classes,
            matches=matches,
            missing=BACKGROUND,
            custom_metrics=_custom_metrics(scores),
            backend=self,
        )
        results.perseg = scores.to_dict()
        results.skipped = dict(skipped)
        results.photos = [[row.gt_id, row.group, *vars(row.counts).values()] for row in rows]
        return results

    def _count_one(self, sample: Any) -> list[PhotoRow]:
        return self._count_objects(sample) if self.config.objects else [self._count_whole(sample)]

    def _count_objects(self, sample: Any) -> list[PhotoRow]:
        """One row for each object that is in the photo, or predicted."""
        config = self.config
        truth_label, predicted_label = sample[config.gt_field], sample[config.pred_field]
        size, dataset = read_shown_size(sample.filepath), dataset_of_sample(sample)
        where = f"{{}} of {sample.filepath}"
        there = where.format(config.gt_field)
        if config.group_by is not None:
            shown = self._group_of(sample)
            mask = label_mask(*(sample, truth_label, there), size=size, field=config.gt_field)
            truth = {shown: mask}
        else:
            targets = targets_of(dataset, config.gt_field)
            truth = named_masks(truth_label, size, targets, there, config.gt_field)
        found = named_masks(
            *(predicted_label, size, dict(enumerate(config.objects, start=1))),
            where.format(config.pred_field),
        )
        nothing = np.zeros(size, np.bool_)
        rows = []
        for name in config.objects:
            true, predicted = truth.get(name, nothing), found.get(name, nothing)
            if true.any() or predicted.any():
                counts = count_photo(predicted, true, config.dilation_ratio)
                ids = (label_id(truth_label), label_id(predicted_label))
                rows.append(PhotoRow(sample.id, name, counts, true.size, *ids))
        return rows

    def _group_of(self, sample: Any) -> str:
        group = OBJECT if self.config.group_by is None else sample[self.config.group_by]
        if group is None:
            raise PersamError(f"{sample.filepath} has no value in {self.config.group_by!r}: set it")
        return str(group)

    def _count_whole(self, sample: Any) -> PhotoRow:
        config = self.config
        truth_label, predicted_label = sample[config.gt_field], sample[config.pred_field]
        where = f"{{}} of {sample.filepath}"
        truth = label_mask(
            sample,
            truth_label,
            where.format(config.gt_field),
            value=config.mask_value,
            field=config.gt_field,
        )
        try:
            predicted = label_mask(
                sample, predicted_label, where.format(config.pred_field), size=truth.shape
            )
        except PersamError:  # it may be the ground truth that does not fit its photo
            size = read_shown_size(sample.filepath)
            label_mask(sample, truth_label, where.format(config.gt_field), size=size)
            raise
        return PhotoRow(
            id=sample.id,
            group=self._group_of(sample),
            counts=count_photo(predicted, truth, config.dilation_ratio),
            size=truth.size,
            gt_id=label_id(truth_label),
            pred_id=label_id(predicted_label),
        )


class PerSegResults(StoredResults):
    """Results of `evaluate`, with FiftyOne's own `metrics()`, `report()`, plots and subsets.

    Attributes:
        perseg: the scores as plain values.
        photos: per photo the id of its true label, its object, and its `PhotoCounts`.
        skipped: sample id -> why a photo could not be compared; none of the numbers has it.
    """

    perseg: dict[str, Any]
    photos: list[list[Any]]
    skipped: dict[str, str]

    @property
    def scores(self) -> PerSegScores:
        """All numbers: over objects, over photos, and per object; of the subset, if one is set.

        Raises:
            PersamError: the subset has no photo.
        """
        if not self.has_subset:
            return PerSegScores.from_dict(self.perseg)
        chosen = set(self.ytrue_ids)
        rows = [(name, PhotoCounts(*counts)) for i, name, *counts in self.photos if i in chosen]
        return _score(rows, self.config.dilation_ratio)

    def attributes(self) -> list[str]:
        """What is stored."""
        return [*super().attributes(), "perseg", "photos", "skipped"]

    def metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """FiftyOne's metrics and the protocol's; see `METRICS` for the names of the latter."""
        found: dict[str, Any] = super().metrics(*args, **kwargs)
        if self.has_subset:  # what is stored is of all photos
            scores = self.scores if self.ytrue.size else None
            for key, (attribute, _) in METRICS.items():
                found[key] = 0.0 if scores is None else getattr(scores, attribute)
        return found

    def print_report(self, classes: Sequence[str] | None = None, digits: int = 1) -> None:
        """Print IoU, boundary IoU and accuracy in percent: per object, their mean, over photos.

        A last line tells how many photos could not be compared.

        Args:
            classes: the objects to list; all if None.
            digits: digits after the point.
        """
        print(format_scores(self.scores, classes, digits))
        if self.skipped:
            first = next(iter(self.skipped.values()))
            print(f"left out: {len(self.skipped)} photos, the first: {first}")

    @classmethod
    def _from_dict(
        cls, d: dict[str, Any], samples: Any, config: Any, eval_key: str, **kwargs: Any
    ) -> PerSegResults:
        results: PerSegResults = super()._from_dict(d, samples, config, eval_key, **kwargs)
        results.perseg = d["perseg"]
        results.photos = d["photos"]
        results.skipped = d.get("skipped") or {}
        return results


def format_scores(
    scores: PerSegScores, objects: Sequence[str] | None = None, digits: int = 1
) -> str:
    """A table of scores in percent."""
    rows = [row for row in scores.objects if objects is None or row.name in objects]
    width = max([len("mean over objects"), *(len(row.name) for row in rows)])

    def line(name: str, photos: int, *values: float) -> str:
        cells = "".join(f"{100 * value:>10.{digits}f}" for value in values)
        return f"{name:<{width}}{photos:>8}{cells}"

    head = f"{'object':<{width}}{'photos':>8}{'IoU':>10}{'bIoU':>10}{'accuracy':>10}"
    lines = [head, "-" * len(head)]
    lines += [line(r.name, r.photos, r.iou, r.boundary_iou, r.accuracy) for r in rows]
    lines.append("-" * len(head))
    lines.append(
        line(
            "mean over objects",
            scores.photos,
            scores.miou,
            scores.mean_boundary_iou,
            scores.mean_accuracy,
        )
    )
    lines.append(
        line(
            "mean over photos",
            scores.photos,
            scores.photo_miou,
            scores.photo_mean_boundary_iou,
            scores.photo_mean_accuracy,
        )
    )
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------


def _score(rows: Iterable[tuple[str, PhotoCounts]], dilation_ratio: float) -> PerSegScores:
    accumulator = PerSegAccumulator(dilation_ratio)
    for group, counts in rows:
        accumulator.update_counts(group, counts)
    return accumulator.compute()


def _in_one_line(error: Exception, sample: Any) -> PersamError:
    if isinstance(error, PersamError):
        return error
    return PersamError(
        f"{sample.filepath} cannot be compared ({type(error).__name__}: {error}): check its labels"
    )


def _cells(row: PhotoRow) -> Iterator[tuple[int, int, int]]:
    """Truth, prediction (1 for the object) and pixels of the four cells of a confusion matrix."""
    counts = row.counts
    yield 1, 1, counts.intersection
    yield 1, 0, counts.truth - counts.intersection
    yield 0, 1, counts.predicted - counts.intersection
    yield 0, 0, row.size - counts.union


def _custom_metrics(scores: PerSegScores) -> dict[str, dict[str, Any]]:
    # This is what the Model Evaluation panel shows beside FiftyOne's own metrics.
    return {
        URI + key: {
            "key": key,
            "value": float(getattr(scores, attribute)),
            "label": label,
            "lower_is_better": False,
        }
        for key, (attribute, label) in METRICS.items()
    }
