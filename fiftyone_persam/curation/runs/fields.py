"""The fields a run writes: their names, their declaration and renaming."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import fiftyone as fo

from ..database import in_parts, photos_of, with_retries
from ..fiftyone_api import new_field
from . import queries, schema
from .record import RunRecord, read_record
from .suffixes import (
    AGREEMENT,
    ALONE,
    ERROR,
    INSTANCES,
    OBJECTS,
    PRESENCE,
    PROMPTS,
    SCORE,
    SIMILARITY,
    WITHHELD,
)

SEGMENTATION, DETECTIONS, BOTH = "segmentation", "detections", "both"


LABEL_TYPES = (SEGMENTATION, DETECTIONS, BOTH)


@dataclass(frozen=True)
class RunFields:
    """Names of a run's fields.

    Attributes:
        run: the run's name and its main field.
        label_type: "segmentation", "detections" or "both".
        similarity: whether there is a heatmap field.
        prompts: whether there is a keypoints field.
        objects: names of the objects where a photo may have several; see `several`.
        compare_photos: whether there is a field of the presence that each photo has by itself.
    """

    run: str
    label_type: str = SEGMENTATION
    similarity: bool = False
    prompts: bool = False
    objects: tuple[str, ...] = ()
    compare_photos: bool = False

    @property
    def masks(self) -> str | None:
        """The `fo.Segmentation` field."""
        return None if self.label_type == DETECTIONS else self.run

    @property
    def instances(self) -> str | None:
        """The `fo.Detections` field."""
        if self.label_type == SEGMENTATION:
            return None
        return self.run if self.label_type == DETECTIONS else f"{self.run}{INSTANCES}"

    def types(self) -> dict[str, tuple[type, type | None]]:
        """Field and label type of every field, the main one last."""
        found: dict[str, tuple[type, type | None]] = {
            f"{self.run}{SCORE}": (fo.FloatField, None),
            f"{self.run}{PRESENCE}": (fo.FloatField, None),
            f"{self.run}{AGREEMENT}": (fo.FloatField, None),
            f"{self.run}{ERROR}": (fo.StringField, None),
        }
        if self.compare_photos:
            found[f"{self.run}{ALONE}"] = (fo.FloatField, None)
        if self.similarity:
            found[f"{self.run}{SIMILARITY}"] = (fo.EmbeddedDocumentField, fo.Heatmap)
        if self.prompts:
            found[f"{self.run}{PROMPTS}"] = (fo.EmbeddedDocumentField, fo.Keypoints)
        if self.objects:
            for listed in (f"{self.run}{OBJECTS}{WITHHELD}", f"{self.run}{OBJECTS}"):
                found[listed] = (fo.EmbeddedDocumentField, fo.Classifications)
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
    "alone": "How certainly run {run!r} found the object in the photo by itself, 0 to 1",
    "agreement": "IoU between the first and the last mask that run {run!r} found in the photo",
    "error": "Why run {run!r} could not segment the photo",
    "similarity": "How much each place looks like the object of run {run!r}",
    "prompts": "Points that run {run!r} gave to the model",
    "instances": "Masks of run {run!r} as instances, to be edited in the App",
    "objects": "Objects that run {run!r} found in the photo, and how certainly, 0 to 1",
    "withheld": "What run {run!r} found in photos where it counts the object as absent",
}


def declare(dataset: Any, fields: RunFields, targets: Mapping[int, str]) -> None:
    """Add a run's fields to the dataset's schema where they are missing.

    Args:
        dataset: the run's.
        fields: the run's.
        targets: what each value of its masks means.
    """
    # Those of what is withheld are made when there is something to withhold.
    names = [name for name in fields.types() if not name.endswith(WITHHELD)]
    labels = [name for name in (fields.masks, fields.instances) if name is not None]
    with schema.schema_lease(dataset):
        add_missing(dataset, fields, names)
        if fields.masks is not None:
            schema.name_values(dataset, fields.masks, targets)
        names = [*labels, *(f"{name}{WITHHELD}" for name in labels)]
        schema.colour_fields(dataset, names, targets)
        schema.show_fields(dataset, [*labels, *([f"{fields.run}{OBJECTS}"] * bool(fields.objects))])


def paths_of(dataset: Any, fields: RunFields) -> set[str]:
    """The mask files that a run's fields name, as they are stored."""
    photos = photos_of(dataset)
    found: set[str] = set()
    for name, (_, label) in fields.types().items():
        inner = {fo.Segmentation: "mask_path", fo.Detections: "detections.mask_path"}
        if label in inner and dataset.has_field(name):
            path = f"{name}.{inner[label]}"
            values = with_retries(photos.values, path, unwind=True)
            found.update(value for value in values if value)
    return found


def masks_of(dataset: Any, fields: RunFields, ids: Sequence[str]) -> set[str]:
    """The files of some photos' whole masks, as they are shown."""
    found: set[str] = set()
    if fields.masks is not None:
        photos, path = photos_of(dataset), f"{fields.masks}.mask_path"
        for part in in_parts(ids):
            rows = queries.rows(photos, [path], queries.some(part))
            found.update(value for (value,) in rows.values() if value)
    return found


def rename(dataset: Any, fields: RunFields, new_name: str) -> RunFields:
    """Rename a run's fields."""
    renamed = replace(fields, run=new_name)
    schema.rename_fields(dataset, dict(zip(fields.types(), renamed.types(), strict=True)))
    return renamed


def add_missing(dataset: Any, fields: RunFields, names: Iterable[str]) -> None:
    """Add fields to the schema, all in one: `add_sample_field` saves and loads it for each."""
    missing = {}
    for name in names:
        if dataset.has_field(name):
            continue
        kind, label = fields.types()[name]
        suffix = name.rpartition("_")[2] if name != fields.run else ""
        description = DESCRIPTIONS.get(suffix, "Masks of run {run!r}").format(run=fields.run)
        embedded = {} if label is None else {"embedded_doc_type": label}
        missing[name] = new_field(name, kind, description=description, **embedded)
    schema.add_fields(dataset, missing)
    schema.hide_fields(dataset, [name for name in missing if name.endswith(WITHHELD)])


def fields_of(name: str, record: RunRecord) -> RunFields:
    """The fields that a run writes."""
    asked = record.parameters
    objects = tuple(asked.objects)
    beside = (asked.similarity, asked.prompts, objects, asked.compare_photos)
    return RunFields(name, asked.label_type, *beside)


def read_fields(dataset: Any, run: str) -> RunFields:
    """The fields that a run writes which is there."""
    return fields_of(run, read_record(dataset, run))
