"""Hand reviewed masks over to a label field of the dataset, with where each one comes from."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np

from ...engine.writing import MASK_VALUE
from ...errors import PersamError, RunConflictError
from ...sam.masks import check_mask_file
from ..checks import check_field_name, check_states, check_switches, check_text
from ..database import photos_of, surviving, write_samples
from ..fiftyone_api import new_field
from ..labels.masks import check_label, shown_mask
from ..labels.pixels import found_object
from ..labels.sizes import read_shown_size
from ..review.table import ACCEPTED, REJECTED, STATES, Collection
from ..runs.naming import owner_of
from ..runs.schema import add_fields, check_unlocked, name_values
from ..runs.several import values_of
from .chosen import CHUNK, Chosen, choose_photos
from .promoted_files import Batch, NewFiles, batch_of, clear, promoting

logger = logging.getLogger(__name__)

PROVENANCE = {
    "persam_run": fo.StringField,
    "persam_score": fo.FloatField,
    "persam_presence": fo.FloatField,
    "persam_review": fo.StringField,
}


@dataclass
class Promotion:
    """What :func:`promote` did.

    Attributes:
        label_field: where it wrote
        promoted: ids of photos that got a label
        kept: ids of photos left as they were
        withdrawn: ids of photos that have lost a label, because its mask is not accepted any more
        left_out: why photos were left out, whose label is damaged, by id
    """

    label_field: str
    promoted: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        text = f"{len(self.promoted)} labels promoted into {self.label_field!r}"
        if self.kept:
            text += f", {len(self.kept)} photos kept the label they had (overwrite=True replaces)"
        if self.withdrawn:
            text += f", {len(self.withdrawn)} withdrawn: their masks are not accepted any more"
        if self.left_out:
            first = next(iter(self.left_out.values()))
            text += f", {len(self.left_out)} photos left out, the first: {first}"
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

    Photos whose label of the run is damaged are left out and named. Photos that already have a
    label in the field keep it unless ``overwrite``. In a field of
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
            have that name, its value is written, else 255, which gets the name. Several objects
            of a run keep their names
        overwrite: replace labels that are there
        masks_dir: folder for mask files; default: a folder named after the field beside the run's

    Raises:
        PersamError: for an unknown run or kind, or a field of another label type, or of colours
        RunConflictError: if the field, or the folder, belongs to a run
    """
    states = check_states(states, STATES)
    check_text("label", label)
    check_switches(overwrite=overwrite)
    chosen = choose_photos(collection, run, states)
    dataset = chosen.dataset
    target = check_label_field(dataset, run, label_field, kind)
    check_unlocked(dataset, [label_field], f"promoting into {label_field!r}")
    files = NewFiles(dataset, label_field, masks_dir)
    chosen = chosen.with_labels()
    result = Promotion(label_field)
    if not overwrite:
        there = _labelled(dataset, run, label_field, chosen.ids, target)
        result.kept = [i for i in chosen.ids if i in there]
        chosen = replace(chosen, ids=[i for i in chosen.ids if i not in there])
    others = {i: s for i, s in chosen.states.items() if s not in states}
    withdrawn = _withdrawn(dataset, run, label_field, others)
    result.promoted, result.withdrawn = list(chosen.ids), list(withdrawn)
    if not chosen.ids and not withdrawn:
        return result
    chosen.check_mask_files()
    if chosen.objects:
        pixel, values, targets = MASK_VALUE, *_object_values(dataset, chosen, label_field)
    else:
        pixel, targets = _object_value(dataset, run, label_field, label)
        values = {}
    written = _Labels(chosen, target, label_field, label, pixel, values)
    sources = written.files()
    files.prepare(sources.values())
    if faulty := written.faulty(sources):
        chosen = replace(chosen, ids=[i for i in chosen.ids if i not in faulty])
        result.left_out, result.promoted = faulty, list(chosen.ids)
        if not chosen.ids and not withdrawn:
            raise PersamError(f"no mask can be promoted, the first: {next(iter(faulty.values()))}")
        logger.warning("%s", result)
        sources = {i: path for i, path in sources.items() if i not in faulty}
        written = _Labels(chosen, target, label_field, label, pixel, values)

    replaced = _batches(dataset, label_field, [*chosen.ids, *withdrawn], target)
    with promoting(dataset, label_field, files, replaced):
        copies = {i: files.copy(i, source) for i, source in sources.items()}

        def write() -> None:
            write_samples(dataset, {i: {label_field: v} for i, v in withdrawn.items()})
            if chosen.ids:
                _declare(dataset, label_field, target)
                if target is fo.Segmentation and targets:
                    name_values(dataset, label_field, targets)
            for values in written.chunks(copies):
                write_samples(dataset, values)

        surviving(write)
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


