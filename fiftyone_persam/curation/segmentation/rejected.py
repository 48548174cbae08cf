"""Masks that reviews have rejected: what the next run of the same object learns that it is not.

Nothing is copied while somebody reviews: to read a mask of twelve megapixels takes longer than a
click may, and thousands may be rejected at once, or taken back. A rejected mask is copied into
``<run>_rejected`` when it is needed, or about to go: when a run learns from it, when its photo is
made anew, and when its run is deleted. That field belongs to nobody, so it stays. Each of its
labels says from which references its run had learnt the object, so a later run finds it by that.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import fiftyone as fo
from bson import ObjectId

from ...errors import PersamError, problem_of
from ..database import photos_of
from ..fiftyone_api import dataset_id
from ..frame_store import FrameStore
from ..labels.masks import named_masks, shown_mask
from ..labels.references import SampleReference
from ..labels.resolving import resolve_references
from ..labels.shapes import LabelPrompt
from ..labels.sizes import read_shown_size
from ..review.table import ACCEPTED, REJECTED
from ..runs import queries, schema
from ..runs.fields import RunFields, fields_of
from ..runs.naming import run_names
from ..runs.record import ReferenceRecord, RunRecord, read_record
from ..runs.several import values_of
from ..runs.suffixes import PRESENCE
from .marking import Mark, check_markable, same_label
from .negatives import overlaps, takes_negatives
from .recorded import recorded_references

MOST = 16
"""Rejected masks that a run learns from: those that the run before was surest of."""
NEARLY_SURE = 0.975
"""Presence from which a rejected mask is the object, badly cut, rather than something else. With
sam_lite and the eight objects of `benchmarks.negatives` no lookalike had so much."""
LEARNT_FROM = "learnt_from"
"""Attribute of a kept label: the references of its run, each as `_key` names it."""
_SUFFIX = "_rejected"

logger = logging.getLogger(__name__)


def rejected_field(run: str) -> str:
    """The field of a run's rejected masks, or of those that it has learnt from; it stays."""
    return f"{run}{_SUFFIX}"


def is_rejected(record: ReferenceRecord) -> bool:
    """Whether a negative on record is a mask that a review has rejected."""
    return record.label_field.endswith(_SUFFIX)


