"""Correct masks by hand with the App's own tools, which edit ``Detections`` and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import fiftyone as fo

from .label_masks import photo_size, union_mask
from .review import Collection, edit_field, review_table

CHUNK = 128


def make_editable(
    collection: Collection, run: str, ids: Iterable[str] | None = None, label: str = "object"
) -> str:
    """Prepare masks of a run for the App's Annotate mode.

    A run written as ``Detections`` is offered as it is. Masks of a run written as one
    ``Segmentation`` per photo are copied into the field ``<run>_edit``, once each: photos that are
    there already keep their corrections.

    Args:
        collection: a dataset or view
        run: the run's name
        ids: the photos; default: all that the run has touched
        label: the class name of copied masks

    Returns:
        the name of the field that can be edited

    Raises:
        PersamError: if there is no such run
    """
    table = review_table(collection, run)
    dataset = collection._root_dataset
    field = run
    if dataset.get_field(run).document_type is not fo.Detections:
        field = edit_field(run)
        _copy(dataset, run, field, table.ids if ids is None else list(ids), label)
    schema = dataset.generate_label_schemas(field)
    dataset.set_label_schemas({**(dataset.label_schemas or {}), field: schema})
    if field not in (dataset.active_label_schemas or []):
        dataset.activate_label_schemas([field])
    return field


def _copy(dataset: Any, run: str, field: str, ids: list[str], label: str) -> None:
    if not dataset.has_field(field):
        dataset.add_sample_field(
            field,
            fo.EmbeddedDocumentField,
            embedded_doc_type=fo.Detections,
            description=f"Masks of run {run!r}, corrected by hand",
        )
    missing = dataset.select(ids).exists(field, bool=False).exists(run)
    todo = missing.values("id")
    for start in range(0, len(todo), CHUNK):
        copies = {}
        for sample in dataset.select(todo[start : start + CHUNK]):
            mask = union_mask(sample[run], photo_size(sample.filepath, sample.metadata))
            objects = [fo.Detection.from_mask(mask, label=label)] if mask.any() else []
            copies[sample.id] = fo.Detections(detections=objects)
        dataset.set_values(field, copies, key_field="id")
