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

from ...engine.writing import MASK_VALUE
from ...errors import PersamError, RunConflictError
from ..checks import check_field_name, check_states, check_switches, check_text, folder_path
from ..database import photos_of
from ..fiftyone_api import root_dataset
from ..labels.masks import shown_mask
from ..review.editing import corrected_fields, latest_label
from ..review.table import ACCEPTED, REJECTED, STATES, Collection, review_table
from ..runs.folders import check_writable, read_mark
from ..runs.naming import owner_of

PROVENANCE = {
    "persam_run": fo.StringField,
    "persam_score": fo.FloatField,
    "persam_presence": fo.FloatField,
    "persam_review": fo.StringField,
}
CHUNK = 128


@dataclass
class Promotion:
    """What :func:`promote` did.

    Attributes:
        label_field: where it wrote
        promoted: ids of photos that got a label
        kept: ids of photos left as they were
        withdrawn: ids of photos that have lost a label, for its mask is not accepted any more
    """

    label_field: str
    promoted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        text = f"{len(self.promoted)} labels promoted into {self.label_field!r}"
        if self.kept:
            text += f", {len(self.kept)} photos kept the label they had (overwrite=True replaces)"
        if self.withdrawn:
            text += f", {len(self.withdrawn)} withdrawn: their masks are not accepted any more"
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
    ``persam_score``, ``persam_presence`` and ``persam_review``. Mask files are copied: deleting the
    run leaves the labels whole.

    Photos that already have a label in the field keep it unless ``overwrite``. In a field of
    ``Detections`` only objects of the same run count as that: all others stay in any case.

    Labels that the run has promoted into the field before, and whose decision has been taken back
    since (accepted then, and not now), go.

    Args:
        collection: a dataset or view
        run: the run's name
        label_field: where to write; made if it is missing
        states: which review states to take
        kind: ``"segmentation"`` or ``"detections"``; default: what the field or the run has
        label: the class name of new detections; in a field of segmentations whose mask targets
            have that name, its value is written, else 255, which gets the name
        overwrite: replace labels that are there
        masks_dir: folder for mask files; default: a folder named after the field beside the run's

    Raises:
        PersamError: for an unknown run or kind, or a field of another label type, or of colours
        RunConflictError: if the field, or the folder, belongs to a run
    """
    table = review_table(collection, run)
    dataset = root_dataset(collection)
    check_states(states, STATES)
    check_text("label", label)
    check_switches(overwrite=overwrite)
    folder = None if masks_dir is None else _masks_folder(masks_dir)
    target = check_label_field(dataset, run, label_field, kind)
    states_of = dict(zip(table.ids, table.states.tolist(), strict=True))
    chosen = table.of_state(*states)
    result = Promotion(label_field)
    pixel = 0
    if chosen and target is fo.Segmentation:
        pixel = _object_value(dataset, run, label_field, label)
    if dataset.has_field(label_field):
        others = {i: s for i, s in states_of.items() if s not in states}
        result.withdrawn = _withdraw(dataset, run, label_field, others)
    if not chosen:
        return result
    corrected = corrected_fields(dataset, run)
    _declare(dataset, label_field, target)

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
            if not overwrite and _has_label(present, run):
                result.kept.append(sample.id)
                continue
            if target is fo.Detections:
                objects = _detections(sample, run, source, label, provenance)
                foreign = [d for d in _objects(present) if _run_of(d) != run]
                values[sample.id] = fo.Detections(detections=[*foreign, *objects])
            else:
                values[sample.id] = _segmentation(
                    sample, run, source, label_field, folder, pixel, provenance
                )
            result.promoted.append(sample.id)
        dataset.set_values(label_field, values, key_field="id")
    return result


def check_label_field(dataset: Any, run: str, label_field: Any, kind: str | None = None) -> Any:
    """What :func:`promote` would write into a field: ``fo.Segmentation`` or ``fo.Detections``.

    Raises:
        PersamError: for an unknown kind, no name for a field, or a field of another type
        RunConflictError: if the field belongs to a run
    """
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
    targets = dataset.mask_targets.get(label_field) or dataset.default_mask_targets
    if found is fo.Segmentation and any(isinstance(value, str) for value in targets):
        raise PersamError(f"field {label_field!r} holds masks of colours: choose another field")
    return fo.Detections if found is fo.Detections else fo.Segmentation


def has_labels_of(dataset: Any, run: str, label_field: str) -> bool:
    """Whether :func:`promote` has written labels of the run into a field before."""
    paths = (f"{label_field}.persam_run", f"{label_field}.detections.persam_run")
    known = [path for path in paths if dataset.get_field(path) is not None]
    return any(run in photos_of(dataset).distinct(path) for path in known)


def _masks_folder(masks_dir: Any) -> Path:
    folder = folder_path("masks_dir", masks_dir)
    check_writable(folder)
    if (mark := read_mark(folder)) is not None:
        raise RunConflictError(
            f"folder {folder} belongs to run {mark.get('run')!r} of dataset "
            f"{mark.get('dataset')!r}: choose another masks_dir"
        )
    return folder


def _withdraw(dataset: Any, run: str, label_field: str, states: dict[str, str]) -> list[str]:
    """Drop labels of the run from photos whose decision is another one now; their ids."""
    values: dict[str, Any] = {}
    labelled = photos_of(dataset).select(list(states)).exists(label_field)
    for sample in labelled.select_fields(label_field):
        label, now = sample[label_field], states[sample.id]
        if not isinstance(label, fo.Detections):
            if _is_withdrawn(label, run, now):
                values[sample.id] = None
            continue
        left = [d for d in label.detections if not _is_withdrawn(d, run, now)]
        if len(left) < len(label.detections):
            values[sample.id] = fo.Detections(detections=left) if left else None
    if values:
        dataset.set_values(label_field, values, key_field="id")
    return list(values)


def _is_withdrawn(label: Any, run: str, now: str) -> bool:
    then = getattr(label, "persam_review", None)
    if _run_of(label) != run or then == now:
        return False
    return then in (ACCEPTED, REJECTED) or now == REJECTED


def _object_value(dataset: Any, run: str, label_field: str, label: str) -> int:
    """The value of the object in masks of a field; the field's mask targets name it."""
    targets = dict(dataset.mask_targets.get(label_field) or {})
    if not targets and dataset.has_field(label_field):
        targets = dict(dataset.default_mask_targets)
    if not targets:
        if dataset.mask_targets.get(run):
            dataset.mask_targets[label_field] = dataset.mask_targets[run]
            dataset.save()
        return MASK_VALUE
    own = dict(dataset.mask_targets.get(run) or {}).get(MASK_VALUE)
    for name in (label, own):
        for value, known in targets.items():
            if known == name:
                return int(value)
    free = [value for value in range(MASK_VALUE, 0, -1) if value not in targets]
    if not free:
        raise PersamError(f"mask targets of field {label_field!r} leave no value for {label!r}")
    dataset.mask_targets[label_field] = {**targets, free[0]: label}
    dataset.save()
    return free[0]


def _declare(dataset: Any, label_field: str, target: Any) -> None:
    if not dataset.has_field(label_field):
        dataset.add_sample_field(label_field, fo.EmbeddedDocumentField, embedded_doc_type=target)
    path = f"{label_field}.detections" if target is fo.Detections else label_field
    for name, ftype in PROVENANCE.items():
        if dataset.get_field(f"{path}.{name}") is None:
            dataset.add_sample_field(f"{path}.{name}", ftype)


def _run_of(label: Any) -> str | None:
    return getattr(label, "persam_run", None)


def _has_label(present: Any, run: str) -> bool:
    if isinstance(present, fo.Detections):
        return any(_run_of(d) == run for d in present.detections)
    return present is not None


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
    pixel: int,
    provenance: dict[str, Any],
) -> Any:
    if pixel != MASK_VALUE:
        mask = shown_mask(sample, run, source)
        return fo.Segmentation(mask=np.where(mask, pixel, 0).astype(np.uint8), **provenance)
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
