"""Which masks of a run are shown: those of photos that do not count as without the object."""

from __future__ import annotations

from typing import Any

from ..database import photos_of
from ..fiftyone_api import root_dataset
from ..runs.fields import WITHHELD, fields_of
from ..runs.folders import new_tag
from ..runs.record import read_record
from ..runs.writing import withhold
from .store import change_review
from .table import ABSENT, TODO, review_table


def adopt_threshold(samples: Any, run: str) -> None:
    """Make the threshold in a run's record the one in force, in place of the reviewer's choice.

    Masks that stay from before are shown or withheld as it says. Can be repeated: what a process
    that was killed has left undone is done the next time. The run's lease must be held.
    """
    dataset = root_dataset(samples)
    change_review(dataset, run, lambda kept: {**kept, "threshold": None})
    align_masks(dataset, run)


def align_masks(dataset: Any, run: str) -> None:
    """Show and withhold masks where that is not as the threshold in force says."""
    table = review_table(dataset, run)
    record = read_record(dataset, run)
    fields = fields_of(run, record)
    waiting: set[str] = set()
    for name in (fields.masks, fields.instances):
        if name is not None and dataset.has_field(f"{name}{WITHHELD}"):
            waiting.update(photos_of(dataset).exists(f"{name}{WITHHELD}").values("id"))
    # Of photos that somebody has decided about, the mask that was looked at stays.
    hide = [i for i in table.of_state(ABSENT) if i not in waiting]
    show = [i for i in table.of_state(TODO) if i in waiting]
    withhold(dataset, fields, record.folder, hide, absent=True, tag=new_tag())
    withhold(dataset, fields, record.folder, show, absent=False)
