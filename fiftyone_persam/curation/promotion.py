"""Hand reviewed masks over to a label field of the dataset, with where each one comes from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np

from ..errors import PersamError, RunConflictError
from .checks import (
    check_field_name,
    check_states,
    check_switches,
    check_text,
    folder_path,
)
from .editing import corrected_fields, latest_label
from .fields import photos_of
from .folders import check_writable, read_mark
from .label_masks import shown_mask
from .review import ACCEPTED, STATES, Collection, review_table
from .runs import owner_of

PROVENANCE = {
    "persam_run": fo.StringField,
    "persam_score": fo.FloatField,
    "persam_presence": fo.FloatField,
    "persam_review": fo.StringField,
}
CHUNK = 128


@dataclass
class Promotion:
    """What :func:`promote` did: ids of photos that got a label, and of those left as they were."""

    label_field: str
    promoted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{len(self.promoted)} labels promoted into {self.label_field!r}"
        if self.kept:
            text += f", {len(self.kept)} photos kept the label they had (overwrite=True replaces)"
        return text


def promote(
    collection: Collection,
    run: str,
    label_field: str,
    states: Sequence[str] = (ACCEPTED,),
    kind: str | None = None,
    label: str = "object",
    overwrite: bool = False,
    masks_dir: str | os.PathLike[str] | None = None,
) -> Promotion:
    """Copy a run's masks into a label field that outlives the run.

    Masks corrected by hand (see :func:`~fiftyone_persam.curation.editing.make_editable`) are taken
    in place of the run's. Each label carries its provenance as attributes: ``persam_run``,
    ``persam_score``, ``persam_presence`` and ``persam_review``. Photos that already have a label in
    the field keep it unless ``overwrite``; in a field of ``Detections`` the objects of this run are
    replaced and all others stay. Mask files are copied: deleting the run leaves the labels whole.

    Args:
        collection: a dataset or view
        run: the run's name
        label_field: where to write; made if it is missing
        states: which review states to take
        kind: ``"segmentation"`` or ``"detections"``; default: what the field or the run has
        label: the class name of new detections
        overwrite: replace segmentations that are there
        masks_dir: folder for mask files; default: a folder named after the field beside the run's

    Raises:
        PersamError: for an unknown run or kind, or a field of another label type
        RunConflictError: if the field, or the folder, belongs to a run
    """
    table = review_table(collection, run)
    dataset = collection._root_dataset
    check_states(states, STATES)
    check_text("label", label)
    check_switches(overwrite=overwrite)
    folder = None if masks_dir is None else _masks_folder(masks_dir)
    target = _target_kind(dataset, run, label_field, kind)
    states_of = dict(zip(table.ids, table.states.tolist(), strict=True))
    chosen = table.of_state(*states)
    result = Promotion(label_field)
    if not chosen:
        return result
    corrected = corrected_fields(dataset, run)
    _declare(dataset, label_field, target)
    if not dataset.mask_targets.get(label_field) and dataset.mask_targets.get(run):
        dataset.mask_targets[label_field] = dataset.mask_targets[run]
        dataset.save()

    photos = photos_of(dataset)
    for start in range(0, len(chosen), CHUNK):
        values: dict[str, Any] = {}
        for sample in photos.select(chosen[start : start + CHUNK], ordered=True):
            provenance = {
                "persam_run": run,
                "persam_score": sample.get_field(f"{run}_score"),
                "persam_presence": sample.get_field(f"{run}_presence"),
                "persam_review": states_of[sample.id],
            }
            source, present = latest_label(sample, run, corrected), sample[label_field]
            if source is None:
                continue
            if target is fo.Detections:
                objects = _detections(sample, run, source, label, provenance)
                others = [d for d in _objects(present) if _run_of(d) != run]
                values[sample.id] = fo.Detections(detections=[*others, *objects])
            elif (
                present is not None
                and not overwrite
                and getattr(present, "persam_run", None) != run
            ):
                result.kept.append(sample.id)
                continue
            else:
                values[sample.id] = _segmentation(
                    sample, run, source, label_field, folder, provenance
                )
            result.promoted.append(sample.id)
        dataset.set_values(label_field, values, key_field="id")
    return result


def _target_kind(dataset: Any, run: str, label_field: str, kind: str | None) -> Any:
    kinds = {"segmentation": fo.Segmentation, "detections": fo.Detections}
    if kind is not None and not (isinstance(kind, str) and kind in kinds):
        raise PersamError(f"unknown kind {kind!r}: choose 'segmentation' or 'detections'")
    if label_field in dataset.list_runs():
        raise RunConflictError(
            f"field {label_field!r} belongs to the run of that name: choose another field"
        )
    if owner := owner_of(dataset, label_field):
        raise RunConflictError(
            f"field {label_field!r} belongs to run {owner!r}, and goes with it: choose another"
        )
    plain = isinstance(label_field, str) and label_field
    present = dataset.get_field(label_field) if plain else None
    if present is None:
        check_field_name("label_field", label_field)
        wanted = kinds[kind] if kind else dataset.get_field(run).document_type
        return fo.Detections if wanted is fo.Detections else fo.Segmentation
    found = getattr(present, "document_type", None)
    if found not in kinds.values() or (kind and kinds[kind] is not found):
        name = getattr(found, "__name__", type(present).__name__)
        raise PersamError(
            f"field {label_field!r} holds {name}, not {kind or 'masks'}: choose another field"
        )
    return fo.Detections if found is fo.Detections else fo.Segmentation


def _masks_folder(masks_dir: Any) -> Path:
    folder = folder_path("masks_dir", masks_dir)
    check_writable(folder)
    if (mark := read_mark(folder)) is not None:
        raise RunConflictError(
            f"folder {folder} belongs to run {mark.get('run')!r} of dataset "
            f"{mark.get('dataset')!r}: choose another masks_dir"
        )
    return folder


def _declare(dataset: Any, label_field: str, target: Any) -> None:
    if not dataset.has_field(label_field):
        dataset.add_sample_field(label_field, fo.EmbeddedDocumentField, embedded_doc_type=target)
    path = f"{label_field}.detections" if target is fo.Detections else label_field
    for name, ftype in PROVENANCE.items():
        if dataset.get_field(f"{path}.{name}") is None:
            dataset.add_sample_field(f"{path}.{name}", ftype)


def _run_of(label: Any) -> str | None:
    return getattr(label, "persam_run", None)


def _objects(label: Any) -> list[Any]:
    return [] if label is None else list(label.detections)


def _detections(
    sample: Any, run: str, source: Any, label: str, provenance: dict[str, Any]
) -> list[Any]:
    if isinstance(source, fo.Detections):
        copies = []
        for found in source.detections:
            mask = found.get_mask() if found.has_mask else None
            copies.append(
                fo.Detection(
                    label=found.label or label,
                    bounding_box=list(found.bounding_box),
                    mask=None if mask is None else np.asarray(mask) > 0,
                    **provenance,
                )
            )
        return copies
    mask = shown_mask(sample, run, source)
    return [fo.Detection.from_mask(mask, label=label, **provenance)] if mask.any() else []


def _segmentation(
    sample: Any,
    run: str,
    source: Any,
    label_field: str,
    folder: Path | None,
    provenance: dict[str, Any],
) -> Any:
    if isinstance(source, fo.Segmentation) and source.mask_path:
        source_path = Path(source.mask_path)
        folder = folder or source_path.parent.parent / f"{label_field}_masks"
        copied = _copy(source_path, folder / f"{sample.id}{source_path.suffix}")
        return fo.Segmentation(mask_path=str(copied), **provenance)
    if isinstance(source, fo.Segmentation):
        return fo.Segmentation(mask=source.mask, **provenance)
    mask = shown_mask(sample, run, source)
    return fo.Segmentation(mask=np.where(mask, 255, 0).astype(np.uint8), **provenance)


def _copy(source: Path, destination: Path) -> Path:
    """Copy a file so that the destination is either whole or not there."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = destination.with_name(f".{destination.name}.part")
    try:
        shutil.copyfile(source, part)
        os.replace(part, destination)
    finally:
        part.unlink(missing_ok=True)
    return destination
