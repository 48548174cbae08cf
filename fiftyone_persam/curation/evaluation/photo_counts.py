"""The pixels of one photo's objects counted: ground truth against prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...errors import PersamError
from ...metrics import PhotoCounts, count_photo
from ..fiftyone_api import dataset_of_sample
from ..labels.masks import named_masks
from ..labels.pixels import targets_of
from ..labels.shapes import label_mask
from ..labels.sizes import read_shown_size
from .stored_evaluation import label_id

OBJECT = "object"


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

    @property
    def cells(self) -> tuple[int, int, int, int]:
        """Pixels of both masks, of the true one alone, of the predicted one alone, of neither."""
        counts = self.counts
        both = counts.intersection
        return both, counts.truth - both, counts.predicted - both, self.size - counts.union


def photo_rows(sample: Any, config: Any) -> list[PhotoRow]:
    """What there is to count in one photo.

    Args:
        sample: the photo.
        config: which fields, and which objects: a `PerSegEvaluationConfig`.

    Returns:
        One row; of a run of several objects, one for each that is in the photo, or predicted.

    Raises:
        PersamError: a mask cannot be read or does not fit, or the photo's object is not named.
    """
    return _by_object(sample, config) if config.objects else [_whole(sample, config)]


def _by_object(sample: Any, config: Any) -> list[PhotoRow]:
    truth_label, predicted_label = sample[config.gt_field], sample[config.pred_field]
    size, dataset = read_shown_size(sample.filepath), dataset_of_sample(sample)
    where = f"{{}} of {sample.filepath}"
    there = where.format(config.gt_field)
    if config.group_by is not None:
        shown = _group_of(sample, config)
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


def _group_of(sample: Any, config: Any) -> str:
    group = OBJECT if config.group_by is None else sample[config.group_by]
    if group is None:
        raise PersamError(f"{sample.filepath} has no value in {config.group_by!r}: set it")
    return str(group)


def _whole(sample: Any, config: Any) -> PhotoRow:
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
        group=_group_of(sample, config),
        counts=count_photo(predicted, truth, config.dilation_ratio),
        size=truth.size,
        gt_id=label_id(truth_label),
        pred_id=label_id(predicted_label),
    )


def in_one_line(error: Exception, sample: Any) -> PersamError:
    """Why a photo could not be counted."""
    if isinstance(error, PersamError):
        return error
    return PersamError(
        f"{sample.filepath} cannot be compared ({type(error).__name__}: {error}): check its labels"
    )
