"""What an evaluation asks of its ground truth and predictions before it counts, and warns of."""

from __future__ import annotations

import logging
from typing import Any

import fiftyone as fo

from ...errors import PersamError
from .. import database
from ..runs import losses, naming
from .truth_names import TruthNames

logger = logging.getLogger(__name__)


def objects_without_truth(names: TruthNames | None) -> list[str]:
    """A run's objects that nothing in the ground truth is called by, with a warning about them.

    Raises:
        PersamError: they are all of its objects.
    """
    if names is None:
        return []
    if names.fault:
        raise PersamError(names.fault)
    if names.problem:
        logger.warning("%s", names.problem)
    return names.unknown


def check_truth(photos: Any, view: Any, gt_field: str) -> None:
    """Raise PersamError if nothing can be compared, and say which of three reasons it is."""
    if len(view.exists(gt_field)):
        return
    if not database.count(photos):
        raise PersamError("there is no photo to evaluate: the view is empty")
    if len(photos.exists(gt_field)):
        raise PersamError(
            f"every photo with ground truth in {gt_field!r} is a reference, which the protocol "
            "leaves out: label another photo, or give include_references=True"
        )
    raise PersamError(f"no photo has ground truth in {gt_field!r}: choose its field")


def warn_of_photos_left_out(dataset: Any, view: Any, pred_field: str, gt_field: str) -> None:
    """Photos that a run has not segmented count as empty masks."""
    run = naming.owner_of(dataset, pred_field)
    if run is None:
        return
    truth = view.exists(gt_field)
    done = losses.done_ids(dataset, run)
    untouched = sum(i not in done for i in truth.values("id"))
    if untouched:
        logger.warning(
            "%d of %d photos were not segmented by run %r and count as empty masks: evaluate the "
            "view that was segmented",
            *(untouched, len(truth), run),
        )


def warn_of_classes(view: Any, gt_field: str) -> None:
    """Labels of several names are one object only to somebody who means that."""
    if view.get_field(gt_field).document_type is not fo.Detections:
        return
    names = sorted(str(name) for name in view.distinct(f"{gt_field}.detections.label") if name)
    if len(names) > 1:
        logger.warning(
            "%r holds %s, and all of that counts as the object: for one of them evaluate "
            "samples.filter_labels(%r, F('label') == %r, only_matches=False)",
            *(gt_field, ", ".join(map(repr, names[:5])) + (", ..." if names[5:] else "")),
            *(gt_field, names[0]),
        )


def warn_of_lost_masks(dataset: Any, pred_field: str) -> None:
    """A run's mask whose file is gone cannot be compared."""
    run = naming.owner_of(dataset, pred_field)
    lost = losses.lost_files(dataset, run) if run is not None else {}
    if lost:
        logger.warning(
            "mask files of %d photos of run %r are gone, the first %s: put them back, or make "
            "them again with resume_run(dataset, %r)",
            *(len(lost), run, next(iter(lost.values())), run),
        )
