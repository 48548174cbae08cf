"""Which masks of a run are shown: those of photos that do not count as without the object."""

from __future__ import annotations

from typing import Any

from ..database import photos_of
from ..frame_store import home
from ..runs import queries, several
from ..runs.fields import fields_of
from ..runs.folders import new_tag
from ..runs.presence import presence_threshold
from ..runs.record import read_record
from ..runs.suffixes import WITHHELD
from ..runs.writing import withhold
from .store import change_review


def adopt_threshold(samples: Any, run: str) -> None:
    """Make the threshold in a run's record the one in force, in place of the reviewer's choice.

    Masks that stay from before are shown or withheld as it says. Can be repeated: what a process
    that was killed has left undone is done the next time. The run's lease must be held.
    """
    dataset = home(samples)
    change_review(dataset, run, lambda kept: {**kept, "threshold": None})
    align_masks(dataset, run)


def align_masks(dataset: Any, run: str) -> None:
    """Show and withhold masks where that is not as the threshold in force says."""
    record = read_record(dataset, run)
    fields, photos = fields_of(run, record), photos_of(dataset)
    if fields.objects:
        threshold = presence_threshold(dataset, run)
        there = several.misplaced(run, threshold)
        ids = queries.ids(photos, queries.open_to_threshold(dataset, run), there)
        several.arrange(dataset, fields, record.folder, ids, threshold, new_tag())
        return
    below = queries.below(run, presence_threshold(dataset, run))
    names = [f"{name}{WITHHELD}._cls" for name in (fields.masks, fields.instances) if name]
    # Of photos that somebody has decided about, the mask that was looked at stays.
    open_ = queries.open_to_threshold(dataset, run)
    hide = queries.ids(photos, open_, below, dict.fromkeys(names))
    waiting = {"$or": [{name: queries.TEXT} for name in names]}
    show = queries.ids(photos, open_, {"$nor": [below]}, waiting)
    withhold(dataset, fields, record.folder, hide, absent=True, tag=new_tag())
    withhold(dataset, fields, record.folder, show, absent=False)
