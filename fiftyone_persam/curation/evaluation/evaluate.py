"""How good masks are: IoU, boundary IoU and accuracy as one of FiftyOne's evaluations.

The evaluation is stored on the dataset like any other: it shows in the App's Model Evaluation
panel, loads again in another process, and is deleted by ``dataset.delete_evaluation(key)``.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Sequence
from typing import Any

import fiftyone as fo
from bson import ObjectId

from ...errors import PersamError
from ...metrics import DILATION_RATIO
from .. import database
from ..checks import (
    as_plain,
    check_choice,
    check_field_known,
    check_field_name,
    check_group_by,
    check_mask_field,
    check_mask_value,
    check_progress,
    check_switches,
)
from ..database import photos_of
from ..fiftyone_api import (
    delete_results,
    put_results,
    rename_evaluation,
    results_id,
    use_results,
)
from ..frame_store import FrameStore
from ..labels.pixels import plain_value
from ..labels.video_frames import frame_field
from ..runs import journal, losses, naming, schema
from ..runs.fields import read_fields
from ..runs.lease import Lease
from ..runs.record import read_record
from .davis_method import DavisEvaluationConfig, fields_of
from .perseg_method import PerSegEvaluationConfig, PerSegResults
from .scores import evaluation_fields, forget_evaluation, written_fields
from .stored_evaluation import DESCRIPTION, Progress
from .truth_checks import (
    check_truth,
    objects_without_truth,
    warn_of_classes,
    warn_of_lost_masks,
    warn_of_photos_left_out,
)
from .truth_names import names_of_run

logger = logging.getLogger(__name__)

SKIP, RAISE = "skip", "raise"
PERSEG, DAVIS = "perseg", "davis"


def evaluate(
    samples: Any,
    pred_field: str,
    gt_field: str = "ground_truth",
    eval_key: str | None = None,
    group_by: str | None = None,
    mask_value: int | str | None = None,
    dilation_ratio: float = DILATION_RATIO,
    include_references: bool = False,
    overwrite: bool = True,
    on_error: str = SKIP,
    progress: Progress = None,
    method: str = PERSEG,
    sequence_field: str | None = None,
    order_field: str | None = None,
) -> Any:
    """Compare masks with ground truth: IoU, boundary IoU (Cheng et al.) and accuracy.

    Writes ``<eval_key>_iou``, ``<eval_key>_boundary_iou`` and ``<eval_key>_accuracy`` per photo.
    By the PerSeg protocol pixels are pooled per object, and the mean is taken over the objects
    ("mIoU", "bIoU"); the plain means over photos are there as well ("photo_mIoU", "photo_bIoU").

    ``method="davis"`` scores objects that are followed: J (IoU), F (contours), J&F, recall and
    decay as DAVIS's tool, with ``<eval_key>_j`` and ``<eval_key>_f`` per frame. It takes videos,
    whose frames have the fields, or photos with ``sequence_field``. Objects are told apart by index
    or label, and the first and the last frame of a sequence do not count.

    Args:
        samples: dataset or view. Of groups, the photos of all slices count.
        pred_field: Segmentation or Detections, such as a run's name. A photo without a prediction
            counts as one with an empty mask. Of a run of several objects each is compared with what
            the ground truth calls so, by labels, ``mask_targets`` or ``group_by``; a warning, and
            the report, name those that nothing there is called by.
        gt_field: Segmentation or Detections. Photos without ground truth are left out.
        eval_key: the evaluation's name; nothing is stored if None.
        group_by: field that names each photo's object; all photos show one object if None.
        mask_value: which value, "#rrggbb" or class of the ground truth's masks is the object; all
            but the background if None.
        dilation_ratio: width of the contour band as a share of the photo's diagonal.
        include_references: count the photos too that the run learnt the object from: those that it
            recorded, and those with ``role == "reference"``. The protocol leaves them out.
        overwrite: replace an evaluation of that name.
        on_error: what becomes of a photo with a label that is damaged or does not fit: "skip"
            leaves it out, and the results' ``skipped`` and the report name it; "raise" refuses.
        progress: as in `segment`.
        method: "perseg" or "davis". The latter has no use for ``group_by``, ``mask_value``,
            ``dilation_ratio`` and ``include_references``.
        sequence_field: with "davis", the field that names each photo's sequence.
        order_field: with "davis", the field that sorts the photos of a sequence; by their paths if
            None.

    Raises:
        PersamError: an unknown field, a key that is taken, no photo or no object that can be
            compared, or, with ``on_error="raise"``, a photo that cannot. Nothing has been written
            then.
    """
    check_choice("method", method, (PERSEG, DAVIS))
    dataset = database.root(samples)
    journal.settle(dataset)
    if isinstance(dataset, FrameStore):
        pred_field, gt_field = frame_field(pred_field), frame_field(gt_field)
    if pred_field in naming.run_names(dataset):
        losses.check_has_masks(dataset, pred_field)
    for argument, name in (("pred_field", pred_field), ("gt_field", gt_field)):
        check_mask_field(dataset, argument, name)
    if group_by is not None:
        check_group_by(samples, group_by)
    check_choice("on_error", on_error, (SKIP, RAISE))
    mask_value, dilation_ratio = as_plain(mask_value), as_plain(dilation_ratio)
    check_mask_value(mask_value)
    mask_value = plain_value(dataset, gt_field, mask_value)
    check_switches(include_references=include_references, overwrite=overwrite)
    check_progress(progress)
    photos = photos_of(samples)
    if pred_field == gt_field:
        raise PersamError(f"{pred_field!r} cannot be compared with itself: choose two fields")
    if method == DAVIS:
        given = {"group_by": group_by, "mask_value": mask_value}
        _check_sequences(dataset, sequence_field, order_field, given)
        config = DavisEvaluationConfig(pred_field, gt_field, sequence_field, order_field)
        return _evaluate(dataset, photos, config, eval_key, overwrite, on_error, progress)
    if isinstance(dataset, FrameStore):
        raise PersamError(
            "frames of videos are scored by method='davis': give it, or evaluate the frames as "
            "photos: samples.to_frames(sample_frames='dynamic')"
        )
    if sequence_field is not None or order_field is not None:
        raise PersamError("sequence_field and order_field are for method='davis': leave them out")
    view = photos if include_references else without_references(photos, pred_field)
    objects = _objects_of(dataset, pred_field, mask_value)
    check_truth(photos, view, gt_field)
    config = PerSegEvaluationConfig(
        *(pred_field, gt_field, group_by, mask_value, dilation_ratio),
        objects=objects,
        unknown=objects_without_truth(names_of_run(dataset, pred_field, gt_field, group_by)),
    )
    warn_of_photos_left_out(dataset, view, pred_field, gt_field)
    if group_by is None and not objects:
        warn_of_classes(view, gt_field)
    return _evaluate(dataset, view, config, eval_key, overwrite, on_error, progress)


def _evaluate(
    dataset: Any,
    view: Any,
    config: Any,
    eval_key: str | None,
    overwrite: bool,
    on_error: str,
    progress: Progress,
) -> Any:
    """Count by a method, and store what it found under a key."""
    method = config.build()
    if eval_key is not None:
        check_eval_key(dataset, eval_key, overwrite, method)
        action = f"replacing evaluation {eval_key!r}"
        schema.check_unlocked(dataset, method.get_fields(dataset, eval_key), action)
    warn_of_lost_masks(dataset, config.pred_field)
    rows, skipped = database.with_retries(
        method.count, view, progress, skip_faulty=on_error == SKIP
    )
    if skipped:
        davis = config.method == DAVIS
        scored = len({row.sequence for row in rows}) if davis else len(rows)
        logger.warning(
            "%d of %d %s cannot be compared and are left out, the first: %s",
            *(len(skipped), scored + len(skipped), "sequences" if davis else "photos"),
            next(iter(skipped.values())),
        )
    if eval_key is None:
        return method.sum_up(view, None, rows, skipped)
    return _store(
        dataset, eval_key, lambda key, made: _write(view, method, key, rows, skipped, made)
    )


def _check_sequences(
    dataset: Any, sequence_field: str | None, order_field: str | None, given: dict[str, Any]
) -> None:
    for argument, value in given.items():
        if value is not None:
            raise PersamError(f"{argument} is for method='perseg': leave it out")
    videos = isinstance(dataset, FrameStore)
    for argument, name in (("sequence_field", sequence_field), ("order_field", order_field)):
        if name is None:
            continue
        if videos:
            raise PersamError(f"frames of videos are in sequences already: leave out {argument}")
        check_field_known(dataset, argument, name)
    if not videos and sequence_field is None:
        raise PersamError(
            "these are photos, and method='davis' is about sequences: give sequence_field, the "
            "field that names each photo's sequence"
        )


def _store(dataset: Any, key: str, write: Callable[[str, ObjectId], PerSegResults]) -> Any:
    """Store an evaluation; an earlier one of its name goes when the new one is complete.

    It is written under a key of its own, which takes the earlier one's place at the end. What a
    process leaves that is killed before that is removed, what it leaves after it is completed.
    """
    lease = f"*evaluation {key}*"
    with Lease(dataset, lease, what=f"evaluation {key!r}"):
        aside = _free_key(dataset, key) if dataset.has_evaluation(key) else key
        details: dict[str, Any] = {
            "key": key,
            "aside": aside,
            "whole": False,
            "results": ObjectId(),
            "earlier": results_id(dataset, "evaluations", key),
        }
        journal.begin(dataset, key, "evaluate", details, [lease])
        try:
            results = database.surviving(lambda: write(aside, details["results"]))
            details["whole"] = True
            journal.begin(dataset, key, "evaluate", details, [lease])
        finally:
            database.surviving(lambda: _finish(dataset, details))
            journal.end(dataset, key, "evaluate")
    results.rename(key)
    return results


def _write(
    view: Any,
    method: Any,
    key: str,
    rows: Sequence[Any],
    skipped: dict[str, str],
    identity: ObjectId,
) -> PerSegResults:
    dataset = database.root(view)
    forget_evaluation(dataset, key)  # what an attempt before this one has left
    method.register_run(view, key)
    method.register_samples(view, key)
    results: PerSegResults = method.sum_up(view, key, rows, skipped)
    put_results(results, identity)
    use_results(dataset, "evaluations", key, identity, None)
    with schema.schema_lease(dataset):
        omitted = (method.config.pred_field, method.config.gt_field)
        method.add_fields_to_sidebar_group(view, key, omit_fields=omitted)
    return results


def _finish(dataset: Any, details: dict[str, Any]) -> None:
    key, aside = details["key"], details["aside"]
    if not details["whole"]:
        forget_evaluation(dataset, aside)
        delete_results([details["results"]])
    elif aside != key:
        if dataset.has_evaluation(aside) and dataset.has_evaluation(key):
            forget_evaluation(dataset, key)
        fields = written_fields(dataset, aside)
        schema.rename_fields(dataset, {one: key + one.removeprefix(aside) for one in fields})
        with schema.schema_lease(dataset):
            rename_evaluation(dataset, aside, key)
        delete_results([details["earlier"]])


def _free_key(dataset: Any, key: str) -> str:
    """A key beside one that is taken."""
    for number in itertools.count(1):
        free = f"{key}_new{number}"
        taken = any(
            dataset.has_field(name) for name in (*evaluation_fields(free), *fields_of([free]))
        )
        if not taken and not dataset.has_evaluation(free):
            break
    return free


FINISH = {"evaluate": _finish}


def without_references(samples: Any, pred_field: str) -> Any:
    """The photos that a run has not learnt its object from, now or for a part of its masks."""
    dataset = database.root(samples)
    view = samples
    if run := naming.owner_of(dataset, pred_field):
        record = read_record(dataset, run)
        tries = [record.references, *(past.references for past in record.earlier)]
        used = {one.sample_id for references in tries for one in references if one.sample_id}
        if used:
            living = photos_of(dataset).select(used).values("id")
            view = view.exclude(living)
    role = dataset.get_field("role")
    if isinstance(role, fo.StringField):
        view = view.match(fo.ViewField("role") != "reference")
    return view


# ----------------------------------------------------------------------------------------------


def _objects_of(dataset: Any, pred_field: str, mask_value: Any) -> tuple[str, ...]:
    """The objects of a run of several; none for anything else."""
    run = naming.owner_of(dataset, pred_field)
    objects = read_fields(dataset, run).objects if run is not None else ()
    if objects and mask_value is not None:
        raise PersamError(
            f"run {run!r} has several objects, each of which is compared by its name: leave "
            "mask_value out"
        )
    return objects


def check_eval_key(dataset: Any, key: Any, overwrite: bool = True, method: Any = None) -> None:
    """Raise PersamError unless an evaluation can be stored under this name.

    Args:
        dataset: the dataset.
        key: the name.
        overwrite: whether it may be there.
        method: that of the evaluation; the PerSeg protocol if None.
    """
    check_field_name("eval_key", key)
    if dataset.has_evaluation(key):
        if not overwrite:
            raise PersamError(f"there is an evaluation {key!r} already: choose another eval_key")
        return
    names = evaluation_fields(key) if method is None else method.get_fields(dataset, key)
    # A clone of a view, or a merge, has the numbers of its original's evaluations, and not these.
    copied = overwrite and all(_is_number_of_ours(dataset, name) for name in names)
    for name in names:
        if dataset.has_field(name) and not copied:
            raise PersamError(
                f"field {name!r} is there already and of no evaluation: choose another eval_key"
            )


def _is_number_of_ours(dataset: Any, name: str) -> bool:
    field = dataset.get_field(name)
    return isinstance(field, fo.FloatField) and field.description in (None, DESCRIPTION)
