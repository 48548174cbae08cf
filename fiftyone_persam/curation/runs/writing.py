"""What a run writes into its fields: values in bulk, and masks that are withheld."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.storage as fos
import numpy as np
from bson import ObjectId

from ...engine.job import PhotoResult, StoredMask
from ...engine.rendering import ABSENT, file_name
from ...engine.writing import encode_mask, write_bytes
from ...errors import PhotoError
from ...sam.mask_images import mask_size
from ..database import photos_of, with_retries, write_samples
from ..labels.sizes import read_shown_size
from . import queries, several
from .fields import RunFields, add_missing
from .suffixes import (
    AGREEMENT,
    ALONE,
    ERROR,
    OBJECTS,
    PRESENCE,
    PROMPTS,
    SCORE,
    SIMILARITY,
    WITHHELD,
)

CHUNK = 500
"""Photos whose labels are in memory at a time."""


def write(
    dataset: Any,
    fields: RunFields,
    results: Sequence[PhotoResult],
    names: Callable[[str], str],
    tracks: Callable[[str], str] = lambda _: "",
) -> None:
    """Write results in bulk.

    All fields of a photo are one write, so a process that dies leaves photos that are done or
    photos that are done again, never one that is half done.

    Args:
        dataset: where to.
        fields: what to write.
        results: photos, failed ones too.
        names: tells the object's name by sample id, for instances.
        tracks: tells by sample id of which sequence a photo is a frame, in words that no other
            sequence or run has; "" for a photo by itself. The App shows an object's instances of
            one sequence as a track.
    """
    good = [result for result in results if result.error is None]
    columns: dict[str, dict[str, Any]] = {
        f"{fields.run}{SCORE}": {r.id: r.score for r in results},
        f"{fields.run}{PRESENCE}": {r.id: r.presence for r in results},
        f"{fields.run}{ALONE}": {r.id: r.presence for r in results},
        f"{fields.run}{AGREEMENT}": {r.id: r.agreement for r in results},
        f"{fields.run}{ERROR}": {r.id: r.error for r in results},
        f"{fields.run}{SIMILARITY}": {r.id: _heatmap(r) for r in good},
        f"{fields.run}{PROMPTS}": {r.id: _keypoints(r) for r in good},
    }
    if fields.instances is not None:
        both = {
            r.id: [_detections(r, names(r.id), side, tracks(r.id)) for side in (False, True)]
            for r in good
        }
        columns[fields.instances] = {i: shown for i, (shown, _) in both.items()}
        waits = {r.id for r in good if r.absent or any(one.absent for one in r.objects)}
        columns[f"{fields.instances}{WITHHELD}"] = {i: both[i][1] for i in waits}
    if fields.objects:
        for side, name in ((False, OBJECTS), (True, f"{OBJECTS}{WITHHELD}")):
            listed = {r.id: several.classifications(r, side) for r in good}
            columns[f"{fields.run}{name}"] = listed
    if fields.masks is not None:
        columns[fields.masks] = {r.id: _segmentation(r.mask) for r in good}
        columns[f"{fields.masks}{WITHHELD}"] = {r.id: _segmentation(r.withheld) for r in good}

    for name in [name for name in columns if name.endswith(WITHHELD)]:
        columns[name] = {i: label for i, label in columns[name].items() if label is not None}

    def put() -> None:
        written = [name for name in fields.types() if columns[name]]
        add_missing(dataset, fields, written)
        # `set_values` costs a request per field, and reads every sample in memory again each time.
        changes: dict[str, dict[str, Any]] = {result.id: {} for result in results}
        for name in written:
            for i, value in columns[name].items():
                changes[i][name] = value
        write_samples(dataset, changes)

    # All again after a gap: a database that was killed forgets what it acknowledged just before.
    with_retries(put)


def withhold(
    dataset: Any,
    fields: RunFields,
    masks_dir: Path,
    ids: Iterable[str],
    absent: bool,
    tag: str = "",
) -> None:
    """Count the object as absent from photos, or as present again; nothing is lost either way.

    Absent photos get an empty mask, and keep what they had in ``<field>_withheld``. A photo changes
    in one step, and one that is as it should be already does not.

    Args:
        dataset: the run's dataset.
        fields: the run's.
        masks_dir: where files of empty masks go, and ``tag`` a part of their names.
        ids: photos.
        absent: whether the object counts as absent from them.
        tag: see `masks_dir`.
    """
    ids = list(ids)
    # One of them may have been deleted by hand.
    names = [n for n in (fields.masks, fields.instances) if n is not None and dataset.has_field(n)]
    if ids:
        add_missing(dataset, fields, [f"{name}{WITHHELD}" for name in names])
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        changes: dict[str, dict[str, Any]] = {}
        columns = [one for name in names for one in (name, f"{name}{WITHHELD}")]
        rows = queries.rows(photos_of(dataset), ["filepath", *columns], queries.some(chunk))
        for i, (photo, *row) in rows.items():
            for name, shown, kept in zip(names, row[::2], row[1::2], strict=True):
                if shown is not None and (kept is None) == absent:
                    new = _emptied(i, photo, shown, masks_dir, tag) if absent else kept
                    changes.setdefault(i, {})[name] = new
                    changes[i][f"{name}{WITHHELD}"] = shown if absent else None
        with_retries(write_samples, dataset, changes)


def _segmentation(stored: StoredMask | None) -> fo.Segmentation | None:
    if stored is None:
        return None
    if stored.path is not None:
        return fo.Segmentation(mask_path=fos.normalize_path(stored.path))
    return fo.Segmentation(mask=stored.array)


def _detections(result: PhotoResult, name: str, absent: bool, track: str) -> fo.Detections:
    """A photo's instances that are there, or those that are not."""
    height, width = result.size
    detections = []
    for number, found in enumerate(result.instances, start=1):
        if (result.absent if found.label is None else found.absent) != absent:
            continue
        x0, y0, x1, y1 = found.box
        if found.mask.path is not None:
            content: dict[str, Any] = {"mask_path": fos.normalize_path(found.mask.path)}
        else:
            content = {"mask": np.asarray(found.mask.array) > 0}
        box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
        if found.presence is not None:
            content["presence"] = found.presence
        label = name if found.label is None else found.label
        if track:
            content["index"] = index = found.index or number
            content["instance"] = track_of(track, label, index)
        elif found.label is None and found.index is not None:
            content["index"] = found.index
        detections.append(
            fo.Detection(label=label, bounding_box=box, confidence=found.score, **content)
        )
    return fo.Detections(detections=detections)


