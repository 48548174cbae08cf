"""What the object is not: labels that somebody gives, and masks that a review has rejected.

A rejected mask is copied into ``<run>_rejected``, a field that stays when masks are made anew and
when the run goes, so that the run that has learnt from it names it and can be resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from bson import ObjectId

from ...errors import BadReferenceError, PersamError, problem_of
from ...personalize.registries import METHODS, method_info
from ..database import photos_of
from ..fiftyone_api import dataset_id
from ..frame_store import FrameStore
from ..labels.masks import named_masks, shown_mask
from ..labels.objects import object_names
from ..labels.references import SampleReference, resolve_references
from ..labels.shapes import LabelPrompt
from ..labels.sizes import read_shown_size
from ..review.table import ACCEPTED, REJECTED
from ..runs import queries
from ..runs.fields import RunFields, fields_of
from ..runs.naming import run_names
from ..runs.record import ReferenceRecord, RunRecord, read_record
from ..runs.several import values_of
from .marking import Mark, check_markable, same_label
from .phrases import has_phrase
from .recorded import recorded_references

MOST = 16
"""Rejected masks that a run learns from: those that the run before was surest of."""
NEARLY_SURE = 0.975
"""Presence from which a rejected mask is the object, badly cut, rather than something else. With
sam_lite and the eight objects of `benchmarks.negatives` no lookalike had so much."""
_OVERLAP = 0.5
_HOW = "give a photo with a label of something else, or leave negatives out"

logger = logging.getLogger(__name__)


def rejected_field(run: str) -> str:
    """The field of the rejected masks that a run has learnt from; it stays when the run goes."""
    return f"{run}_rejected"


def is_rejected(record: ReferenceRecord) -> bool:
    """Whether a negative on record is a mask that a review has rejected."""
    return record.label_field.endswith(rejected_field(""))


def takes_negatives(method: str, options: Mapping[str, Any]) -> bool:
    """Whether a method learns what the object is not."""
    return bool(METHODS[method].takes_negatives) and options.get("mode") != "reference"


def resolve_negatives(
    dataset: Any,
    negatives: Any,
    label_field: str,
    method: str,
    options: Mapping[str, Any],
    objects: Sequence[str] = (),
    mask_value: int | str | None = None,
) -> list[SampleReference]:
    """The negative references of a call; ``group`` names the object that they are not, "" for all.

    Raises:
        BadReferenceError: one cannot be used.
        PersamError: the method takes none, or an object is not one of the run.
    """
    if negatives is None or (isinstance(negatives, (list, tuple)) and not negatives):
        return []
    if not takes_negatives(method, options):
        how = "mode='reference' does" if options.get("mode") == "reference" else "it does"
        raise PersamError(
            f"{method_info(method).title} cannot learn from negatives, because {how} not know "
            "them: leave them out, or choose persam"
        )
    named = {"": negatives}
    if isinstance(negatives, Mapping):
        strange = [name for name in object_names(negatives) if name not in objects]
        if strange:
            listed = ", ".join(map(repr, objects)) or "one object: give negatives without names"
            raise PersamError(f"negatives are of {strange[0]!r}, and the run is of {listed}")
        named = dict(negatives)
    found: list[SampleReference] = []
    for name, given in named.items():
        try:
            if has_phrase(given):
                raise BadReferenceError(f"a phrase shows nothing: {_HOW}")
            some = resolve_references(dataset, given, label_field, None, mask_value)
        except BadReferenceError as error:
            raise BadReferenceError(f"negatives: {error}") from None
        if any(not isinstance(one, SampleReference) for one in some):
            raise BadReferenceError(
                f"negatives: a phrase does not show what the object is not: {_HOW}"
            )
        found += [replace(one, group=name) for one in some]
    return found


def is_badly_cut(presence: float, accepted: float | None) -> bool:
    """Whether a rejected mask is probably of the object itself, and wrong in its outline.

    To learn from that one that the object is not the object would lose it in every photo.

    Args:
        presence: of the rejected mask, 0 to 1.
        accepted: the lowest of the run's accepted masks; None where none is accepted.
    """
    return presence >= NEARLY_SURE or (accepted is not None and presence >= accepted)


def check_apart(references: Sequence[Any], negatives: Sequence[SampleReference]) -> None:
    """Raise BadReferenceError if a negative is what a reference of the same object shows."""
    for negative in negatives:
        for one in references:
            same = one.sample_id == negative.sample_id and negative.group in ("", one.group)
            if same and _overlaps(one.prompt, negative.prompt, negative.filepath):
                raise BadReferenceError(
                    f"the negative in {Path(negative.filepath).name} lies on the reference itself: "
                    "give a label of something else"
                )


@dataclass(frozen=True)
class Rejected:
    """A mask that a review has rejected, as a negative reference.

    Attributes:
        reference: of the label that it becomes.
        mark: writes the label.
        presence: how sure the run was of it.
    """

    reference: SampleReference
    mark: Mark | None
    presence: float


def rejected_masks(
    dataset: Any, references: Sequence[Any], out_field: str, method: str, options: Mapping[str, Any]
) -> tuple[list[SampleReference], list[Mark]]:
    """Masks that reviews of the same objects have rejected, as negatives and labels to be written.

    Runs of the same objects are those that have learnt from one of the references, and the run
    itself that is made again.

    Args:
        dataset: the run's.
        references: of the run.
        out_field: the run's name.
        method: the run's.
        options: of the method.
    """
    if not takes_negatives(method, options) or isinstance(dataset, FrameStore):
        return [], []  # a frame's label cannot be written where a run's is
    found: list[Rejected] = []
    for run in run_names(dataset):
        record = read_record(dataset, run)
        groups = _same_objects(record, references)
        if run == out_field:
            groups |= {one.group: one.group for one in references}
        if not groups:
            continue
        found += _earlier(dataset, record, groups)
        found += _of_run(dataset, run, record, groups, out_field)
    chosen: dict[tuple[Any, ...], Rejected] = {}
    for one in sorted(found, key=lambda one: -one.presence):
        label = one.reference
        key = (label.group, label.sample_id, label.prompt.fingerprint())
        if len(chosen) < MOST:
            chosen.setdefault(key, one)
    if chosen and any(one.mark is not None for one in chosen.values()):
        check_markable(dataset, rejected_field(out_field))
    rejected = list(chosen.values())
    return [one.reference for one in rejected], [one.mark for one in rejected if one.mark]


# ----------------------------------------------------------------------------------------------


def _same_objects(record: RunRecord, references: Sequence[Any]) -> dict[str, str]:
    """Object in a run -> object that is looked for now, where both learnt from one label."""
    known = {(one.sample_id, one.fingerprint): one.group for one in record.references}
    now = {(one.sample_id, one.to_dict()["fingerprint"]): one.group for one in references}
    return {known[key]: now[key] for key in known if key in now}


def _earlier(dataset: Any, record: RunRecord, groups: Mapping[str, str]) -> list[Rejected]:
    """What a run has learnt from itself; one that is gone is left out."""
    found = []
    for one in record.negatives:
        if one.group not in groups or not is_rejected(one):
            continue
        pieces: list[Any] = []
        if problem_of(lambda p=pieces, r=one: p.extend(recorded_references(dataset, [r], ""))):
            continue
        found += [Rejected(replace(r, group=groups[one.group]), None, 1.0) for r in pieces]
    return found


def _of_run(
    dataset: Any, run: str, record: RunRecord, groups: Mapping[str, str], out_field: str
) -> list[Rejected]:
    """The masks of a run in photos that are rejected now."""
    if not dataset.has_field(run):
        return []
    fields = fields_of(run, record)
    photos = photos_of(dataset)
    decided = (queries.done(run), queries.decided(dataset, run, REJECTED))
    ids = queries.ids(photos, *decided)
    if dataset.has_field(f"{run}_presence") and len(ids) > MOST:
        rows = queries.rows(photos, [f"{run}_presence"], *decided)
        ids.sort(key=lambda i: -(rows[i][0] or 0.0))
    shown = {one.sample_id for one in record.references}
    accepted = _lowest_accepted(dataset, run)
    found: list[Rejected] = []
    for sample in photos.select([i for i in ids if i not in shown][:MOST], ordered=True):
        piece = _rejected(sample, fields, record, groups)
        if piece is None:
            continue
        one = _as_negative(dataset, sample, run, piece, out_field)
        if is_badly_cut(one.presence, accepted):
            name = Path(sample.filepath).name
            logger.info("The rejected mask of %s is taken for the object, badly cut", name)
            continue
        found.append(one)
    return found


def _lowest_accepted(dataset: Any, run: str) -> float | None:
    """The lowest presence of a run's accepted masks; None if none is accepted."""
    name = f"{run}_presence"
    if not dataset.has_field(name):
        return None
    decided = queries.decided(dataset, run, ACCEPTED)
    rows = queries.rows(photos_of(dataset), [name], queries.done(run), decided)
    return min((float(value) for (value,) in rows.values() if value is not None), default=None)


