"""The fields a run writes: their names, their declaration, and their values in bulk."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

import fiftyone as fo
import fiftyone.core.odm as foo
import fiftyone.core.storage as fos
import numpy as np
from bson import ObjectId
from pymongo import UpdateOne
from pymongo.errors import ConnectionFailure

from ..engine.job import PhotoResult, StoredMask
from ..engine.rendering import ABSENT, file_name
from ..engine.writing import MASK_VALUE, write_mask
from ..errors import PersamError

SEGMENTATION, DETECTIONS, BOTH = "segmentation", "detections", "both"
LABEL_TYPES = (SEGMENTATION, DETECTIONS, BOTH)
WITHHELD = "_withheld"
PATIENCE = 600.0
"""Seconds to wait for a database that went away."""

T = TypeVar("T")


@dataclass(frozen=True)
class RunFields:
    """Names of a run's fields.

    Attributes:
        run: the run's name and its main field.
        label_type: "segmentation", "detections" or "both".
        similarity: whether there is a heatmap field.
        prompts: whether there is a keypoints field.
    """

    run: str
    label_type: str = SEGMENTATION
    similarity: bool = False
    prompts: bool = False

    @property
    def masks(self) -> str | None:
        """The `fo.Segmentation` field."""
        return None if self.label_type == DETECTIONS else self.run

    @property
    def instances(self) -> str | None:
        """The `fo.Detections` field."""
        if self.label_type == SEGMENTATION:
            return None
        return self.run if self.label_type == DETECTIONS else f"{self.run}_instances"

    def types(self) -> dict[str, tuple[type, type | None]]:
        """Field and label type of every field, the main one last."""
        found: dict[str, tuple[type, type | None]] = {
            f"{self.run}_score": (fo.FloatField, None),
            f"{self.run}_presence": (fo.FloatField, None),
            f"{self.run}_agreement": (fo.FloatField, None),
            f"{self.run}_error": (fo.StringField, None),
        }
        if self.similarity:
            found[f"{self.run}_similarity"] = (fo.EmbeddedDocumentField, fo.Heatmap)
        if self.prompts:
            found[f"{self.run}_prompts"] = (fo.EmbeddedDocumentField, fo.Keypoints)
        for name, kind in ((self.instances, fo.Detections), (self.masks, fo.Segmentation)):
            if name is not None:
                found[f"{name}{WITHHELD}"] = (fo.EmbeddedDocumentField, kind)
                found[name] = (fo.EmbeddedDocumentField, kind)
        # The main field tells that a photo is done, so nothing may come after it.
        found[self.run] = found.pop(self.run)
        return found


DESCRIPTIONS = {
    "score": "Predicted IoU of the mask of run {run!r}, 0 to 1",
    "presence": "How certainly run {run!r} found the object in the photo, 0 to 1",
    "agreement": "IoU between the first and the last mask that run {run!r} found in the photo",
    "error": "Why run {run!r} could not segment the photo",
    "similarity": "How much each place looks like the object of run {run!r}",
    "prompts": "Points that run {run!r} gave to the model",
    "instances": "Masks of run {run!r} as instances, to be edited in the App",
    "withheld": "What run {run!r} found in photos where it counts the object as absent",
}


def photos_of(dataset: Any) -> Any:
    """All photos of a dataset: a grouped one shows only one of its slices by itself."""
    if dataset.media_type != "group":
        return dataset
    return dataset.select_group_slices(media_type="image")


def declare(dataset: Any, fields: RunFields, target: str) -> None:
    """Add a run's fields to the dataset's schema where they are missing."""
    # Those of what is withheld are made when there is something to withhold.
    _declare(dataset, fields, [name for name in fields.types() if not name.endswith(WITHHELD)])
    if fields.masks is not None:
        dataset.mask_targets[fields.masks] = {MASK_VALUE: target}
        dataset.save()


def clear(dataset: Any, fields: RunFields, ids: Sequence[str]) -> None:
    """Empty a run's fields in some photos, the main one first: they count as not done."""
    view = photos_of(dataset).select(list(ids))
    for name in reversed(fields.types()):
        if dataset.has_field(name):
            patiently(lambda name=name: view.clear_sample_field(name))  # type: ignore[misc]


def write(
    dataset: Any, fields: RunFields, results: Sequence[PhotoResult], names: Callable[[str], str]
) -> None:
    """Write results in bulk.

    All fields of a photo are one write, so a process that dies leaves photos that are done or
    photos that are done again, never one that is half done.

    Args:
        dataset: where to.
        fields: what to write.
        results: photos, failed ones too.
        names: tells the object's name by sample id, for instances.
    """
    good = [result for result in results if result.error is None]
    columns: dict[str, dict[str, Any]] = {
        f"{fields.run}_score": {r.id: r.score for r in results},
        f"{fields.run}_presence": {r.id: r.presence for r in results},
        f"{fields.run}_agreement": {r.id: r.agreement for r in results},
        f"{fields.run}_error": {r.id: r.error for r in results},
        f"{fields.run}_similarity": {r.id: _heatmap(r) for r in good},
        f"{fields.run}_prompts": {r.id: _keypoints(r) for r in good},
    }
    if fields.instances is not None:
        found = {r.id: _detections(r, names(r.id)) for r in good}
        absent = {r.id for r in good if r.absent}
        columns[fields.instances] = {
            i: fo.Detections() if i in absent else d for i, d in found.items()
        }
        columns[f"{fields.instances}_withheld"] = {i: d for i, d in found.items() if i in absent}
    if fields.masks is not None:
        columns[fields.masks] = {r.id: _segmentation(r.mask) for r in good}
        columns[f"{fields.masks}_withheld"] = {r.id: _segmentation(r.withheld) for r in good}

    for name in [name for name in columns if name.endswith(WITHHELD)]:
        columns[name] = {i: label for i, label in columns[name].items() if label is not None}

    def put() -> None:
        written = [name for name in fields.types() if columns[name]]
        _declare(dataset, fields, written)
        # `set_values` costs a request per field, and reads every sample in memory again each time.
        changes: dict[str, dict[str, Any]] = {result.id: {} for result in results}
        for name in written:
            field = dataset.get_field(name)
            for i, value in columns[name].items():
                changes[i][name] = None if value is None else field.to_mongo(value)
        now = datetime.now(timezone.utc)
        dataset._bulk_write(
            [
                UpdateOne({"_id": ObjectId(i)}, {"$set": {**values, "last_modified_at": now}})
                for i, values in changes.items()
            ],
            ids=list(changes),
        )

    # All again after a gap: a database that was killed forgets what it acknowledged just before.
    patiently(put)


