"""The presence threshold of a run, moved by a reviewer."""

from __future__ import annotations

from numbers import Real
from typing import Any

from ...errors import PersamError
from ..database import root
from ..fiftyone_api import root_dataset
from ..runs.fields import fields_of
from ..runs.naming import require
from ..runs.presence import presence_threshold
from ..runs.record import read_record
from ..runs.writing import withhold
from .store import remember
from .table import ABSENT, Collection, review_table


def presence_changes(collection: Collection, run: str, threshold: float) -> int:
    """How many photos would change their state under another presence threshold."""
    now = review_table(collection, run).states
    return int((now != review_table(collection, run, threshold).states).sum())


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
    dataset = root_dataset(collection)
    previous = presence_threshold(dataset, run)
    count = move_threshold(dataset, run, float(threshold))
    if previous != threshold:
        remember(dataset, run, {"threshold": previous}, threshold=float(threshold))
    return count


def move_threshold(dataset: Any, run: str, threshold: float) -> int:
    """Show or withhold the masks of photos whose state another threshold changes."""
    before, after = review_table(dataset, run), review_table(dataset, run, threshold)
    changes = list(zip(before.ids, before.states, after.states, strict=True))
    gone = [i for i, old, new in changes if old != ABSENT and new == ABSENT]
    back = [i for i, old, new in changes if old == ABSENT and new != ABSENT]
    record = read_record(dataset, run)
    written = fields_of(run, record)
    withhold(dataset, written, record.folder, gone, absent=True)
    withhold(dataset, written, record.folder, back, absent=False)
    return len(gone) + len(back)
