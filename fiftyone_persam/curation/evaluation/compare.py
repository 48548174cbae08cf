"""Compare two runs photo by photo: where they disagree, and which one is right."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt

from ...errors import PersamError, RunConflictError
from ...metrics import iou
from ..checks import check_field_name, check_mask_field
from ..database import photos_of, root
from ..frame_store import check_photos_only
from ..labels.masks import named_masks, shown_mask
from ..review.table import Collection
from ..runs import schema
from ..runs.fields import read_fields
from ..runs.losses import check_has_masks
from ..runs.migration import comparison_in
from ..runs.naming import owner_of, require
from ..runs.several import values_of

logger = logging.getLogger(__name__)

COMPARED = "persam_compared"
"""Under which a field's ``info`` names the two runs that it compares."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two runs on the photos that both have segmented.

    Attributes:
        run_a, run_b: the runs' names
        ids: N sample ids, strongest disagreement first
        agreement: (N,) IoU between the two runs' masks, in [0, 1]; 1 where both are empty
        gain: (N,) IoU with the ground truth of ``run_b`` minus that of ``run_a``, or None
        skipped: sample id -> why a photo with a damaged label could not be compared
    """

    run_a: str
    run_b: str
    ids: list[str]
    agreement: npt.NDArray[np.float64]
    gain: npt.NDArray[np.float64] | None = None
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)

    def view(self, collection: Collection, below: float = 1.0) -> Any:
        """The photos that agree at most ``below``, strongest disagreement first."""
        chosen = [i for i, a in zip(self.ids, self.agreement, strict=True) if a <= below]
        return photos_of(collection).select(chosen, ordered=True)

    def by_gain(self, collection: Collection) -> Any:
        """The photos from where ``run_b`` wins most to where ``run_a`` does, as a view.

        Raises:
            PersamError: if the runs were compared without ground truth
        """
        if self.gain is None:
            raise PersamError("no ground truth was compared: call compare_runs(..., gt_field=...)")
        order = np.argsort(-np.nan_to_num(self.gain, nan=-2.0), kind="stable")
        return photos_of(collection).select([self.ids[i] for i in order], ordered=True)

    def summary(self) -> dict[str, float]:
        """Numbers for a report: photos, mean IoU of the two, and how often either run is better."""
        out: dict[str, float] = {"photos": len(self.ids)}
        if self.skipped:
            out["left out"] = len(self.skipped)
        if self.ids:
            out["mean agreement"] = round(float(self.agreement.mean()), 3)
            out["IoU below 0.5"] = int((self.agreement < 0.5).sum())
        if self.gain is not None and self.ids:
            known = self.gain[np.isfinite(self.gain)]
            out[f"{self.run_a} better"] = int((known < -0.01).sum())
            out[f"{self.run_b} better"] = int((known > 0.01).sum())
            out["mean gain"] = round(float(known.mean()), 3) if known.size else 0.0
        return out


def compare_runs(
    collection: Collection,
    run_a: str,
    run_b: str,
    gt_field: str | None = None,
    out_field: str | None = None,
) -> Comparison:
    """Compare the masks of two runs.

    Args:
        collection: a dataset or view
        run_a: name of the first run
        run_b: name of the second run
        gt_field: ground truth that decides which of them is better
        out_field: where to write the agreement, to sort and filter by it in the App; deleted
            with either run

    Raises:
        PersamError: for an unknown run or field, an ``out_field`` that holds something else, or
            if a run is compared with itself
        RunConflictError: if ``out_field`` belongs to a run
    """
    dataset = root(collection)
    check_photos_only(dataset, "comparing runs")
    for run in (run_a, run_b):
        require(dataset, run)
        check_has_masks(dataset, run)
    if run_a == run_b:
        raise PersamError(f"run {run_a!r} cannot be compared with itself: choose two runs")
    if gt_field is not None:
        check_mask_field(dataset, "gt_field", gt_field)
    if out_field is not None:
        _check_out_field(dataset, out_field)
        schema.check_unlocked(dataset, [out_field], "writing the agreement")

    fields = [run_a, run_b, *([gt_field] if gt_field else [])]
    each = tuple(read_fields(dataset, run).objects for run in (run_a, run_b))
    objects = each if all(each) else ()
    ids: list[str] = []
    agreement: list[float] = []
    gain: list[float] = []
    skipped: dict[str, str] = {}
    both = photos_of(collection).exists(run_a).exists(run_b)
    for sample in both.select_fields(fields):
        try:
            compared = _compare(sample, run_a, run_b, gt_field, objects)
        except PersamError as error:
            skipped[sample.id] = str(error)
            continue
        ids.append(sample.id)
        agreement.append(compared[0])
        gain.append(compared[1])
    if skipped:
        first = next(iter(skipped.values()))
        if not ids:
            raise PersamError(f"none of {len(skipped)} photos can be compared, the first: {first}")
        logger.warning(
            "%d of %d photos cannot be compared and are left out, the first: %s",
            *(len(skipped), len(skipped) + len(ids), first),
        )
    if out_field is not None and ids:
        if not dataset.has_field(out_field):
            made = fo.FloatField(
                description=_description(run_a, run_b), info={COMPARED: [run_a, run_b]}
            )
            schema.add_fields(dataset, {out_field: made})
        elif out_field in _comparisons(dataset):  # of other runs, which had other names
            _note(dataset, out_field, run_a, run_b)
        dataset.set_values(out_field, dict(zip(ids, agreement, strict=True)), key_field="id")

    order = np.argsort(agreement, kind="stable")
    return Comparison(
        run_a,
        run_b,
        [ids[i] for i in order],
        np.asarray(agreement, np.float64)[order],
        np.asarray(gain, np.float64)[order] if gt_field else None,
        skipped,
    )


def _compare(
    sample: Any,
    run_a: str,
    run_b: str,
    gt_field: str | None,
    objects: tuple[tuple[str, ...], ...],
) -> tuple[float, float]:
    """IoU of two runs' masks of a photo, and how much better the second is; NaN if not known."""
    a, b = shown_mask(sample, run_a), shown_mask(sample, run_b)
    agreement = float(iou(a, b))
    if objects:  # a pixel agrees if both runs say that it is the same object
        one, other = (
            named_masks(sample[run], (a.shape[0], a.shape[1]), values_of(names))
            for run, names in zip((run_a, run_b), objects, strict=True)
        )
        same = sum(int((mask & other[name]).sum()) for name, mask in one.items() if name in other)
        agreement = same / either if (either := int((a | b).sum())) else 1.0
    if gt_field is None or sample[gt_field] is None:
        return agreement, float("nan")
    truth = shown_mask(sample, gt_field)
    return agreement, float(iou(b, truth)) - float(iou(a, truth))