def _rejected(
    sample: Any, fields: RunFields, record: RunRecord, groups: Mapping[str, str]
) -> tuple[str, str, Any] | None:
    """Object, its name, and (H, W) mask of what was rejected in a photo; None if that is not known.

    Of several objects one was wrong: where more than one is shown, nobody has said which.
    """
    try:
        if fields.objects:
            size = read_shown_size(sample.filepath)
            each = named_masks(sample[fields.run], size, values_of(fields.objects))
            there = [(name, mask) for name, mask in each.items() if mask.any()]
            if len(there) != 1 or there[0][0] not in groups:
                return None
            return groups[there[0][0]], there[0][0], there[0][1]
        group = ""
        if record.parameters.group_by is not None:
            field = record.parameters.group_by
            group = str(sample[field]) if sample.has_field(field) else ""
        mask = shown_mask(sample, fields.run)
    except PersamError as error:
        logger.info("The rejected mask of %s cannot be learnt from: %s", sample.filepath, error)
        return None
    if group not in groups or not mask.any():
        return None
    names = (one.name for one in record.references if one.group == group and one.name)
    return groups[group], next(names, "object"), mask


def _as_negative(
    dataset: Any, sample: Any, run: str, piece: tuple[str, str, Any], out_field: str
) -> Rejected:
    group, name, mask = piece
    field, label = rejected_field(out_field), f"not {name}"
    there = sample[field].detections if sample.has_field(field) and sample[field] else []
    same = [one.id for one in there if same_label(one, mask, label)]
    label_id = same[0] if same else str(ObjectId())
    reference = SampleReference(
        group=group,
        dataset=dataset.name,
        dataset_id=str(dataset_id(dataset)),
        sample_id=sample.id,
        label_field=field,
        label_id=label_id,
        mask_value=None,
        filepath=sample.filepath,
        name=label,
        prompt=LabelPrompt(mask=mask),
    )
    mark = Mark(dataset, sample.id, mask, label, field, label_id)
    number = f"{run}_presence"
    presence = sample[number] if sample.has_field(number) else None
    return Rejected(reference, mark, float(presence or 0.0))


def _overlaps(one: LabelPrompt, other: LabelPrompt, filepath: str) -> bool:
    """Whether two labels of one photo mark the same thing."""
    size = read_shown_size(filepath)
    a, b = _area(one, size), _area(other, size)
    smaller = min(int(a.sum()), int(b.sum()))
    return bool(smaller and (a & b).sum() > _OVERLAP * smaller)


def _area(prompt: LabelPrompt, size: tuple[int, int]) -> Any:
    if prompt.mask is not None:
        return prompt.mask
    area = np.zeros(size, np.bool_)
    if prompt.box is not None:
        x0, y0, x1, y1 = (round(value) for value in prompt.box)
        area[y0:y1, x0:x1] = True
    elif prompt.points is not None and prompt.labels is not None:
        for x, y in prompt.points[prompt.labels == 1].astype(int):
            area[y, x] = True
    return area
