"""Another try at the photos of a run that are not accepted, with one more reference or without."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...errors import BadReferenceError, PersamError
from ..checks import as_plain, check_progress, check_switches
from ..database import root, selected
from ..frame_store import FrameStore
from ..labels.objects import object_names, resolve_objects
from ..labels.resolving import resolve_references
from ..review.decisions import set_review
from ..review.editing import corrected_fields
from ..review.table import ABSENT, ACCEPTED, FAILED, REJECTED, TODO, review_table
from ..runs import journal
from ..runs.lease import Lease
from ..runs.loading import Run
from ..runs.naming import require, run_names
from ..runs.presence import presence_threshold
from ..runs.record import RunRecord, read_record
from .marking import Mark
from .negatives import resolve_negatives
from .photos import check_photos, choose_photos
from .phrases import find_phrases, has_phrase
from .recorded import TRIED_AGAIN, recorded_references
from .rejected import is_rejected
from .resources import choose_cache

NOT_ACCEPTED = (TODO, REJECTED, ABSENT, FAILED)


def segment_again(
    samples: Any,
    run: str,
    reference: Any = None,
    label_field: str = "ground_truth",
    mask_value: int | str | None = None,
    keep_references: bool = True,
    negatives: Any = None,
    negatives_field: str | None = None,
    negatives_mask_value: int | str | None = None,
    use_rejected: bool = True,
    cache: Any = None,
    progress: bool | Callable[[int, int], None] | None = None,
) -> Run:
    """Segment what is not accepted in a run again, with one more reference, or with what it has.

    The run's method, model and settings stay, with the presence threshold that the reviewer has
    chosen. Accepted photos keep their masks; all others get new ones, count as not looked at, and
    lose what was corrected in them by hand. Where the new reference's label is the run's own mask,
    or that mask corrected by hand, its photo counts as accepted from now on.

    Args:
        samples: the run's dataset, or a view of the photos to try again.
        run: the run's name.
        reference: see `segment`; a mask of this run, too, or a phrase. Of a run of several objects
            a mapping of some of their names. None: the run's own, so that only what was rejected,
            and ``negatives``, teach it something new.
        label_field: where the reference's label is.
        mask_value: which value of a segmentation mask.
        keep_references: use the run's earlier references as well.
        negatives: further ones; see `segment`. Those that were given before stay.
        negatives_field: see `segment`.
        negatives_mask_value: see `segment`.
        use_rejected: learn from masks that were rejected what the object is not; see `segment`. If
            not, they are kept for runs that do.
        cache: see `segment`.
        progress: see `segment`.

    Raises:
        BadReferenceError: the reference cannot be used; nothing has changed then.
        PersamError: there is no such run, it has one reference per object, or everything is
            accepted.
        RunConflictError: the run is being written.
    """
    from .segment import segment

    dataset = root(samples)
    require(dataset, run)
    record = read_record(dataset, run)
    objects, parameters = record.parameters.objects, record.parameters
    _check_reference(run, record, reference, as_plain(keep_references))
    _check_known(run, record)
    check_switches(keep_references=keep_references, use_rejected=use_rejected)
    check_progress(progress)
    choose_cache(cache)
    marks: list[Mark] = []
    if has_phrase(reference):
        tasks = choose_photos(check_photos(samples), None)
        reference, marks = find_phrases(dataset, reference, record.method, tasks, record.model, run)
    new = _new_references(dataset, reference, label_field, as_plain(mask_value), objects)
    kept = []
    if keep_references:
        kept = recorded_references(dataset, record.references, TRIED_AGAIN)
    known = {_label_of(one) for one in new}
    references: Any = [*(k for k in kept if _label_of(k) not in known), *new]
    if objects:
        references = _by_object(references, objects)
        left = [name for name in objects if not references[name]]
        if left:
            raise PersamError(
                f"object {left[0]!r} of run {run!r} would have no reference: give one, or "
                "keep_references=True"
            )

    own = label_field in (run, *corrected_fields(dataset, run))
    good = _shown_in(dataset, new) if own else set()
    redo = [i for i in review_table(samples, run).of_state(*NOT_ACCEPTED) if i not in good]
    if not redo:
        raise PersamError(f"every photo of run {run!r} is accepted: there is nothing to try again")
    others: Any = resolve_negatives(
        dataset,
        negatives,
        label_field if negatives_field is None else negatives_field,
        record.method,
        parameters.options,
        objects,
        as_plain(negatives_mask_value),
    )
    given = [one for one in record.negatives if not is_rejected(one)]
    if given:
        others = [*recorded_references(dataset, given, TRIED_AGAIN), *others]
    if objects:
        others = {name: some for name, some in _by_object(others, objects).items() if some}
    for mark in marks:
        mark.write()

    def again() -> Run:
        return segment(
            selected(dataset, redo),
            reference=references,
            method=record.method,
            model=record.model,
            out_field=run,
            overwrite=True,
            cache=cache,
            progress=progress,
            presence_threshold=presence_threshold(dataset, run),
            negatives=others or None,
            use_rejected=as_plain(use_rejected),
            **{name: getattr(parameters, name) for name in _KEPT},
            **parameters.options,
        )

    return _accepting(dataset, run, good, again) if good else again()


def _check_reference(run: str, record: RunRecord, reference: Any, keep_references: Any) -> None:
    """Raise PersamError for a reference that a run of this kind cannot take one more of."""
    objects = record.parameters.objects
    if reference is None and keep_references is False:
        raise BadReferenceError(
            "no reference is left: give a reference, or keep_references=True for the run's own"
        )
    if objects and reference is not None and not isinstance(reference, Mapping):
        raise PersamError(
            f"run {run!r} is of several objects: give "
            f"reference={{{objects[0]!r}: ...}}, to say which one is shown"
        )
    if isinstance(reference, Mapping):
        strange = [name for name in object_names(reference) if name not in objects]
        if strange:
            listed = ", ".join(map(repr, objects)) or "one object"
            raise PersamError(f"run {run!r} is of {listed}, not of {strange[0]!r}: name those")
    if not objects and any(earlier.group for earlier in record.references):
        raise PersamError(
            f"run {run!r} has one reference per object: segment the photos of one object alone to "
            "add another one"
        )


def _check_known(run: str, record: RunRecord) -> None:
    """Raise PersamError unless its record says what a run was made with."""
    from ...sam import list_models

    if not record.method:
        raise PersamError(
            f"nobody knows any more what run {run!r} was made with: call segment() with "
            "overwrite=True"
        )
    if record.model not in {info.name for info in list_models()}:
        raise PersamError(
            f"run {run!r} was made with a model of your own ({record.model}): call segment() with "
            "it and overwrite=True"
        )


def _new_references(
    dataset: Any,
    reference: Any,
    label_field: str,
    mask_value: int | str | None,
    objects: Sequence[str],
) -> list[Any]:
    if reference is None:
        return []
    if objects:
        return resolve_objects(dataset, reference, label_field, mask_value)
    return resolve_references(dataset, reference, label_field, None, mask_value)


def _by_object(references: Iterable[Any], objects: Sequence[str]) -> dict[str, list[Any]]:
    """Object's name -> its references, and those that are of all objects."""
    listed = list(references)
    return {name: [one for one in listed if one.group in ("", name)] for name in objects}


