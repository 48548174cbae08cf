"""DAVIS's protocol for objects that are followed, as one of FiftyOne's evaluation methods.

J is the IoU of an object's masks, F the accuracy of their contours; see `metrics.jf`. Of every
sequence the first and the last annotated frame are left out, and means are over objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fiftyone.utils.eval.segmentation as foues

from ...errors import PersamError
from ...metrics import JFScores, mean_scores
from ...metrics.jf import TOLERANCE_RATIO
from ..database import root
from .sequence_scores import METRICS, ObjectRow, score_sequence
from .sequences import sequences_of
from .stored_evaluation import (
    PixelTally,
    Progress,
    StoredEvaluation,
    StoredResults,
    reporting,
    write_means,
)
from .tables import format_jf

FRAME_FIELDS = ("j", "f")


class DavisEvaluationConfig(foues.SegmentationEvaluationConfig):  # type: ignore[misc]
    """Settings of a `DavisEvaluation`.

    Args:
        pred_field: field of predicted Detections or Segmentation.
        gt_field: field of true Detections or Segmentation.
        sequence_field: field that names the sequence of a photo; None for videos.
        order_field: field that sorts the photos of a sequence; None sorts them by their paths.
        tolerance_ratio: how far a contour may be off, as a share of the frame's diagonal.
    """

    def __init__(
        self,
        pred_field: str,
        gt_field: str,
        sequence_field: str | None = None,
        order_field: str | None = None,
        tolerance_ratio: float = TOLERANCE_RATIO,
        **kwargs: Any,
    ) -> None:
        super().__init__(pred_field, gt_field, **kwargs)
        self.sequence_field = sequence_field
        self.order_field = order_field
        self.tolerance_ratio = tolerance_ratio

    @property
    def method(self) -> str:
        """The name of the method."""
        return "davis"


class DavisEvaluation(StoredEvaluation):
    """Evaluation by DAVIS's protocol; see `evaluate`."""

    fields = FRAME_FIELDS
    numbers = METRICS
    less_is_better = ("j_decay", "f_decay")

    def stored_on(self, samples: Any) -> Any:
        """The dataset, or the frames of a dataset of videos."""
        return root(samples)

    def count(
        self, samples: Any, progress: Progress = None, skip_faulty: bool = True
    ) -> tuple[list[ObjectRow], dict[str, str]]:
        """Score sequence by sequence, writing nothing.

        Returns:
            the objects, and sequence -> why it could not be scored.

        Raises:
            PersamError: a mask cannot be read or does not fit, and sequences like that are not to
                be skipped, or there is no other one.
        """
        rows: list[ObjectRow] = []
        skipped: dict[str, str] = {}
        sequences = sequences_of(samples, self.config)
        done, total = 0, len(samples.exists(self.config.gt_field))
        with reporting(progress, total) as report:
            for name, frames in sequences:
                try:
                    rows += score_sequence(name, frames, self.config.tolerance_ratio)
                except PersamError as error:
                    if not skip_faulty:
                        raise
                    skipped[name] = str(error)
                done += len(frames)
                report(min(done, total))
        if not rows:
            first = next(iter(skipped.values()), "no frame has ground truth")
            raise PersamError(f"no sequence can be scored: {first}")
        return rows, skipped

    def sum_up(
        self,
        samples: Any,
        eval_key: str | None,
        rows: Sequence[ObjectRow],
        skipped: Mapping[str, str],
    ) -> DavisResults:
        """Write the frames' fields, the means over their objects, and make the results."""
        if eval_key is not None:
            for name in FRAME_FIELDS:
                values = [
                    pair for row in rows for pair in zip(row.ids, getattr(row, name), strict=True)
                ]
                write_means(samples, f"{eval_key}_{name}", values)
        objects = Counter(row.sequence for row in rows)
        tally = PixelTally(
            f"{row.sequence}/{row.object}" if objects[row.sequence] > 1 else row.sequence
            for row in rows
        )
        for index, row in enumerate(rows, start=1):
            for (both, truth, found), ids in zip(row.pixels, row.label_ids, strict=True):
                tally.add(index, both, truth, found, 0, ids)
        scores = [row.scores for row in rows]
        results: DavisResults = self.make_results(
            DavisResults, samples, eval_key, tally, mean_scores(scores)
        )
        results.objects = [
            {"sequence": row.sequence, "object": row.object, **vars(one)}
            for row, one in zip(rows, scores, strict=True)
        ]
        results.skipped = dict(skipped)
        return results


class DavisResults(StoredResults):
    """Results of `evaluate` with ``method="davis"``, beside FiftyOne's own metrics and plots.

    Attributes:
        objects: per object its sequence, its name and the values of its `JFScores`.
        skipped: sequence -> why it could not be scored; none of the numbers has it.
    """

    kept = ("objects",)
    objects: list[dict[str, Any]]

    @property
    def scores(self) -> JFScores:
        """The means over objects."""
        return mean_scores([one for _, _, one in self.rows])

    @property
    def rows(self) -> list[tuple[str, str, JFScores]]:
        """Sequence, object and scores."""
        return [
            (
                one["sequence"],
                one["object"],
                JFScores(**{k: v for k, v in one.items() if k not in ("sequence", "object")}),
            )
            for one in self.objects
        ]

    def print_report(self, digits: int = 1) -> None:
        """Print J&F, J and F with recall and decay in percent: per object, and their mean."""
        print(format_jf(self.rows, digits))
        self.print_skipped("sequences")


def fields_of(keys: Iterable[str]) -> list[str]:
    """The fields that evaluations of these names write."""
    return [f"{key}_{name}" for key in keys for name in FRAME_FIELDS]
