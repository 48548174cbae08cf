"""Labels that are in a field already: whose they are, which go, and what files they name."""

from __future__ import annotations

from typing import Any

import fiftyone as fo

from ..database import photos_of
from ..review.table import ACCEPTED, REJECTED
from .chosen import CHUNK
from .promoted_files import Batch, batch_of


def has_labels_of(dataset: Any, run: str, label_field: str) -> bool:
    """Whether :func:`promote` has written labels of the run into a field before."""
    paths = (f"{label_field}.persam_run", f"{label_field}.detections.persam_run")
    known = [path for path in paths if dataset.get_field(path) is not None]
    return any(run in photos_of(dataset).distinct(path) for path in known)


def run_of(label: Any) -> str | None:
    """The run that a label was promoted from."""
    return getattr(label, "persam_run", None)


def labelled_ids(dataset: Any, run: str, label_field: str, ids: list[str], target: Any) -> set[str]:
    """The photos that have a label already; in a field of detections, one of this run."""
    if not dataset.has_field(label_field):
        return set()
    photos = photos_of(dataset)
    if target is fo.Segmentation:
        return set(photos.exists(label_field).values("id")) & set(ids)
    path = f"{label_field}.detections.persam_run"
    if dataset.get_field(path) is None:
        return set()
    runs = zip(*photos.values(["id", path]), strict=True)
    return {i for i, names in runs if run in (names or ())} & set(ids)


def withdrawn_labels(
    dataset: Any, run: str, label_field: str, states: dict[str, str]
) -> dict[str, Any]:
    """Sample id -> what is left of a label of the run whose decision is another one now."""
    if not has_labels_of(dataset, run, label_field):
        return {}
    values: dict[str, Any] = {}
    labelled = photos_of(dataset).exists(label_field)
    ids = [i for i in labelled.values("id") if i in states]
    for start in range(0, len(ids), CHUNK):
        for sample in labelled.select(ids[start : start + CHUNK]).select_fields(label_field):
            label, now = sample[label_field], states[sample.id]
            if not isinstance(label, fo.Detections):
                if _is_withdrawn(label, run, now):
                    values[sample.id] = None
                continue
            left = [d for d in label.detections if not _is_withdrawn(d, run, now)]
            if len(left) < len(label.detections):
                values[sample.id] = fo.Detections(detections=left) if left else None
    return values


def _is_withdrawn(label: Any, run: str, now: str) -> bool:
    then = getattr(label, "persam_review", None)
    if run_of(label) != run or then == now:
        return False
    return then in (ACCEPTED, REJECTED) or now == REJECTED


def earlier_batches(dataset: Any, label_field: str, ids: list[str], target: Any) -> set[Batch]:
    """The earlier promotions whose files labels of these photos name."""
    paths = [f"{label_field}.{name}" for name in ("mask_path", "persam_run")]
    if target is not fo.Segmentation or any(dataset.get_field(path) is None for path in paths):
        return set()
    wanted = set(ids)
    rows = zip(*photos_of(dataset).values(["id", *paths]), strict=True)
    found = {batch_of(i, path, run) for i, path, run in rows if i in wanted}
    return {batch for batch in found if batch is not None}