def _accepting(dataset: Any, run: str, good: set[str], again: Callable[[], Run]) -> Run:
    """Try again; the masks that were learnt from count as accepted, whatever happens."""
    lease = f"*again {run}*"
    details = {"run": run, "good": sorted(good)}
    with Lease(dataset, lease, what=f"another try of run {run!r}"):
        journal.begin(dataset, run, "again", details, [lease])  # written down first
        try:
            return again()
        finally:
            _finish(dataset, details)
            journal.end(dataset, run, "again")


def _label_of(reference: Any) -> tuple[Any, ...]:
    one = reference
    return one.sample_id, one.frame, one.label_id, one.label_field, one.group


def _shown_in(dataset: Any, references: Iterable[Any]) -> set[str]:
    """The ids of the photos that references are of; of the frames, where they are of videos."""
    if not isinstance(dataset, FrameStore):
        return {one.sample_id for one in references}
    frames = {(one.sample_id, one.frame) for one in references}
    of_films = dataset.of_films({sample_id for sample_id, _ in frames})
    rows = zip(*of_films.values(["id", "sample_id", "frame_number"]), strict=True)
    return {i for i, sample_id, number in rows if (sample_id, number) in frames}


def _finish(dataset: Any, details: dict[str, Any]) -> None:
    """Accept the masks that a run has learnt from; one that was refused has not learnt from them.

    Also after a run that was stopped.
    """
    run, good = details["run"], set(details["good"])
    if run in run_names(dataset):
        learnt = _shown_in(dataset, read_record(dataset, run).references)
        if good <= learnt:
            set_review(dataset, run, ACCEPTED, good)


FINISH = {"again": _finish}


# Settings of a run that another try keeps; `segment` takes them under the same names.
_KEPT = ("label_type", "similarity", "prompts", "compare_photos", "mask_storage", "features")
