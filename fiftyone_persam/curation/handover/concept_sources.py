"""Which photos, with which masks, a training set is made of: those of a run, or labelled ones."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import fiftyone as fo
import numpy as np

from ...errors import PersamError, did_you_mean
from ..checks import MASKS
from ..database import in_parts, photo_ids, photos_of, root, selected, values_of
from ..fiftyone_api import is_patches
from ..review.editing import corrected_fields, latest_label
from ..review.table import ABSENT, ACCEPTED, FAILED, TODO, review_table
from ..runs.naming import run_names
from ..runs.record import read_record

OBJECT = "object"

# What a run's record tells of how its masks were made; no paths of this machine.
_RECORDED = (
    "method", "model", "checkpoint_sha256", "weights_sha256", "parameters", "versions", "run_id",
)  # fmt: skip
_REFERENCE = ("group", "name", "sample_id", "label_field", "label_id")


@dataclass(frozen=True)
class ChosenPhoto:
    """One photo that can be exported, with its label and what is known of it."""

    sample: Any
    label: Any
    score: float | None
    presence: float | None


class Source(Protocol):
    """Where the photos of a training set are from."""

    is_run: bool

    def choose(self) -> tuple[list[str], dict[str, str]]:
        """Ids of photos to export, and id -> reason of those to leave out."""

    def called(self, sample_id: str) -> str:
        """What the object of a chosen photo is called."""

    def samples(self, ids: list[str]) -> dict[str, str]:
        """Id -> id of the sample in the dataset; patches have ids of their own."""

    def read(self, ids: list[str]) -> Iterator[ChosenPhoto]:
        """Chosen photos one by one."""

    def record(self) -> dict[str, Any]:
        """Where the masks are from, for the manifest."""


def choose_source(
    view: Any, name: Any, only_accepted: bool, least: float | None, label: str | None
) -> Source:
    """What a name means.

    Args:
        view: a dataset or view.
        name: of a run, or of a field of masks.
        only_accepted: of a run, only masks that were accepted.
        least: the lowest score or confidence, or None.
        label: what the object is called; None for what the labels or references say.

    Raises:
        PersamError: there is no such run and no such field of masks
    """
    dataset = root(view)
    runs = run_names(dataset)
    if isinstance(name, str) and name in runs:
        return _Run(view, name, only_accepted, least, label)
    field = dataset.get_field(name) if isinstance(name, str) else None
    if field is None:
        known = [*runs, *dataset.get_field_schema()]
        raise PersamError(
            f"dataset {dataset.name!r} has no run and no field {name!r}: run_or_label_field names "
            f"one{did_you_mean(name, known)}"
        )
    if getattr(field, "document_type", None) not in MASKS:
        raise PersamError(
            f"run_or_label_field {name!r} holds no masks: it must be a run, or a field of "
            "Segmentation or Detections"
        )
    return _Labels(view, name, least, label)


# ----------------------------------------------------------------------------------------------


class _Labels:
    """Photos with labels that a person, or another tool, has made."""

    is_run = False

    def __init__(self, view: Any, field: str, least: float | None, label: str | None) -> None:
        self._dataset, self._field, self._least, self._label = root(view), field, least, label
        self._view = view if is_patches(view) else photos_of(view)
        self._called: dict[str, str] = {}

    def choose(self) -> tuple[list[str], dict[str, str]]:
        """Ids of photos to export, and id -> reason of those to leave out."""
        if self._least is not None and not self._has_confidence():
            raise PersamError(f"no label in {self._field!r} has a confidence: leave min_score out")
        chosen, left_out = [], {}
        for sample in self._view.select_fields(self._field):
            label, where = sample[self._field], Path(sample.filepath).name
            kept = self._kept(label)
            if label is None or kept is None:
                low = label is not None and bool(_instances(label))
                left_out[sample.id] = (
                    f"{where}: score below {self._least}" if low else f"{where}: object absent"
                )
                continue
            chosen.append(sample.id)
            self._called[sample.id] = self._label or _class_of(self._dataset, self._field, kept)
        return chosen, left_out

    def called(self, sample_id: str) -> str:
        """What the object of a photo is called."""
        return self._called[sample_id]

    def samples(self, ids: list[str]) -> dict[str, str]:
        """Id -> id of the sample in the dataset; patches have ids of their own."""
        if not is_patches(self._view):
            return {i: i for i in ids}
        found = self._view.select(ids).values(["id", "sample_id"])
        return dict(zip(*found, strict=True))

    def read(self, ids: list[str]) -> Iterator[ChosenPhoto]:
        """Chosen photos one by one."""
        for part in in_parts(ids):
            for sample in self._view.select(part, ordered=True).select_fields(self._field):
                kept = self._kept(sample[self._field])
                scores = [one.confidence for one in _instances(kept) if one.confidence is not None]
                yield ChosenPhoto(sample, kept, min(scores) if scores else None, None)

    def record(self) -> dict[str, Any]:
        """Where the masks are from."""
        return {"label_field": self._field, "run": None}

    def _kept(self, label: Any) -> Any:
        """The label without objects of low confidence; None if nothing is left."""
        if not isinstance(label, (fo.Detection, fo.Detections)):
            return label
        kept = [
            one
            for one in _instances(label)
            if self._least is None or (one.confidence is not None and one.confidence >= self._least)
        ]
        return fo.Detections(detections=kept) if kept else None

    def _has_confidence(self) -> bool:
        kind = self._dataset.get_field(self._field).document_type
        if kind is fo.Segmentation:
            return False
        path = f"{self._field}.detections" if kind is fo.Detections else self._field
        return bool(self._view.count(f"{path}.confidence"))


class _Run:
    """Photos with masks of a run."""

    is_run = True

    def __init__(
        self, view: Any, run: str, only_accepted: bool, least: float | None, label: str | None
    ) -> None:
        self._dataset, self._run, self._least = root(view), run, least
        if is_patches(view):
            view = selected(self._dataset, photo_ids(view))  # of a run, the photos behind them
        self._table = review_table(view, run)
        self._states = (ACCEPTED,) if only_accepted else (TODO, ACCEPTED)
        self._row = {sample_id: row for row, sample_id in enumerate(self._table.ids)}
        self._record = read_record(self._dataset, run)
        self._label = label
        self._groups: dict[str, str] = {}

    def choose(self) -> tuple[list[str], dict[str, str]]:
        """Ids of photos to export, and id -> reason of those to leave out."""
        table = self._table
        files = values_of(self._dataset, table.ids, "filepath")
        chosen, left_out = [], {}
        for row, sample_id in enumerate(table.ids):
            where, state = Path(files.get(sample_id, sample_id)).name, table.states[row]
            if state == ABSENT:
                left_out[sample_id] = f"{where}: object absent (presence {table.presence[row]:.2f})"
            elif state == FAILED:
                left_out[sample_id] = f"{where}: not segmented, see {self._run}_error"
            elif state in self._states:
                score = table.score[row]
                if self._least is not None and not score >= self._least:
                    left_out[sample_id] = f"{where}: score {score:.2f}, below {self._least}"
                else:
                    chosen.append(sample_id)
        self._groups = self._groups_of(chosen)
        return chosen, left_out

    def called(self, sample_id: str) -> str:
        """What the object of a photo is called."""
        if self._label is not None:
            return self._label
        group = self._groups.get(sample_id, "")
        for reference in self._record.references:
            if reference.group == group and reference.name:
                return reference.name
        return group or OBJECT

    def samples(self, ids: list[str]) -> dict[str, str]:
        """Id -> id of the sample in the dataset."""
        return {i: i for i in ids}

    def read(self, ids: list[str]) -> Iterator[ChosenPhoto]:
        """Chosen photos one by one."""
        corrected = corrected_fields(self._dataset, self._run)
        photos = photos_of(self._dataset)
        for part in in_parts(ids):
            for sample in photos.select(part, ordered=True):
                row = self._row[sample.id]
                yield ChosenPhoto(
                    sample,
                    latest_label(sample, self._run, corrected),
                    _plain(self._table.score[row]),
                    _plain(self._table.presence[row]),
                )

    def record(self) -> dict[str, Any]:
        """Where the masks are from."""
        whole = asdict(self._record)
        references = [{key: one[key] for key in _REFERENCE} for one in whole["references"]]
        made = {key: whole[key] for key in _RECORDED}
        return {
            "label_field": self._run,
            "run": {"name": self._run, **made, "references": references},
        }

    def _groups_of(self, ids: list[str]) -> dict[str, str]:
        group_by = self._record.parameters.group_by
        if group_by is None or not self._dataset.has_field(group_by):
            return {}
        found = values_of(self._dataset, ids, group_by)
        return {i: str(group) for i, group in found.items() if group is not None}


def _instances(label: Any) -> list[Any]:
    if isinstance(label, fo.Detections):
        return list(label.detections)
    return [label] if isinstance(label, fo.Detection) else []


def _class_of(dataset: Any, field: str, label: Any) -> str:
    names = [one.label for one in _instances(label) if one.label]
    if isinstance(label, fo.Segmentation):
        targets = dataset.mask_targets.get(field) or dataset.default_mask_targets or {}
        names = [name for value, name in targets.items() if value not in (0, "#000000")]
        names = names if len(names) == 1 else []
    return ", ".join(dict.fromkeys(names)) or OBJECT


def _plain(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