def _labelled(dataset: Any, run: str, label_field: str, ids: list[str], target: Any) -> set[str]:
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


def _withdrawn(dataset: Any, run: str, label_field: str, states: dict[str, str]) -> dict[str, Any]:
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


def _batches(dataset: Any, label_field: str, ids: list[str], target: Any) -> set[Batch]:
    """The earlier promotions whose files labels of these photos name."""
    paths = [f"{label_field}.{name}" for name in ("mask_path", "persam_run")]
    if target is not fo.Segmentation or any(dataset.get_field(path) is None for path in paths):
        return set()
    wanted = set(ids)
    rows = zip(*photos_of(dataset).values(["id", *paths]), strict=True)
    found = {batch_of(i, path, run) for i, path, run in rows if i in wanted}
    return {batch for batch in found if batch is not None}


def _is_withdrawn(label: Any, run: str, now: str) -> bool:
    then = getattr(label, "persam_review", None)
    if _run_of(label) != run or then == now:
        return False
    return then in (ACCEPTED, REJECTED) or now == REJECTED


def _object_value(
    dataset: Any, run: str, label_field: str, label: str
) -> tuple[int, dict[int, str]]:
    """The value of the object in masks of a field, and the mask targets that name it."""
    targets = dict(dataset.mask_targets.get(label_field) or {})
    if not targets and dataset.has_field(label_field):
        targets = dict(dataset.default_mask_targets)
    known_as = dict(dataset.mask_targets.get(run) or {})
    if not targets:
        return MASK_VALUE, {MASK_VALUE: label} if _is_numbered(dataset, run) else known_as
    own = known_as.get(MASK_VALUE)
    for name in (label, own):
        for value, known in targets.items():
            if known == name:
                return int(value), {}
    free = [value for value in range(MASK_VALUE, 0, -1) if value not in targets]
    if not free:
        raise PersamError(f"mask targets of field {label_field!r} leave no value for {label!r}")
    return free[0], {**targets, free[0]: label}


def _is_numbered(dataset: Any, run: str) -> bool:
    """Whether values of a run's masks tell several of its one object apart."""
    targets = dataset.mask_targets.get(run)
    return bool(targets) and 1 in targets


def _object_values(
    dataset: Any, chosen: Chosen, label_field: str
) -> tuple[dict[str, int], dict[int, str]]:
    """Each object's value in masks of a field, and the mask targets that have to be set."""
    targets = dict(dataset.mask_targets.get(label_field) or {})
    if not targets and dataset.has_field(label_field):
        targets = dict(dataset.default_mask_targets)
    if not targets:
        own = values_of(chosen.objects)
        return {name: value for value, name in own.items()}, own
    named = {name: int(value) for value, name in targets.items()}
    values: dict[str, int] = {}
    for name in chosen.objects:
        free = (v for v in range(1, MASK_VALUE + 1) if v not in {*targets, *values.values()})
        value = named.get(name, next(free, None))
        if value is None:
            raise PersamError(f"mask targets of field {label_field!r} leave no value for {name!r}")
        values[name] = value
    new = {value: name for name, value in values.items() if name not in named}
    return values, {**targets, **new} if new else {}


def _declare(dataset: Any, label_field: str, target: Any) -> None:
    if not dataset.has_field(label_field):
        made = new_field(label_field, fo.EmbeddedDocumentField, embedded_doc_type=target)
        add_fields(dataset, {label_field: made})
    path = f"{label_field}.detections" if target is fo.Detections else label_field
    add_fields(dataset, {f"{path}.{n}": new_field(n, kind) for n, kind in PROVENANCE.items()})


