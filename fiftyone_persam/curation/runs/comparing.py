"""Presence in a run whose photos are compared with one another; see `personalize.comparison`."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from ...personalize.comparison import among_others
from ..database import photos_of, with_retries, write_samples
from . import queries
from .fields import RunFields
from .suffixes import ALONE, PRESENCE
from .writing import CHUNK


def compare_photos(dataset: Any, fields: RunFields, group_by: str | None) -> None:
    """Work out the presence of all photos of a run anew, from what each has by itself.

    Can be repeated: what a process that was killed has left undone is done the next time, and
    photos that came later change what the earlier ones have. Masks stay as they are. The run's
    lease must be held.

    Args:
        dataset: the run's dataset.
        fields: the run's.
        group_by: field that names each photo's object, or None for one object.
    """
    presence, alone = f"{fields.run}{PRESENCE}", f"{fields.run}{ALONE}"
    names = [alone, presence, *([] if group_by is None else [group_by])]
    rows = queries.rows(photos_of(dataset), names, queries.done(fields.run))
    objects: dict[str, list[str]] = defaultdict(list)
    for i, (_, _, *group) in rows.items():
        objects[str(group[0]) if group else ""].append(i)
    changes = {}
    for ids in objects.values():
        own = [rows[i][0] for i in ids]
        found = among_others(np.array([np.nan if one is None else one for one in own], float))
        for i, value in zip(ids, found.tolist(), strict=True):
            if value == value and value != rows[i][1]:
                changes[i] = {presence: value}
    changed = list(changes)
    for start in range(0, len(changed), CHUNK):
        part = {i: changes[i] for i in changed[start : start + CHUNK]}
        with_retries(write_samples, dataset, part)
