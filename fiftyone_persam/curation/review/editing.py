"""Correct masks by hand with the App's own tools, which edit ``Detections`` and nothing else."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import fiftyone as fo

from ...errors import PersamError
from ..checks import check_text, list_of_ids
from ..database import photos_of
from ..fiftyone_api import new_field
from ..frame_store import check_photos_only, home
from ..labels.masks import named_masks, shown_mask
from ..runs import schema
from ..runs.fields import read_fields
from ..runs.losses import check_has_masks, done_ids
from ..runs.naming import edit_field
from ..runs.several import values_of
from .decisions import check_results
from .table import Collection, review_table

CHUNK = 128

logger = logging.getLogger(__name__)


def make_editable(
    collection: Collection, run: str, ids: Iterable[str] | None = None, label: str = "object"
) -> str:
    """Prepare masks of a run for the App's Annotate mode.

    A run's ``Detections`` are offered as they are. Masks of a run that has only one
    ``Segmentation`` per photo are copied into the field ``<run>_edit``, once each: photos that are
    there already keep their corrections. Photos that cannot be read, or whose mask is damaged, are
    left out with a warning that names the first.

    Args:
        collection: a dataset or view
        run: the run's name
        ids: the photos; default: all that the run has touched
        label: the class name of copied masks; those of several objects have their names

    Returns:
        the name of the field that can be edited

    Raises:
        PersamError: if there is no such run, it has no masks, or none that can be read, or the
            field is locked
    """
    check_photos_only(collection, "editing masks by hand")
    table = review_table(collection, run)
    check_text("label", label)
    if ids is not None:
        ids = list_of_ids(ids)
        check_results(ids, table.ids, run)
    dataset = home(collection)
    fields = read_fields(dataset, run)
    check_has_masks(dataset, run)
    field = fields.instances or edit_field(run)
    copied = fields.instances is None or not dataset.has_field(field)  # a resume makes it anew
    if copied:
        field = edit_field(run)
    schema.check_unlocked(dataset, [field], f"editing masks of run {run!r}")
    if copied:
        faulty = _copy(dataset, run, field, table.ids if ids is None else list(ids), label)
        if faulty:
            first = next(iter(faulty.values()))
            logger.warning("%d photos are left out, the first: %s", len(faulty), first)
    with schema.schema_lease(dataset):
        made = dataset.generate_label_schemas(field)
        dataset.set_label_schemas({**(dataset.label_schemas or {}), field: made})
        if field not in (dataset.active_label_schemas or []):
            dataset.activate_label_schemas([field])
    return field


def corrected_fields(dataset: Any, run: str) -> list[str]:
    """The fields in which corrections of a run's masks by hand would be, latest first."""
    instances = read_fields(dataset, run).instances
    names = [edit_field(run), *([instances] if instances else [])]
    return [name for name in names if dataset.has_field(name)]


def latest_label(sample: Any, run: str, corrected: Sequence[str]) -> Any:
    """A photo's label from the first of ``corrected`` that has one, else the run's."""
    return sample[latest_field(sample, run, corrected)]


def latest_field(sample: Any, run: str, corrected: Sequence[str]) -> str:
    """Where a photo's latest label is: the first of ``corrected`` that has one, else the run's."""
    filled = (n for n in corrected if sample.has_field(n) and sample[n] is not None)
    return next(filled, run)


def _copy(dataset: Any, run: str, field: str, ids: list[str], label: str) -> dict[str, str]:
    """Copy masks; sample id -> why a photo is left out."""
    text = f"Masks of run {run!r}, corrected by hand"
    made = new_field(
        field, fo.EmbeddedDocumentField, embedded_doc_type=fo.Detections, description=text
    )
    photos, targets = photos_of(dataset), values_of(read_fields(dataset, run).objects)
    done = done_ids(dataset, run) & set(ids)
    todo = sorted(done - done_ids(dataset, field))
    faulty: dict[str, str] = {}
    for start in range(0, len(todo), CHUNK):
        copies = {}
        for sample in photos.select(todo[start : start + CHUNK]):
            try:
                mask = shown_mask(sample, run)
                named = {label: mask}
                if targets:
                    named = named_masks(sample[run], mask.shape, targets)
            except PersamError as error:
                faulty[sample.id] = str(error)
                continue
            objects = [fo.Detection.from_mask(m, label=n) for n, m in named.items() if m.any()]
            copies[sample.id] = fo.Detections(detections=objects)
        if copies:
            schema.add_fields(dataset, {field: made})
            dataset.set_values(field, copies, key_field="id")
    if faulty and len(faulty) == len(done):
        raise PersamError(f"no mask can be edited, the first: {next(iter(faulty.values()))}")
    schema.add_fields(dataset, {field: made})
    return faulty