def is_badly_cut(presence: float, accepted: float | None) -> bool:
    """Whether a rejected mask is probably of the object itself, and wrong in its outline.

    To learn from that one that the object is not the object would lose it in every photo.

    Args:
        presence: of the rejected mask, 0 to 1.
        accepted: the lowest of the run's accepted masks; None where none is accepted.
    """
    return presence >= NEARLY_SURE or (accepted is not None and presence >= accepted)


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
    itself that is made again. Of runs that are gone, what was kept counts.

    Args:
        dataset: the run's dataset.
        references: of the run.
        out_field: the run's name.
        method: the run's.
        options: of the method.
    """
    if not takes_negatives(method, options) or isinstance(dataset, FrameStore):
        return [], []  # a frame's label cannot be written where a run's is
    now = {_key(ReferenceRecord(**one.to_dict())): one.group for one in references}
    found, same = [], list[tuple[str, RunRecord, dict[str, str]]]()
    for run in run_names(dataset):
        record = read_record(dataset, run)
        groups = _same_objects(record, now)
        if run == out_field:
            groups |= {one.group: one.group for one in references}
        if groups:
            same.append((run, record, groups))
            found += _earlier(dataset, record, groups)
            found += _of_run(dataset, run, record, groups, out_field, now)
    found += _kept(dataset, now)
    chosen: dict[tuple[Any, ...], Rejected] = {}
    for one in sorted(found, key=lambda one: -one.presence):
        label = one.reference
        key = (label.group, label.sample_id, label.prompt.fingerprint())
        if len(chosen) < MOST and key not in chosen and not _accepted_since(dataset, one, same):
            chosen[key] = one
    if any(one.mark is not None for one in chosen.values()):
        check_markable(dataset, rejected_field(out_field))
    rejected = list(chosen.values())
    return [one.reference for one in rejected], [one.mark for one in rejected if one.mark]


def marks_of_run(dataset: Any, run: str, among: Iterable[str] | None = None) -> list[Mark]:
    """Labels of the masks that are rejected in a run now, for runs that come later.

    Args:
        dataset: the run's dataset.
        run: the run's name.
        among: sample ids to look at; all photos if None.

    Returns:
        What writes them: none where their field has other things in it, or for frames of videos.
    """
    if isinstance(dataset, FrameStore) or run not in run_names(dataset):
        return []
    if problem := problem_of(check_markable, dataset, rejected_field(run)):
        logger.warning("What was rejected in run %r is not kept: %s", run, problem)
        return []
    record = read_record(dataset, run)
    groups = {one.group: one.group for one in record.references}
    found = _of_run(dataset, run, record, groups, run, {}, among)
    return [one.mark for one in found if one.mark is not None]


def check_keepable(dataset: Any, run: str, action: str) -> None:
    """Raise PersamError if somebody has locked the field that a run's rejected masks would go to.

    Args:
        dataset: the run's dataset.
        run: the run's name.
        action: what is about to be done, for the message.
    """
    if not isinstance(dataset, FrameStore) and dataset.has_field(run):
        rejected = (queries.done(run), queries.decided(dataset, run, REJECTED))
        if queries.count(photos_of(dataset), *rejected):
            schema.check_unlocked(dataset, [rejected_field(run)], action)


def photos_with_rejected(dataset: Any, sample_ids: Iterable[str], run: str = "") -> set[str]:
    """Photos with a rejected mask of an object that was learnt from one of these photos.

    Args:
        dataset: the photos' dataset.
        sample_ids: of references.
        run: another run that counts, whatever it has learnt from.
    """
    photos, shown, found = photos_of(dataset), set(sample_ids), set[str]()
    for name in run_names(dataset):
        learnt = {one.sample_id for one in read_record(dataset, name).references}
        if (name == run or learnt & shown) and dataset.has_field(name):
            decided = queries.decided(dataset, name, REJECTED)
            found |= set(queries.ids(photos, queries.done(name), decided))
    starts = "|".join(sorted(i for i in shown if ObjectId.is_valid(i)))
    for field in _fields(dataset) if starts else ():
        path = f"{field}.detections.{LEARNT_FROM}"
        found |= set(queries.ids(photos, {path: {"$regex": f"^({starts}):"}}))
    return found - shown


# ----------------------------------------------------------------------------------------------


def _key(reference: ReferenceRecord) -> str:
    """A reference's photo and label, as long as the label does not change."""
    return f"{reference.sample_id}:{reference.fingerprint}"


def _keys(record: RunRecord, group: str) -> list[str]:
    return [_key(one) for one in record.references if one.group == group]


def _same_objects(record: RunRecord, now: Mapping[str, str]) -> dict[str, str]:
    """Object in a run -> object that is looked for now, where both learnt from one label."""
    groups = {one.group for one in record.references}
    pairs = ((group, key) for group in groups for key in _keys(record, group))
    return {group: now[key] for group, key in pairs if key in now}


def _earlier(dataset: Any, record: RunRecord, groups: Mapping[str, str]) -> list[Rejected]:
    """What a run has learnt from itself; one that is gone is left out."""
    found = []
    for one in record.negatives:
        if one.group not in groups or not is_rejected(one):
            continue
        with suppress(PersamError):
            pieces: list[Any] = recorded_references(dataset, [one], "")
            found += [Rejected(replace(r, group=groups[one.group]), None, 1.0) for r in pieces]
    return found


def _fields(dataset: Any) -> list[str]:
    """The fields that may have kept labels."""
    schema_ = dataset.get_field_schema(embedded_doc_type=fo.Detections)
    return [name for name in schema_ if name.endswith(_SUFFIX)]


def _kept(dataset: Any, now: Mapping[str, str]) -> list[Rejected]:
    """What was kept of runs that had learnt from one of the references, those that are gone too."""
    found: list[Rejected] = []
    photos = photos_of(dataset)
    for field in _fields(dataset):
        ids = queries.ids(photos, {f"{field}.detections.{LEARNT_FROM}": {"$in": list(now)}})
        for sample in photos.select(ids, ordered=True):
            for label in sample[field].detections:
                groups = [now[key] for key in _learnt_from(label) if key in now]
                if not groups:
                    continue
                with suppress(PersamError):  # a label that somebody has spoilt is left out
                    pieces = resolve_references(dataset, (sample, label.id), field)
                    presence = float(label.confidence or 0.0)
                    found += [Rejected(replace(r, group=groups[0]), None, presence) for r in pieces]
    return found