def track_of(sequence: str, name: str, index: int) -> fo.Instance:
    """What tells that instances of several frames are the same object; the same in every call."""
    text = f"{sequence}|{name}|{index}"
    return fo.Instance(id=hashlib.sha256(text.encode()).hexdigest()[:24])


def _heatmap(result: PhotoResult) -> fo.Heatmap | None:
    if result.similarity is None:
        return None
    return fo.Heatmap(map=result.similarity, range=[0, 255])


def _keypoints(result: PhotoResult) -> fo.Keypoints | None:
    if result.points is None or result.labels is None:
        return None
    height, width = result.size
    relative = (result.points + 0.5) / [width, height]
    points = []
    named = [(k, one.label) for k, one in enumerate(result.objects, start=1)] or [(1, "object")]
    for sign, label in (*named, (0, "background")):
        chosen = relative[result.labels == sign]
        if len(chosen):
            points.append(fo.Keypoint(label=label, points=[tuple(xy) for xy in chosen.tolist()]))
    return fo.Keypoints(keypoints=points)


def _emptied(
    sample_id: str, photo: str, label: dict[str, Any], masks_dir: Path, tag: str
) -> fo.Label | dict[str, Any]:
    """A label like one that is stored, of nothing; where its mask is a file, as it is stored."""
    if label["_cls"] == "Detections":
        return fo.Detections()
    if label.get("mask_path") is None:
        mask = np.asarray(fo.Segmentation.from_dict(label).mask)
        return fo.Segmentation(mask=np.zeros(mask.shape[:2], np.uint8))
    path, earlier = masks_dir / file_name(sample_id, ABSENT, tag), Path(label["mask_path"])
    write_bytes(_empty_file(*_size_of(earlier, photo)), path)
    # A label of FiftyOne's costs as much time as the file.
    return {**label, "_id": ObjectId(), "mask_path": fos.normalize_path(str(path))}


def _size_of(mask: Path, photo: str) -> tuple[int, int]:
    """(H, W) of a mask, whatever has become of its file: a change of all photos goes on."""
    with suppress(PhotoError):
        return mask_size(mask)
    with suppress(PhotoError):
        return read_shown_size(photo)
    return 1, 1  # nobody can look at it beside its photo


@lru_cache(maxsize=8)
def _empty_file(height: int, width: int) -> bytes:
    return encode_mask(np.zeros((height, width), np.bool_))
