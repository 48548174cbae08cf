"""The colour of a run's masks: one that stands out from photos, and the same wherever it is shown.

FiftyOne draws a field in a colour of its own choice, which may hardly differ from the photo. The
dataset's colour scheme says otherwise; what a user has set there stays. `schema` writes what is
changed here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import fiftyone as fo

from ...engine.writing import MASK_VALUE

# Bright and saturated, far from each other, and rare in photos.
COLOURS = ("#FF6D04", "#00C8FF", "#FF2BD6", "#B4FF00", "#FFE100", "#8C5BFF")


def colour_of(dataset: Any, run: str) -> str:
    """The colour of a run's masks as "#rrggbb"; the first of ours where there is none."""
    entry = next((e for e in _entries(dataset) if e.get("path") == run), {})
    colour = entry.get("fieldColor")
    return COLOURS[0] if rgb(colour) is None else str(colour)


def object_colours(dataset: Any, run: str, objects: Sequence[str]) -> dict[str, str]:
    """Object -> colour of its value in a run's masks, as "#rrggbb"."""
    entry = next((e for e in _entries(dataset) if e.get("path") == run), {})
    known = {e.get("intTarget"): e.get("color") for e in entry.get("maskTargetsColors") or []}
    own = COLOURS[0] if len(objects) < 2 else None
    return {
        name: str(known.get(value) or own or COLOURS[(value - 1) % len(COLOURS)])
        for value, name in enumerate(objects, start=1)
    }


def rgb(colour: Any) -> tuple[int, int, int] | None:
    """(red, green, blue) of "#rrggbb", 0 to 255 each; None for anything else."""
    if not isinstance(colour, str) or len(colour) != 7 or not colour.startswith("#"):
        return None
    try:
        red, green, blue = bytes.fromhex(colour[1:])
    except ValueError:
        return None
    return red, green, blue


def add(dataset: Any, names: Iterable[str], values: Iterable[int] = (MASK_VALUE,)) -> bool:
    """Give fields that belong together one colour that no other has, unless they have one.

    Several values of a mask have a colour each where the App colours by value, which it then does
    unless the dataset has a scheme already.

    Returns:
        Whether the scheme has changed; it is not saved.
    """
    names, values = list(names), list(values)
    entries = _entries(dataset)
    coloured = {entry.get("path") for entry in entries}
    missing = [name for name in names if name not in coloured]
    if not missing:
        return False
    taken = {str(entry.get("fieldColor")).upper() for entry in entries}
    own = next((e.get("fieldColor") for e in entries if e.get("path") in names), None)
    colour = own or next((c for c in COLOURS if c not in taken), COLOURS[0])
    if len(values) > 1 and dataset.app_config.color_scheme is None:
        dataset.app_config.color_scheme = fo.ColorScheme(color_by="value")
    _set(dataset, [*entries, *(_entry(name, colour, values) for name in missing)])
    return True


def remove(dataset: Any, names: Iterable[str]) -> bool:
    """Take fields out of the scheme; returns as `add`."""
    gone, before = set(names), _entries(dataset)
    after = [entry for entry in before if entry.get("path") not in gone]
    if after != before:
        _set(dataset, after)
    return after != before


def rename(dataset: Any, renamed: Mapping[str, str]) -> bool:
    """Move the colours of fields to their new names; returns as `add`."""
    before = _entries(dataset)
    after = [{**e, "path": renamed.get(str(e.get("path")), e.get("path"))} for e in before]
    if after != before:
        _set(dataset, after)
    return after != before


def _entries(dataset: Any) -> list[dict[str, Any]]:
    scheme = dataset.app_config.color_scheme
    return [dict(entry) for entry in (scheme.fields or [])] if scheme is not None else []


def _entry(path: str, colour: str, values: Sequence[int]) -> dict[str, Any]:
    # Where the App colours by field the first counts, where it colours by value the second.
    return {
        "path": path,
        "fieldColor": colour,
        "maskTargetsColors": [
            {"intTarget": value, "color": colour if len(values) == 1 else COLOURS[k % len(COLOURS)]}
            for k, value in enumerate(values)
        ],
    }


def _set(dataset: Any, entries: list[dict[str, Any]]) -> None:
    if dataset.app_config.color_scheme is None:
        dataset.app_config.color_scheme = fo.ColorScheme()
    dataset.app_config.color_scheme.fields = entries
