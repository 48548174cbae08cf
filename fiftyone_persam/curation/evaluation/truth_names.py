"""What ground truth calls its objects, beside the names of a run of several objects."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import fiftyone as fo

from ..database import photos_of
from ..labels.pixels import targets_of
from ..runs import naming
from ..runs.fields import read_fields

SHOWN = 5


@dataclass(frozen=True)
class TruthNames:
    """The names of a run's objects, compared with those of the ground truth.

    Attributes:
        run: the run's name.
        objects: of the run.
        there: what the ground truth of the dataset calls its objects; empty if it names none.
        field: where the names are: of the ground truth, or of the objects of the photos.
        grouped: whether that is a field of the photos.
    """

    run: str
    objects: tuple[str, ...]
    there: tuple[str, ...]
    field: str
    grouped: bool

    @property
    def unknown(self) -> list[str]:
        """The run's objects that nothing is called by; none where nothing has a name."""
        return [name for name in self.objects if name not in self.there] if self.there else []

    @property
    def problem(self) -> str | None:
        """What the numbers would be of those objects, in one line; None if all have truth."""
        unknown = self.unknown
        if not unknown:
            return None
        what = f"object{'s' if len(unknown) > 1 else ''} {_listed(unknown)} of run {self.run!r}"
        return (
            f"nothing in {self.field!r} is called as {what}: masks of it count as wrong (IoU 0). "
            f"There are {_listed(self.there)}: {self._advice}"
        )

    @property
    def fault(self) -> str | None:
        """Why nothing can be compared, in one line; None if there is something."""
        if not self.unknown or len(self.unknown) < len(self.objects):
            return None
        return (
            f"nothing in {self.field!r} is called as an object of run {self.run!r} "
            f"({_listed(self.objects)}), because there are {_listed(self.there)}: {self._advice}"
        )

    @property
    def _advice(self) -> str:
        if self.grouped:
            return "call them the same, or choose another group_by"
        return "call them the same, or give group_by, the field that names each photo's object"


def names_of_run(
    dataset: Any, pred_field: str, gt_field: str, group_by: str | None = None
) -> TruthNames | None:
    """The names of a run's objects beside those in the ground truth of its dataset.

    Args:
        dataset: the run's.
        pred_field: a field of the run.
        gt_field: Segmentation, whose classes `mask_targets` names, Detections or Detection.
        group_by: field that names each photo's object, in place of the labels.

    Returns:
        None unless the field is of a run of several objects.
    """
    run = naming.owner_of(dataset, pred_field)
    objects = read_fields(dataset, run).objects if run is not None else ()
    if run is None or not objects:
        return None
    there = _named(dataset, gt_field) if group_by is None else _values(dataset, group_by)
    return TruthNames(
        run,
        tuple(objects),
        tuple(sorted({str(name) for name in there if name is not None})),
        gt_field if group_by is None else group_by,
        group_by is not None,
    )


def _named(dataset: Any, field: str) -> Iterable[Any]:
    kind = dataset.get_field(field).document_type
    if kind is fo.Segmentation:
        return targets_of(dataset, field).values()
    return _values(
        dataset, f"{field}.detections.label" if kind is fo.Detections else f"{field}.label"
    )


def _values(dataset: Any, path: str) -> Iterable[Any]:
    found: Iterable[Any] = photos_of(dataset).distinct(path)
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(map(repr, names[:SHOWN])) + more
