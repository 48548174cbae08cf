"""Runs of several objects: which of them are in a photo, and what waits until a threshold says so.

Each photo has one `fo.Classification` for each object, its confidence being the object's presence:
in ``<run>_objects`` if it is there, in ``<run>_objects_withheld`` if not. Masks have the value of
every object that is there; where some are not, ``<run>_withheld`` has the mask with all of them, so
that another threshold takes no pixel from anybody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.storage as fos
import numpy as np
import numpy.typing as npt

from ...engine.job import PhotoResult
from ...engine.rendering import ABSENT, LAST_VALUE, file_name
from ...engine.writing import encode_mask, write_bytes
from ..database import photos_of, with_retries, write_samples
from ..labels.pixels import mask_pixels
from . import queries
from .fields import RunFields, add_missing
from .presence import is_absent
from .suffixes import OBJECTS, WITHHELD

CHUNK = 500


def values_of(objects: Iterable[str]) -> dict[int, str]:
    """Value in masks -> object, as FiftyOne's ``mask_targets``."""
    return dict(enumerate(objects, start=1))


def numbers_of(name: str, most: int) -> dict[int, str]:
    """Value in masks -> what it means, where up to ``most`` of one object have one each."""
    return {number: f"{name} {number}" for number in range(1, min(most, LAST_VALUE) + 1)}


def most_of(options: Mapping[str, Any]) -> int:
    """How many of one object a run looks for in a photo, at most, by its method's options."""
    return int(options.get("max_instances") or 1)


def classifications(result: PhotoResult, absent: bool) -> fo.Classifications | None:
    """A photo's objects that are there, or those that are not; None for none that is not."""
    found = [
        fo.Classification(
            label=one.label, confidence=one.presence, score=one.score, agreement=one.agreement
        )
        for one in result.objects
        if one.absent == absent
    ]
    return fo.Classifications(classifications=found) if found or not absent else None


def crossed(run: str, low: float, high: float) -> dict[str, Any]:
    """The query for photos of which an object is absent at ``high`` and not at ``low``."""
    inside = {"$elemMatch": {"confidence": {"$gte": low, "$lt": high}}}
    return {"$or": [{path: inside} for path in _paths(run)]}


def misplaced(run: str, threshold: float) -> dict[str, Any]:
    """The query for photos in which an object is shown or withheld otherwise than a threshold says.

    A presence that is not a number says nothing, and is shown.
    """
    shown, kept = _paths(run)
    low = {"$gte": queries.LOWEST, "$lt": threshold}
    return {
        "$or": [
            {shown: {"$elemMatch": {"confidence": low}}},
            {kept: {"$elemMatch": {"confidence": {"$gte": threshold}}}},
        ]
    }


def arrange(
    dataset: Any,
    fields: RunFields,
    masks_dir: Path,
    ids: Iterable[str],
    threshold: float,
    tag: str,
) -> None:
    """Show the objects whose presence reaches a threshold, and withhold the others.

    A photo changes in one step, and nothing is lost.

    Args:
        dataset: the run's dataset.
        fields: the run's.
        masks_dir: where files go of masks without some object.
        ids: photos.
        threshold: presence below which an object counts as absent.
        tag: part of the files' names.
    """
    ids = list(ids)
    objects = f"{fields.run}{OBJECTS}"
    # One of them may have been deleted by hand.
    names = [n for n in (fields.masks, fields.instances) if n is not None and dataset.has_field(n)]
    if not ids or not dataset.has_field(objects):
        return
    add_missing(dataset, fields, [f"{name}{WITHHELD}" for name in (*names, objects)])
    columns = [one for name in (objects, *names) for one in (name, f"{name}{WITHHELD}")]
    for start in range(0, len(ids), CHUNK):
        chunk = queries.some(ids[start : start + CHUNK])
        rows = queries.rows(photos_of(dataset), columns, chunk)
        changes: dict[str, dict[str, Any]] = {}
        for i, (shown, kept, *masks) in rows.items():
            if shown is None and kept is None:
                continue
            parts = _split(shown, kept, "classifications", fields, threshold)
            changes[i] = {objects: parts[0], f"{objects}{WITHHELD}": parts[1]}
            gone = _labels(parts[1], "classifications")
            for name, here, aside in zip(names, masks[::2], masks[1::2], strict=True):
                if here is None:
                    continue
                if name == fields.instances:
                    new = _by_label(here, aside, gone)
                else:
                    new = _masked(i, aside or here, gone, fields, masks_dir, tag)
                changes[i] |= {name: new[0], f"{name}{WITHHELD}": new[1]}
        with_retries(write_samples, dataset, changes)


# ----------------------------------------------------------------------------------------------


def _paths(run: str) -> tuple[str, str]:
    return f"{run}{OBJECTS}.classifications", f"{run}{OBJECTS}{WITHHELD}.classifications"


def _labels(label: Mapping[str, Any] | None, inner: str) -> set[str]:
    return {str(one.get("label")) for one in (label or {}).get(inner, [])}


def _split(
    shown: Any, kept: Any, inner: str, fields: RunFields, threshold: float
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """A list of labels in two: those of objects that are there, and the rest, None if empty."""
    all_of_them = [one for label in (shown, kept) for one in (label or {}).get(inner, [])]
    order = {name: place for place, name in enumerate(fields.objects)}
    all_of_them.sort(key=lambda one: order.get(one.get("label"), len(order)))
    gone = [bool(is_absent(one.get("confidence"), threshold)) for one in all_of_them]
    kind = (shown or kept)["_cls"]
    parts = [
        {"_cls": kind, inner: [o for o, low in zip(all_of_them, gone, strict=True) if low == side]}
        for side in (False, True)
    ]
    return parts[0], parts[1] if parts[1][inner] else None


def _by_label(
    shown: dict[str, Any], kept: Any, gone: set[str]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    inner = "detections"
    everything = [one for label in (shown, kept) for one in (label or {}).get(inner, [])]
    there = [one for one in everything if one.get("label") not in gone]
    aside = [one for one in everything if one.get("label") in gone]
    return {**shown, inner: there}, {**shown, inner: aside} if aside else None


def _masked(
    sample_id: str,
    whole: dict[str, Any],
    gone: set[str],
    fields: RunFields,
    masks_dir: Path,
    tag: str,
) -> tuple[Any, dict[str, Any] | None]:
    """A mask without some objects, and the whole one if it has more."""
    values = _values(whole, f"the mask of photo {sample_id} in {fields.run!r}")
    hidden = [value for value, name in values_of(fields.objects).items() if name in gone]
    inside = np.isin(values, hidden)
    if not gone:
        return whole, None
    left = np.where(inside, 0, values).astype(np.uint8)
    if whole.get("mask_path") is None:
        return fo.Segmentation(mask=left), whole
    path = masks_dir / file_name(sample_id, ABSENT, tag)
    write_bytes(encode_mask(left), path)
    return fo.Segmentation(mask_path=fos.normalize_path(str(path))), whole


def _values(label: dict[str, Any], where: str) -> npt.NDArray[np.uint8]:
    pixels = mask_pixels(fo.Segmentation.from_dict(label), where)
    assert pixels is not None and pixels.values is not None
    return np.asarray(pixels.values, np.uint8)