def comparisons_of(dataset: Any, run: str) -> list[str]:
    """The fields in which :func:`compare_runs` has written how a run agrees with others."""
    return [field for field, runs in _comparisons(dataset).items() if run in runs]


def forget_comparisons(dataset: Any, run: str) -> None:
    """Delete these fields."""
    if fields := comparisons_of(dataset, run):
        schema.delete_fields(dataset, fields)


def rename_comparisons(dataset: Any, run: str, new_name: str) -> None:
    """Note a run's new name with these fields, which keep their own."""
    for field, runs in _comparisons(dataset).items():
        if run in runs:
            _note(dataset, field, *(new_name if name == run else name for name in runs))


def _description(run_a: str, run_b: str) -> str:
    return f"IoU between the masks of runs {run_a!r} and {run_b!r}"


def _comparisons(dataset: Any) -> dict[str, tuple[str, str]]:
    """Field -> the two runs, of the fields that are comparisons."""
    found = {}
    for name, field in dataset.get_field_schema(ftype=fo.FloatField).items():
        noted = (field.info or {}).get(COMPARED)
        compared = tuple(noted) if noted else comparison_in(field.description)
        if compared is not None:
            found[name] = compared
    return found


def _note(dataset: Any, name: str, run_a: str, run_b: str) -> None:
    def note(field: Any) -> None:
        # What the user has written there instead is kept.
        if field.description is None or comparison_in(field.description):
            field.description = _description(run_a, run_b)
        field.info = {**(field.info or {}), COMPARED: [run_a, run_b]}

    schema.edit_field(dataset, name, note)


def _check_out_field(dataset: Any, name: Any) -> None:
    present = dataset.get_field(name) if isinstance(name, str) and name else None
    if present is None:
        check_field_name("out_field", name)
        return
    if owner := owner_of(dataset, name):
        raise RunConflictError(f"field {name!r} belongs to run {owner!r}: choose another out_field")
    if not isinstance(present, fo.FloatField):
        kind = getattr(present, "document_type", None) or type(present)
        raise PersamError(
            f"out_field {name!r} holds {kind.__name__}, not numbers: choose another one"
        )