class _Labels:
    """The labels that a promotion writes."""

    def __init__(
        self,
        chosen: Chosen,
        target: Any,
        label_field: str,
        label: str,
        pixel: int,
        values: Mapping[str, int],
    ) -> None:
        self._chosen, self._target, self._pixel = chosen, target, pixel
        self._values = values
        self._field, self._label = label_field, label
        self._numbered = not chosen.objects and _is_numbered(chosen.dataset, chosen.run)

    def files(self) -> dict[str, str]:
        """Sample id -> the mask file that is copied as it is."""
        own = values_of(self._chosen.objects)
        plain = self._target is fo.Segmentation and self._pixel == MASK_VALUE
        plain = plain and not self._numbered
        plain = plain and own == {value: name for name, value in self._values.items()}
        return self._chosen.mask_paths() if plain else {}

    def faulty(self, copied: Mapping[str, str]) -> dict[str, str]:
        """Sample id -> what is wrong with its mask."""
        found: dict[str, str] = {}
        for i, path in copied.items():
            try:
                check_mask_file(Path(path))
            except PersamError as error:
                found[i] = str(error)
        if found:
            named = photos_of(self._chosen.dataset).select(list(found)).values(["id", "filepath"])
            for i, photo in zip(*named, strict=True):
                found[i] = f"the mask of {os.path.basename(photo)} cannot be read ({found[i]})"
        ids, run = [i for i in self._chosen.ids if i not in copied], self._chosen.run
        for sample in replace(self._chosen, ids=ids).samples():
            where = f"the mask of {os.path.basename(sample.filepath)} in {run!r}"
            try:
                check_label(self._chosen.label_of(sample), where)
                self._made(sample, None)
            except PersamError as error:
                found[sample.id] = str(error)
        return found

    def chunks(self, copies: Mapping[str, str]) -> Iterator[dict[str, dict[str, Any]]]:
        """Sample id -> field -> label, some photos at a time."""
        for samples in self._chosen.chunks():
            yield {s.id: {self._field: self._made(s, copies.get(s.id))} for s in samples}

    def _made(self, sample: Any, copy: str | None) -> Any:
        run = self._chosen.run
        provenance = {
            "persam_run": run,
            "persam_score": self._chosen.value_of(sample, "score"),
            "persam_presence": self._chosen.value_of(sample, "presence"),
            "persam_review": self._chosen.states[sample.id],
        }
        source = self._chosen.label_of(sample)
        if self._target is fo.Detections:
            objects = self._named(sample, source, provenance)
            present = sample[self._field] if sample.has_field(self._field) else None
            foreign = [d for d in _objects(present) if _run_of(d) != run]
            return fo.Detections(detections=[*foreign, *objects])
        if copy is not None:
            return fo.Segmentation(mask_path=copy, **provenance)
        if self._values:
            size = read_shown_size(sample.filepath)
            pixels = np.zeros(size, np.uint8)
            for name, mask in self._chosen.masks_by_name(sample, size).items():
                pixels[mask] = self._values.get(name, 0)
            return fo.Segmentation(mask=pixels, **provenance)
        plain = self._pixel == MASK_VALUE and not self._numbered
        if isinstance(source, fo.Segmentation) and plain:
            return fo.Segmentation(mask=source.mask, **provenance)
        mask = shown_mask(sample, run, source)
        return fo.Segmentation(mask=np.where(mask, self._pixel, 0).astype(np.uint8), **provenance)

    def _named(self, sample: Any, source: Any, provenance: dict[str, Any]) -> list[Any]:
        if not self._chosen.objects or isinstance(source, fo.Detections):
            return _detections(sample, self._chosen.run, source, self._label, provenance)
        named = self._chosen.masks_by_name(sample, read_shown_size(sample.filepath))
        return [fo.Detection.from_mask(m, label=n, **provenance) for n, m in named.items()]


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
            own = found_object(found, f"the mask of {sample.filepath} in {run!r}")
            copies.append(
                fo.Detection(
                    label=found.label or label,
                    bounding_box=list(found.bounding_box),
                    mask=None if own is None else own.mask,
                    **provenance,
                )
            )
        return copies
    mask = shown_mask(sample, run, source)
    return [fo.Detection.from_mask(mask, label=label, **provenance)] if mask.any() else []


FINISH = {"promote": clear}
"""What `journal.settle` does after a process that was killed."""
