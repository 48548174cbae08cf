"""DAVIS's protocol for objects that are followed, as one of FiftyOne's evaluation methods.

J is the IoU of an object's masks, F the accuracy of their contours; see `metrics.jf`. Of every
sequence the first and the last annotated frame are left out, and means are over objects.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.utils.eval.segmentation as foues
import numpy as np
import numpy.typing as npt
from bson import ObjectId
from pymongo import UpdateOne

from ...errors import PersamError
from ...metrics import JFScores, contour_accuracy, mean_scores, region_similarity, summarised
from ...metrics.jf import TOLERANCE_RATIO
from ...sam.frames import video_info
from ..fiftyone_api import bulk_write, own_dataset
from ..frame_store import PREFIX, FrameStore
from ..labels.masks import union_mask
from ..labels.pixels import mask_pixels
from ..labels.shapes import fit_mask
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

Mask = npt.NDArray[np.bool_]
Key = str
"""Of an object in its sequence: its label, or its number."""

FRAME_FIELDS = ("j", "f")
METRICS = {
    "jf": ("jf", "J&F"),
    "j": ("j", "J"),
    "f": ("f", "F"),
    "j_recall": ("j_recall", "J recall"),
    "f_recall": ("f_recall", "F recall"),
    "j_decay": ("j_decay", "J decay"),
    "f_decay": ("f_decay", "F decay"),
}
"""Attributes of `JFScores`, and how the App calls them; of a decay, less is better."""
FEWEST = 3  # annotated frames of a sequence that leave one to count


@dataclass(frozen=True)
class Frame:
    """A frame with ground truth.

    Attributes:
        id: of its sample, or of the video's frame.
        truth: its label.
        predicted: its label, or None.
        size: height and width.
        where: how messages call it.
    """

    id: str
    truth: Any
    predicted: Any
    size: tuple[int, int]
    where: str


@dataclass(frozen=True)
class ObjectRow:
    """One object in one sequence.

    Attributes:
        sequence: its name.
        object: its label or number.
        ids: of the frames that count.
        j: of these frames.
        f: of these frames.
        pixels: per frame those of both masks, of the truth alone, and of the prediction alone.
        label_ids: per frame the true and the predicted label's.
    """

    sequence: str
    object: Key
    ids: list[str] = field(default_factory=list)
    j: list[float] = field(default_factory=list)
    f: list[float] = field(default_factory=list)
    pixels: list[tuple[int, int, int]] = field(default_factory=list)
    label_ids: list[tuple[str | None, str | None]] = field(default_factory=list)

    @property
    def scores(self) -> JFScores:
        """Means, recalls and decays over its frames."""
        return summarised(self.j, self.f)


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

    def stored_on(self, samples: Any) -> Any:
        """The dataset, or the frames of a dataset of videos."""
        return _home(samples)

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
        sequences = _sequences(samples, self.config)
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
                values: dict[str, list[float]] = {}
                for row in rows:
                    for frame, value in zip(row.ids, getattr(row, name), strict=True):
                        values.setdefault(frame, []).append(value)
                means = {frame: float(np.mean(found)) for frame, found in values.items()}
                _set_values(samples, f"{eval_key}_{name}", means)
        objects = Counter(row.sequence for row in rows)
        names = [
            f"{row.sequence}/{row.object}" if objects[row.sequence] > 1 else row.sequence
            for row in rows
        ]
        classes = [BACKGROUND, *names]
        matrix = np.zeros((len(classes), len(classes)), dtype=np.int64)
        matches = []
        for index, row in enumerate(rows, start=1):
            for (both, truth, found), ids in zip(row.pixels, row.label_ids, strict=True):
                cells = (
                    (index, index, both),
                    (index, 0, truth),
                    (0, index, found),
                )
                for true, predicted, pixels in cells:
                    matrix[true, predicted] += pixels
                    if pixels:
                        matches.append((classes[true], classes[predicted], pixels, *ids))
        scores = [row.scores for row in rows]
        results = DavisResults(
            samples,
            self.config,
            eval_key,
            matrix,
            classes,
            matches=matches,
            missing=BACKGROUND,
            custom_metrics=_custom_metrics(mean_scores(scores)),
            backend=self,
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

    objects: list[dict[str, Any]]
    skipped: dict[str, str]

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

    def attributes(self) -> list[str]:
        """What is stored."""
        return [*super().attributes(), "objects", "skipped"]

    def print_report(self, digits: int = 1) -> None:
        """Print J&F, J and F with recall and decay in percent: per object, and their mean."""
        print(format_jf(self.rows, digits))
        if self.skipped:
            first = next(iter(self.skipped.values()))
            print(f"left out: {len(self.skipped)} sequences, the first: {first}")

    @classmethod
    def _from_dict(
        cls, d: dict[str, Any], samples: Any, config: Any, eval_key: str, **kwargs: Any
    ) -> DavisResults:
        results: DavisResults = super()._from_dict(d, samples, config, eval_key, **kwargs)
        results.objects = d["objects"]
        results.skipped = d.get("skipped") or {}
        return results


def format_jf(rows: Sequence[tuple[str, str, JFScores]], digits: int = 1) -> str:
    """A table of scores in percent."""
    mean = ("mean over objects", "", mean_scores([one for _, _, one in rows]))
    width = max(len(f"{sequence} {name}") for sequence, name, _ in (*rows, mean))
    head = f"{'object':<{width}}{'frames':>8}" + "".join(f"{t:>10}" for _, t in METRICS.values())
    lines = [head, "-" * len(head)]
    for sequence, name, one in (*rows, mean):
        if (sequence, name) == mean[:2]:
            lines.append("-" * len(head))
        cells = "".join(f"{100 * getattr(one, key):>10.{digits}f}" for key in METRICS)
        lines.append(f"{f'{sequence} {name}':<{width}}{one.frames:>8}{cells}")
    return "\n".join(lines)


def score_sequence(
    name: str, frames: Sequence[Frame], tolerance_ratio: float = TOLERANCE_RATIO
) -> list[ObjectRow]:
    """The objects of one sequence.

    Args:
        name: the sequence.
        frames: with ground truth, in order.
        tolerance_ratio: see `contour_accuracy`.

    Raises:
        PersamError: fewer than three frames, no object, or a mask that cannot be used.
    """
    if len(frames) < FEWEST:
        raise PersamError(
            f"sequence {name} has {len(frames)} frames with ground truth, of which the first and "
            "the last do not count: label 3 or more"
        )
    named = sorted({key for one in frames for key in _names(one.truth)}, key=_in_order)
    if not named:
        named = ["object"] if any(_masks(f.truth, f, ["object"]) for f in frames[:1]) else []
    rows = {key: ObjectRow(name, key) for key in named}
    counted = frames[1:-1]
    if not rows:
        raise PersamError(f"sequence {name} has no object in its ground truth: label one")

    def compare(frame: Frame) -> list[tuple[float, float, tuple[int, int, int]]]:
        truth = _masks(frame.truth, frame, named)
        found = _masks(frame.predicted, frame, named)
        nothing = np.zeros(frame.size, np.bool_)
        values = []
        for key in named:
            true, predicted = truth.get(key, nothing), found.get(key, nothing)
            both = int(np.count_nonzero(true & predicted))
            pixels = (both, int(true.sum()) - both, int(predicted.sum()) - both)
            j = region_similarity(predicted, true)
            values.append((j, contour_accuracy(predicted, true, tolerance_ratio), pixels))
        return values

    with ThreadPoolExecutor(4) as pool:  # NumPy lets go of the interpreter
        for frame, values in zip(counted, pool.map(compare, counted), strict=True):
            ids = (label_id(frame.truth), label_id(frame.predicted))
            for row, (j, f, pixels) in zip(rows.values(), values, strict=True):
                row.ids.append(frame.id)
                row.j.append(j)
                row.f.append(f)
                row.pixels.append(pixels)
                row.label_ids.append(ids)
    return list(rows.values())


# ----------------------------------------------------------------------------------------------


def _names(label: Any) -> set[Key]:
    """The objects that a true label tells apart."""
    if isinstance(label, fo.Detections):
        return {_key(one) for one in label.detections}
    if isinstance(label, fo.Segmentation):
        pixels = mask_pixels(label, "the ground truth")
        if pixels is not None and pixels.values is not None:
            values = {int(v) for v in np.unique(pixels.values) if v}
            return {"object"} if values <= {255} else {str(v) for v in values - {255}}
    return set()


def _key(detection: Any) -> Key:
    index = getattr(detection, "index", None)
    return str(detection.label if index is None else index)


def _in_order(key: Key) -> tuple[int, str]:
    return (int(key), "") if key.isdecimal() else (0, key)


def _masks(label: Any, frame: Frame, named: Sequence[Key]) -> dict[Key, Mask]:
    """Object -> (H, W) mask in a label; what is no object of the sequence is left out."""
    if label is None:
        return {}
    if len(named) == 1:
        return {named[0]: union_mask(label, frame.size, frame.where)}
    found: dict[Key, Mask] = {}
    if isinstance(label, fo.Segmentation):
        pixels = mask_pixels(label, frame.where)
        if pixels is not None and pixels.values is not None:
            for key in named:
                if key.isdecimal():
                    found[key] = fit_mask(pixels.values == int(key), frame.size, frame.where)
        return found
    by_label = _labels_to_keys(frame.truth)
    for one in label.detections:
        # A run of one object numbers it 1, whatever it is called.
        key = by_label.get(str(one.label), _key(one))
        if key in named:
            mask = union_mask(fo.Detections(detections=[one]), frame.size, frame.where)
            found[key] = found[key] | mask if key in found else mask
    return found


def _labels_to_keys(truth: Any) -> dict[str, Key]:
    """Label -> object, where each object has a label of its own."""
    detections = getattr(truth, "detections", None) or []
    keys: dict[str, set[Key]] = {}
    for one in detections:
        keys.setdefault(str(one.label), set()).add(_key(one))
    return {label: next(iter(found)) for label, found in keys.items() if len(found) == 1}


def _sequences(samples: Any, config: DavisEvaluationConfig) -> Iterator[tuple[str, list[Frame]]]:
    """Sequences with their frames that have ground truth, in order, one in memory at a time."""
    if isinstance(samples, FrameStore):
        yield from _of_videos(samples, config.gt_field, config.pred_field)
        return
    name_of, order = config.sequence_field, config.order_field
    if name_of is None:
        raise PersamError(
            "these are photos, and DAVIS's protocol is about sequences: give sequence_field, the "
            "field that names each photo's sequence"
        )
    names = [config.gt_field, config.pred_field, name_of, *([order] if order else [])]
    view = samples.exists(config.gt_field).select_fields(names)
    sorted_ = view.sort_by([(name_of, 1), (order or "filepath", 1)])
    for name, group in groupby(sorted_.iter_samples(), key=lambda one: one[name_of]):
        if name is None:
            continue
        yield str(name), [_frame_of(sample, config) for sample in group]


def _frame_of(sample: Any, config: DavisEvaluationConfig) -> Frame:
    return Frame(
        sample.id,
        sample[config.gt_field],
        sample[config.pred_field],
        read_shown_size(sample.filepath),
        f"the mask of {Path(sample.filepath).name}",
    )


def _of_videos(
    frames: FrameStore, gt_field: str, pred_field: str
) -> Iterator[tuple[str, list[Frame]]]:
    chosen = set(frames.exists(gt_field).values("id"))
    view = frames.videos.select_fields([PREFIX + gt_field, PREFIX + pred_field])
    named: dict[str, int] = {}
    for sample in view.iter_samples():
        found: list[Frame] = []
        size: tuple[int, int] | None = None
        for number, frame in sorted(sample.frames.items(), key=lambda item: int(item[0])):
            if frame.id not in chosen:
                continue
            if size is None:
                info = video_info(sample.filepath)
                size = (info.height, info.width)
            where = f"the mask of frame {number} of {Path(sample.filepath).name}"
            found.append(Frame(frame.id, frame[gt_field], frame[pred_field], size, where))
        if found:
            name = Path(sample.filepath).stem
            named[name] = named.get(name, 0) + 1
            yield name if named[name] == 1 else f"{name} ({named[name]})", found


def _home(samples: Any) -> Any:
    """The dataset, or the frames of a dataset of videos, that fields are written to."""
    from ..database import root

    return root(samples)


def _set_values(samples: Any, name: str, values: Mapping[str, float]) -> None:
    if not isinstance(samples, FrameStore):
        own_dataset(samples).set_values(name, dict(values), key_field="id")
        return
    updates = [
        UpdateOne({"_id": ObjectId(i)}, {"$set": {name: value}}) for i, value in values.items()
    ]
    if updates:
        bulk_write(samples, updates, ids=values)


def _custom_metrics(scores: JFScores) -> dict[str, dict[str, Any]]:
    return {
        URI + key: {
            "key": key,
            "value": float(getattr(scores, attribute)),
            "label": label,
            "lower_is_better": key.endswith("decay"),
        }
        for key, (attribute, label) in METRICS.items()
    }


def fields_of(keys: Iterable[str]) -> list[str]:
    """The fields that evaluations of these names write."""
    return [f"{key}_{name}" for key in keys for name in FRAME_FIELDS]