def _learnt_from(label: Any) -> list[str]:
    return list(label[LEARNT_FROM] or ()) if label.has_field(LEARNT_FROM) else []


def _of_run(
    dataset: Any,
    run: str,
    record: RunRecord,
    groups: Mapping[str, str],
    out_field: str,
    now: Mapping[str, str],
    among: Iterable[str] | None = None,
) -> list[Rejected]:
    """The masks of a run in photos that are rejected now."""
    if not dataset.has_field(run):
        return []
    fields = fields_of(run, record)
    photos = photos_of(dataset)
    decided = (queries.done(run), queries.decided(dataset, run, REJECTED))
    ids = queries.ids(photos, *decided)
    if among is not None:
        wanted = set(among)
        ids = [i for i in ids if i in wanted]
    if dataset.has_field(f"{run}{PRESENCE}") and len(ids) > MOST:
        rows = queries.rows(photos, [f"{run}{PRESENCE}"], *decided)
        ids.sort(key=lambda i: -(rows[i][0] or 0.0))
    shown = {one.sample_id for one in record.references}
    accepted = _lowest_accepted(dataset, run)
    found: list[Rejected] = []
    for sample in photos.select([i for i in ids if i not in shown][:MOST], ordered=True):
        piece = _shown(sample, fields, record, groups)
        if piece is None:
            continue
        group, name, mask = piece
        known = [key for old, new in groups.items() if new == group for key in _keys(record, old)]
        known += [key for key, new in now.items() if new == group]
        one = _as_negative(dataset, sample, run, (group, f"not {name}", mask), out_field, known)
        if is_badly_cut(one.presence, accepted):
            name = Path(sample.filepath).name
            logger.info("The rejected mask of %s is taken for the object, badly cut", name)
            continue
        found.append(one)
    return found


def _lowest_accepted(dataset: Any, run: str) -> float | None:
    """The lowest presence of a run's accepted masks; None if none is accepted."""
    name = f"{run}{PRESENCE}"
    if not dataset.has_field(name):
        return None
    decided = queries.decided(dataset, run, ACCEPTED)
    rows = queries.rows(photos_of(dataset), [name], queries.done(run), decided)
    return min((float(value) for (value,) in rows.values() if value is not None), default=None)


def _accepted_since(
    dataset: Any, one: Rejected, runs: Iterable[tuple[str, RunRecord, dict[str, str]]]
) -> bool:
    """Whether a review has said yes to what was rejected earlier: the last word counts."""
    if one.mark is not None:  # it is rejected now
        return False
    reference = one.reference
    for run, record, groups in runs:
        decided = (queries.decided(dataset, run, ACCEPTED), queries.some([reference.sample_id]))
        if not dataset.has_field(run) or not queries.count(photos_of(dataset), *decided):
            continue
        sample = photos_of(dataset)[reference.sample_id]
        piece = _shown(sample, fields_of(run, record), record, groups)
        if piece is not None and piece[0] == reference.group:
            there = LabelPrompt(mask=piece[2])
            if overlaps(there, reference.prompt, reference.filepath):
                return True
    return False


def _shown(
    sample: Any, fields: RunFields, record: RunRecord, groups: Mapping[str, str]
) -> tuple[str, str, Any] | None:
    """Object, its name, and (H, W) mask of what a run shows in a photo; None if that is not known.

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
    dataset: Any,
    sample: Any,
    run: str,
    piece: tuple[str, str, Any],
    out_field: str,
    learnt_from: Iterable[str],
) -> Rejected:
    group, label, mask = piece
    field = rejected_field(out_field)
    there = sample[field].detections if sample.has_field(field) and sample[field] else []
    same = [one for one in there if same_label(one, mask, label)]
    label_id = same[0].id if same else str(ObjectId())
    number = f"{run}{PRESENCE}"
    presence = float((sample[number] if sample.has_field(number) else None) or 0.0)
    known = _learnt_from(same[0]) if same else []
    about = {LEARNT_FROM: list(dict.fromkeys([*known, *learnt_from])), "confidence": presence}
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
    mark = Mark(dataset, sample.id, mask, label, field, label_id, about, shown=False)
    return Rejected(reference, mark, presence)
