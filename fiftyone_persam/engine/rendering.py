"""From a prediction to what is stored of it; runs in the writers' threads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import PersamError
from ..personalize.threshold import is_absent
from ..sam.boxes import tight_box
from .job import (
    AUTO,
    FILE,
    INLINE_PIXELS,
    OutputSettings,
    PhotoResult,
    StoredInstance,
    StoredMask,
    StoredObject,
)
from .writing import MASK_VALUE, write_mask

if TYPE_CHECKING:
    from ..personalize import Prediction
    from ..personalize.several import Scene

BoolMask = npt.NDArray[np.bool_]

ABSENT, INSTANCE = "absent", "instance"
LAST_VALUE = 255
"""Of a mask; further instances share it."""
_ID = re.compile(r"[A-Za-z0-9_-]+")


def file_name(photo_id: str, kind: str = "", tag: str = "") -> str:
    """The name of a mask file; made of the photo's id, so it never leaves its folder.

    Args:
        photo_id: the photo.
        kind: which of its masks; "" for the one of the whole photo.
        tag: tells files of one call from those of earlier ones, which somebody may still need.

    Raises:
        PersamError: the id has other characters than letters, digits, "_" and "-".
    """
    if not _ID.fullmatch(photo_id):
        raise PersamError(f"photo id {photo_id!r} cannot name a file: use letters and digits")
    return ".".join(part for part in (photo_id, tag, kind, "png") if part)


def store_mask(
    mask: BoolMask | npt.NDArray[np.uint8],
    photo_id: str,
    settings: OutputSettings,
    kind: str = "",
) -> StoredMask:
    """Keep a mask as the settings say: bool as 0 and 255, values as they are."""
    to_file = settings.storage == FILE or (settings.storage == AUTO and mask.size > INLINE_PIXELS)
    if not to_file:
        scale = np.uint8(MASK_VALUE if mask.dtype == np.bool_ else 1)
        return StoredMask(array=mask.astype(np.uint8) * scale)
    path = settings.masks_dir / file_name(photo_id, kind, settings.tag)
    content: Any = np.ascontiguousarray(mask)
    write_mask(content, path)
    return StoredMask(path=str(path))


def render(photo_id: str, prediction: Prediction | Scene, settings: OutputSettings) -> PhotoResult:
    """Store what the settings ask for of one prediction.

    Whether the object counts as absent is judged here, by the settings.

    Args:
        photo_id: names the files.
        prediction: of one photo.
        settings: what to keep, and the presence below which the object counts as absent.

    Raises:
        WriteError: a file cannot be written.
    """
    if hasattr(prediction, "objects"):  # a `Scene`, whose module is not needed for others
        return _render_scene(photo_id, prediction.objects, settings)
    mask: BoolMask = np.ascontiguousarray(prediction.candidate, dtype=np.bool_)
    absent = bool(is_absent(prediction.presence, settings.presence_threshold))
    stored = withheld = None
    if settings.whole:
        stored = store_mask(_values(prediction) if settings.numbered else mask, photo_id, settings)
        if absent:
            withheld = stored
            stored = store_mask(np.zeros_like(mask), photo_id, settings, ABSENT)
    points = labels = None
    if settings.prompts:
        points = np.asarray(prediction.points, np.float64).reshape(-1, 2)
        labels = np.asarray(prediction.labels, np.int64)
    return PhotoResult(
        id=photo_id,
        score=float(prediction.score),
        presence=float(prediction.presence),
        agreement=float(prediction.agreement),
        absent=absent,
        stage=prediction.stage,
        size=(mask.shape[0], mask.shape[1]),
        mask=stored,
        withheld=withheld,
        instances=_instances(photo_id, prediction, settings) if settings.instances else (),
        similarity=_heat(prediction.similarity) if settings.similarity else None,
        points=points,
        labels=labels,
    )


def _render_scene(
    photo_id: str, objects: Mapping[str, Prediction], settings: OutputSettings
) -> PhotoResult:
    """Several objects as one result: a mask of their values, and instances with their names."""
    found = list(objects.values())
    absent = [bool(is_absent(one.presence, settings.presence_threshold)) for one in found]
    there = [one for one, gone in zip(found, absent, strict=True) if not gone]
    size = found[0].candidate.shape
    stored = withheld = None
    if settings.whole:
        everything = np.zeros(size, np.uint8)
        for value, one in enumerate(found, start=1):
            everything[one.candidate] = value
        stored = store_mask(everything, photo_id, settings)
        if any(absent):
            withheld, hidden = stored, [k for k, gone in enumerate(absent, start=1) if gone]
            shown = np.where(np.isin(everything, hidden), 0, everything).astype(np.uint8)
            stored = store_mask(shown, photo_id, settings, ABSENT)
    instances: list[StoredInstance] = []
    points, labels = [], []
    for value, (name, one) in enumerate(objects.items(), start=1):
        if settings.instances:
            first = len(instances)
            facts = (name, value, float(one.presence), absent[value - 1])
            instances += _instances(photo_id, one, settings, first, facts)
        if settings.prompts and not absent[value - 1]:
            points.append(np.asarray(one.points, np.float64).reshape(-1, 2))
            labels.append(np.where(np.asarray(one.labels) == 1, value, 0))
    surest = max(found, key=lambda one: one.presence)
    doubtful = there or [surest]
    return PhotoResult(
        id=photo_id,
        score=float(min(one.score for one in doubtful)),
        presence=float(surest.presence),
        agreement=float(min(one.agreement for one in doubtful)),
        absent=not there,
        stage=surest.stage,
        size=(size[0], size[1]),
        mask=stored,
        withheld=withheld,
        instances=tuple(instances),
        similarity=_heat(np.max([one.similarity for one in found], axis=0))
        if settings.similarity
        else None,
        points=np.concatenate([*points, np.zeros((0, 2))]) if settings.prompts else None,
        labels=np.concatenate([*labels, np.zeros(0, np.int64)]) if settings.prompts else None,
        objects=tuple(
            StoredObject(name, float(one.presence), float(one.score), float(one.agreement), gone)
            for (name, one), gone in zip(objects.items(), absent, strict=True)
        ),
    )


def _instances(
    photo_id: str,
    prediction: Prediction,
    settings: OutputSettings,
    first: int = 0,
    facts: tuple[Any, ...] = (),
) -> tuple[StoredInstance, ...]:
    found = []
    for number, one in enumerate(prediction.instances or (prediction,), start=first):
        if settings.numbered:
            facts = (None, min(number + 1, LAST_VALUE), float(one.presence))
        mask = np.asarray(one.candidate, dtype=np.bool_)
        box = tight_box(mask)
        if box is None:
            continue
        crop = mask[box[1] : box[3], box[0] : box[2]]
        stored = store_mask(crop, photo_id, settings, f"{INSTANCE}{number or ''}")
        found.append(StoredInstance(box, stored, float(one.score), *facts))
    return tuple(found)


def _values(prediction: Prediction) -> npt.NDArray[np.uint8]:
    """(H, W): which of the instances each pixel is, from 1; 0 is none of them."""
    found = prediction.instances or (prediction,)
    values = np.zeros(prediction.candidate.shape, np.uint8)
    for number, one in reversed(list(enumerate(found, start=1))):  # the surest has the last word
        values[np.asarray(one.candidate, dtype=np.bool_)] = min(number, LAST_VALUE)
    return values


def _heat(similarity: npt.ArrayLike) -> npt.NDArray[np.uint8]:
    values = np.nan_to_num(np.asarray(similarity, np.float32))
    return np.round(np.clip(values, 0.0, 1.0) * 255).astype(np.uint8)
