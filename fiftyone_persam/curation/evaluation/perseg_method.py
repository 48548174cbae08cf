"""The PerSeg protocol as one of FiftyOne's segmentation evaluation methods."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from contextlib import closing
from typing import Any

import fiftyone.utils.eval.segmentation as foues

from ...engine.loading import load_ahead
from ...errors import PersamError
from ...metrics import DILATION_RATIO, PerSegAccumulator, PerSegScores, PhotoCounts
from .photo_counts import PhotoRow, in_one_line, photo_rows
from .stored_evaluation import (
    PixelTally,
    Progress,
    StoredEvaluation,
    StoredResults,
    reporting,
    write_means,
)
from .tables import format_scores

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
        unknown: those of them that nothing in the ground truth was called by.
    """

    def __init__(
        self,
        pred_field: str,
        gt_field: str,
        group_by: str | None = None,
        mask_value: int | str | None = None,
        dilation_ratio: float = DILATION_RATIO,
        objects: Sequence[str] = (),
        unknown: Sequence[str] = (),
        **kwargs: Any,
    ) -> None:
        super().__init__(pred_field, gt_field, **kwargs)
        self.group_by = group_by
        self.mask_value = mask_value
        self.dilation_ratio = dilation_ratio
        self.objects = list(objects)
        self.unknown = list(unknown)

    @property
    def method(self) -> str:
        """The name of the method."""
        return "perseg"


class PerSegEvaluation(StoredEvaluation):
    """Evaluation by the PerSeg protocol; see `evaluate`."""

    fields = FIELDS
    numbers = METRICS

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
        count = functools.partial(photo_rows, config=config)
        # Masks are read and counted in threads; NumPy and OpenCV let go of the interpreter.
        photos = load_ahead(chosen.select_fields(names).iter_samples(), count, 4, 16)
        with reporting(progress, total) as report, closing(photos):
            for sample, counted in photos:
                if isinstance(counted, Exception):
                    error = in_one_line(counted, sample)
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
                values = [(row.id, getattr(row.counts, name)) for row in rows]
                write_means(samples, f"{eval_key}_{name}", values)
        scores = _score([(row.group, row.counts) for row in rows], self.config.dilation_ratio)
        tally = PixelTally(sorted({row.group for row in rows}))
        for row in rows:
            tally.add(tally.classes.index(row.group), *row.cells, (row.gt_id, row.pred_id))
        results: PerSegResults = self.make_results(PerSegResults, samples, eval_key, tally, scores)
        results.perseg = scores.to_dict()
        results.skipped = dict(skipped)
        results.photos = [[row.gt_id, row.group, *vars(row.counts).values()] for row in rows]
        return results


class PerSegResults(StoredResults):
    """Results of `evaluate`, with FiftyOne's own `metrics()`, `report()`, plots and subsets.

    Attributes:
        perseg: the scores as plain values.
        photos: per photo the id of its true label, its object, and its `PhotoCounts`.
        skipped: sample id -> why a photo could not be compared; none of the numbers has it.
    """

    kept = ("perseg", "photos")
    perseg: dict[str, Any]
    photos: list[list[Any]]

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

        Last lines tell which objects have no ground truth of their name, and how many photos could
        not be compared.

        Args:
            classes: the objects to list; all if None.
            digits: digits after the point.
        """
        print(format_scores(self.scores, classes, digits))
        if self.config.unknown:
            names = ", ".join(map(repr, self.config.unknown))
            print(f"without ground truth of their name, so IoU 0 where masked: {names}")
        self.print_skipped("photos")


def _score(rows: Iterable[tuple[str, PhotoCounts]], dilation_ratio: float) -> PerSegScores:
    accumulator = PerSegAccumulator(dilation_ratio)
    for group, counts in rows:
        accumulator.update_counts(group, counts)
    return accumulator.compute()
