"""The presence threshold of a run, moved by a reviewer."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

from ...engine.job import INLINE
from ...errors import PersamError
from ..checks import as_plain
from ..database import photos_of, root, surviving
from ..frame_store import home
from ..runs import folders, journal, losses, queries, schema, several
from ..runs.fields import fields_of, masks_of, read_fields
from ..runs.lease import Lease
from ..runs.naming import require
from ..runs.presence import presence_threshold
from ..runs.record import read_record, update_record
from ..runs.suffixes import PRESENCE, WITHHELD
from ..runs.writing import withhold
from .store import UNDO_STEPS, change_review
from .table import Collection


def presence_changes(collection: Collection, run: str, threshold: float) -> int:
    """How many photos would change their state under another presence threshold."""
    require(root(collection), run)
    return _between(collection, run, presence_threshold(collection, run), float(threshold))


def _between(collection: Collection, run: str, one: float, other: float) -> int:
    """How many photos that nobody has decided about are absent at one threshold only."""
    low, high = sorted((one, other))
    crossed = {f"{run}{PRESENCE}": {"$gte": low, "$lt": high}}
    if read_fields(home(collection), run).objects:  # any of its objects
        crossed = several.crossed(run, low, high)
    open_ = queries.open_to_threshold(home(collection), run)
    return queries.count(photos_of(collection), open_, crossed)


def set_presence_threshold(collection: Collection, run: str, threshold: float) -> int:
    """Count photos whose presence is below ``threshold`` as absent, from now on. Can be undone.

    Absent photos have an empty mask, and what the run found in them waits in ``<run>_withheld``: a
    photo that comes back has its mask as before.

    Returns:
        how many photos changed their state
    """
    require(root(collection), run)
    threshold = as_plain(threshold)
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        raise PersamError(
            f"presence threshold {threshold!r} is out of range: give a number of 0 to 1"
        )
    return move_threshold(home(collection), run, float(threshold))


def move_threshold(
    dataset: Any, run: str, threshold: float, undo: dict[str, Any] | None = None
) -> int:
    """Show or withhold the masks of photos whose state another threshold changes.

    Written down first: a change that is cut off is finished by whoever looks at the run next.

    Args:
        dataset: the run's dataset.
        run: the run's name.
        threshold: the new one.
        undo: the step of the review that this takes back; None to remember a step.

    Returns:
        how many photos changed their state

    Raises:
        PersamError: one of the run's fields is locked.
        RunConflictError: the run is being written.
    """
    with Lease(dataset, run):
        require(dataset, run)
        record = read_record(dataset, run)
        fields = fields_of(run, record)
        schema.check_unlocked(dataset, fields.types(), f"moving the threshold of run {run!r}")
        previous = presence_threshold(dataset, run)
        moved = _moved(dataset, run, previous, threshold)
        _check_possible(dataset, run, moved)
        folder, run_id = folders.own_folder(dataset, run, record.folder, record.run_id)
        if moved.gone and record.parameters.mask_storage != INLINE:
            folders.check_writable(folder)
        details = {
            "run": run,
            "previous": previous,
            "threshold": threshold,
            "undo": undo,
            "masks_dir": str(folder),
            "run_id": run_id,
            "tag": folders.new_tag(),
        }
        journal.begin(dataset, run, "threshold", details)
        surviving(lambda: _move(dataset, details, moved))
        journal.end(dataset, run, "threshold")
        return moved.count


def _check_possible(dataset: Any, run: str, moved: _Moved) -> None:
    """Raise PersamError if what the change needs has been deleted by hand."""
    presence = f"{run}{PRESENCE}"
    if dataset.has_field(run) and not dataset.has_field(presence):
        raise PersamError(
            f"field {presence!r} was deleted, so no threshold can be moved: "
            "segment(..., overwrite=True) makes its values again"
        )
    if lost := losses.lost_files(dataset, run, [*moved.gone, *moved.back]):
        raise PersamError(
            f"mask files of {len(lost)} photos of run {run!r} are gone, the first "
            f"{next(iter(lost.values()))}: put them back, or make them again with "
            f"resume_run(dataset, {run!r})"
        )


@dataclass(frozen=True)
class _Moved:
    """What another threshold does: photos whose mask goes or comes back, and how many states."""

    gone: list[str]
    back: list[str]
    count: int


def _moved(dataset: Any, run: str, previous: float, threshold: float) -> _Moved:
    fields, photos = read_fields(dataset, run), photos_of(dataset)
    open_, below = queries.open_to_threshold(dataset, run), queries.below(run, threshold)
    if fields.objects:
        changed = queries.ids(photos, open_, several.misplaced(run, threshold))
        return _Moved(changed, [], _between(dataset, run, previous, threshold))
    kept = f"{fields.masks or fields.instances}{WITHHELD}._cls"
    return _Moved(
        gone=queries.ids(photos, open_, below, {kept: None}),
        back=queries.ids(photos, open_, {"$nor": [below]}, {kept: queries.TEXT}),
        count=_between(dataset, run, previous, threshold),
    )


def _finish(dataset: Any, details: dict[str, Any]) -> None:
    moved = _moved(dataset, details["run"], details["previous"], details["threshold"])
    _move(dataset, details, moved)


def _move(dataset: Any, details: dict[str, Any], moved: _Moved) -> None:
    run = details["run"]
    record = read_record(dataset, run)
    fields, photos = fields_of(run, record), photos_of(dataset)
    folder, run_id = Path(details["masks_dir"]), details["run_id"]
    changes: dict[str, Any] = {"reviewed_threshold": details["threshold"]}
    if moved.gone and record.parameters.mask_storage != INLINE and run_id != record.run_id:
        # The folder of a clone's original is not written into.
        folders.claim_folder(folder, dataset, run, run_id)
        changes |= {"masks_dir": str(folder), "run_id": run_id}
    update_record(dataset, run, **changes)
    if fields.objects:
        threshold = details["threshold"]
        several.arrange(dataset, fields, folder, moved.gone, threshold, details["tag"])
    else:
        withhold(dataset, fields, folder, moved.gone, absent=True, tag=details["tag"])
        withhold(dataset, fields, folder, moved.back, absent=False)
    change_review(dataset, run, lambda record: _noted(record, details))
    # Those of photos that came back, and of attempts before this one.
    if empty := folders.emptied(folder):
        below = {} if fields.objects else queries.below(run, details["threshold"])
        shown = masks_of(dataset, fields, queries.ids(photos, queries.done(run), below))
        folders.remove_files(folder, dataset, run_id, empty - shown)


def _noted(record: dict[str, Any], details: dict[str, Any]) -> dict[str, Any]:
    """What a review keeps, with the step or without the one that was taken back."""
    previous, threshold, steps = details["previous"], details["threshold"], record["undo"]
    if (step := details["undo"]) is not None:
        left = [one for one in steps if one != step]
        return {**record, "undo": left, "threshold": threshold}
    made = {"threshold": previous, "id": details["tag"]}
    if previous != threshold and made not in steps:
        steps = [*steps, made][-UNDO_STEPS:]
    return {**record, "undo": steps, "threshold": threshold}


FINISH = {"threshold": _finish}
