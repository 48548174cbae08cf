"""The presence threshold of a run, moved by a reviewer."""

from __future__ import annotations

from numbers import Real
from pathlib import Path
from typing import Any

from ...engine.job import INLINE
from ...errors import PersamError
from ..database import photos_of, root
from ..fiftyone_api import root_dataset
from ..runs import folders, journal, queries, schema
from ..runs.fields import WITHHELD, fields_of, masks_of
from ..runs.lease import Lease
from ..runs.naming import require
from ..runs.presence import presence_threshold
from ..runs.record import read_record, update_record
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
    crossed = {f"{run}_presence": {"$gte": low, "$lt": high}}
    return queries.count(photos_of(collection), queries.open_to_threshold(run), crossed)


def set_presence_threshold(collection: Collection, run: str, threshold: float) -> int:
    """Count photos whose presence is below ``threshold`` as absent, from now on. Can be undone.

    Absent photos have an empty mask, and what the run found in them waits in ``<run>_withheld``: a
    photo that comes back has its mask as before.

    Returns:
        how many photos changed their state
    """
    require(root(collection), run)
    number = isinstance(threshold, Real) and not isinstance(threshold, bool)
    if not number or not 0 <= threshold <= 1:
        raise PersamError(
            f"presence threshold {threshold!r} is out of range: give a number of 0 to 1"
        )
    return move_threshold(root_dataset(collection), run, float(threshold))


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
        folder, run_id = folders.own_folder(dataset, run, record.folder, record.run_id)
        details = {
            "run": run,
            "previous": presence_threshold(dataset, run),
            "threshold": threshold,
            "undo": undo,
            "masks_dir": str(folder),
            "run_id": run_id,
            "tag": folders.new_tag(),
        }
        count: int = journal.carry_out(dataset, run, "threshold", details)
        return count


def _finish(dataset: Any, details: dict[str, Any]) -> int:
    run, previous, threshold = details["run"], details["previous"], details["threshold"]
    record = read_record(dataset, run)
    fields = fields_of(run, record)
    photos, below = photos_of(dataset), queries.below(run, threshold)
    kept = f"{fields.masks or fields.instances}{WITHHELD}._cls"
    gone = queries.ids(photos, queries.open_to_threshold(run), below, {kept: None})
    back = queries.ids(
        photos, queries.open_to_threshold(run), {"$nor": [below]}, {kept: queries.TEXT}
    )
    count = _between(dataset, run, previous, threshold)
    folder, run_id = Path(details["masks_dir"]), details["run_id"]
    if gone and record.parameters.mask_storage != INLINE and run_id != record.run_id:
        # The folder of a clone's original is not written into.
        folders.claim_folder(folder, dataset, run, run_id)
        update_record(dataset, run, masks_dir=str(folder), run_id=run_id)
    emptied = masks_of(dataset, fields, back)
    withhold(dataset, fields, folder, gone, absent=True, tag=details["tag"])
    withhold(dataset, fields, folder, back, absent=False)
    change_review(dataset, run, lambda record: _noted(record, details))
    # An attempt before this one may have written a file for a photo that stays as it is now.
    written = folders.tagged(folder, details["tag"])
    unneeded = {*emptied, *written} - masks_of(dataset, fields, gone)
    if unneeded - masks_of(dataset, fields, queries.ids(photos, queries.done(run), below)):
        folders.remove_files(folder, dataset, run_id, unneeded)
    return count


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
