"""The objects of one sequence by DAVIS's protocol: J and F, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from ...errors import PersamError
from ...metrics import JFScores, contour_accuracy, region_similarity, summarised
from ...metrics.jf import TOLERANCE_RATIO
from ..labels.masks import union_mask
from ..labels.pixels import mask_pixels
from ..labels.shapes import fit_mask
from .sequences import Frame
from .stored_evaluation import (
    label_id,
)

Mask = npt.NDArray[np.bool_]
Key = str
"""Of an object in its sequence: its label, or its number."""
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