def withhold(
    dataset: Any, fields: RunFields, masks_dir: Path, ids: Iterable[str], absent: bool
) -> None:
    """Count the object as absent from photos, or as present again; nothing is lost either way.

    Absent photos get an empty mask, and keep what they had in ``<field>_withheld``.
    """
    ids = list(ids)
    for name in (fields.masks, fields.instances):
        if name is None or not ids:
            continue
        _declare(dataset, fields, [f"{name}{WITHHELD}"])
        labels = [name, f"{name}{WITHHELD}"]
        shown, kept = photos_of(dataset).select(ids, ordered=True).values(labels)
        pairs = zip(ids, shown, kept, strict=True)
        changed = [(i, s, k) for i, s, k in pairs if s is not None and (k is None) == absent]
        new = {i: _emptied(i, s, masks_dir) if absent else k for i, s, k in changed}
        old = {i: s if absent else None for i, s, _ in changed}
        if changed:
            dataset.set_values(f"{name}{WITHHELD}", old, key_field="id")
            dataset.set_values(name, new, key_field="id")


def delete(dataset: Any, fields: RunFields) -> None:
    """Remove a run's fields, with their values, from the dataset."""
    present = [name for name in fields.types() if dataset.has_field(name)]
    if present:
        dataset.delete_sample_fields(present)
    if fields.masks in dataset.mask_targets:
        del dataset.mask_targets[fields.masks]
        dataset.save()


def rename(dataset: Any, fields: RunFields, new_name: str) -> RunFields:
    """Rename a run's fields."""
    renamed = RunFields(new_name, fields.label_type, fields.similarity, fields.prompts)
    pairs = zip(fields.types(), renamed.types(), strict=True)
    mapping = {old: new for old, new in pairs if dataset.has_field(old)}
    if mapping:
        dataset.rename_sample_fields(mapping)
    if fields.masks in dataset.mask_targets:
        dataset.mask_targets[renamed.masks] = dataset.mask_targets.pop(fields.masks)
        dataset.save()
    return renamed


def patiently(action: Callable[[], T]) -> T:
    """Do something in the database; where that went away, wait for it to come back.

    Raises:
        PersamError: it stayed away.
    """
    deadline, pause = time.monotonic() + PATIENCE, 0.5
    while True:
        try:
            return action()
        except ConnectionFailure as error:
            if time.monotonic() > deadline:
                raise PersamError(
                    f"FiftyOne's database has been away for {PATIENCE:.0f} s: start it, then "
                    "resume the run"
                ) from error
            time.sleep(pause)
            pause = min(2 * pause, 10.0)


# ----------------------------------------------------------------------------------------------


def _segmentation(stored: StoredMask | None) -> fo.Segmentation | None:
    if stored is None:
        return None
    if stored.path is not None:
        return fo.Segmentation(mask_path=fos.normalize_path(stored.path))
    return fo.Segmentation(mask=stored.array)


def _detections(result: PhotoResult, name: str) -> fo.Detections:
    height, width = result.size
    detections = []
    for found in result.instances:
        x0, y0, x1, y1 = found.box
        if found.mask.path is not None:
            content = {"mask_path": fos.normalize_path(found.mask.path)}
        else:
            content = {"mask": np.asarray(found.mask.array) > 0}
        box = [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]
        detections.append(
            fo.Detection(label=name, bounding_box=box, confidence=found.score, **content)
        )
    return fo.Detections(detections=detections)


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
    for sign, label in ((1, "object"), (0, "background")):
        chosen = relative[result.labels == sign]
        if len(chosen):
            points.append(fo.Keypoint(label=label, points=[tuple(xy) for xy in chosen.tolist()]))
    return fo.Keypoints(keypoints=points)


def _emptied(sample_id: str, label: Any, masks_dir: Path) -> Any:
    if isinstance(label, fo.Detections):
        return fo.Detections()
    empty = np.zeros(np.asarray(label.get_mask()).shape[:2], np.bool_)
    if label.mask_path is None:
        return fo.Segmentation(mask=empty.astype(np.uint8))
    path = masks_dir / file_name(sample_id, ABSENT)
    write_mask(empty, path)
    return fo.Segmentation(mask_path=fos.normalize_path(str(path)))


def _declare(dataset: Any, fields: RunFields, names: Iterable[str]) -> None:
    """Add fields to the schema, all in one: `add_sample_field` saves and loads it for each."""
    missing = {}
    for name in names:
        if dataset.has_field(name):
            continue
        kind, label = fields.types()[name]
        suffix = name.rpartition("_")[2] if name != fields.run else ""
        description = DESCRIPTIONS.get(suffix, "Masks of run {run!r}").format(run=fields.run)
        embedded = {} if label is None else {"embedded_doc_type": label}
        missing[name] = foo.create_field(name, kind, description=description, **embedded)
    if missing:
        dataset._merge_sample_field_schema(missing)
