"""PACO-Part (Liu et al., Matcher, ICLR 2024): parts of PACO-LVIS's objects in four folds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ...errors import DatasetLayoutError
from . import coco_files
from .records import ClassInfo, Example, Faults, OneShotIndex, Protocol, Region, drop_scarce
from .regions import as_box

FOLDS = 4
PROTOCOL = Protocol(classes="random", objects=True, count=2500)


def read(root: Path, on_error: str = "raise") -> OneShotIndex:
    """Find the parts; photos are cropped to the box of the object that the part belongs to.

    Layout::

        <root>/paco_lvis_v1_val.json     or in annotations/
        <root>/train2017, <root>/val2017 also in <root>/coco/

    A part is a category "object:part"; its annotations name their object by ``obj_ann_id``.

    Raises:
        DatasetLayoutError: not this layout; or, unless ``on_error`` is "skip", an annotation or a
            photo that cannot be used.
    """
    index = OneShotIndex("paco_part", PROTOCOL)
    faults = Faults(on_error, index.skipped)
    names = ("paco_lvis_v1_val.json", "paco_lvis_v1_test.json")
    file = coco_files.read(coco_files.find(root, names))
    photos = coco_files.photos_of(file, root, "val2017", faults)
    parts = {e["id"]: str(e["name"]) for e in file.categories if ":" in str(e.get("name"))}
    if not parts:
        raise DatasetLayoutError(f"{file.path} has no category 'object:part': check the file")
    boxes = {e["id"]: e.get("bbox") for e in file.annotations if e.get("category_id") not in parts}
    found: dict[int, dict[int, dict[int, list[Region]]]] = {}
    for entry, photo, region in coco_files.regions_of(file, photos, set(parts), faults):
        owner = entry.get("obj_ann_id")
        if not isinstance(owner, int) or owner not in boxes:
            faults.report(
                f"annotation {entry['id']} of {file.path.name}", f"there is no object {owner!r}"
            )
            continue
        of_photo = found.setdefault(entry["category_id"], {}).setdefault(photo.id, {})
        of_photo.setdefault(owner, []).append(region)
    for number, category in enumerate(sorted(parts)):
        index.classes.append(
            ClassInfo(
                parts[category].replace(":", "+"), number % FOLDS, parts[category].partition(":")[2]
            )
        )
        for photo_id, owners in found.get(category, {}).items():
            examples = _examples(photos[photo_id], owners, boxes, number, faults, file.path.name)
            if examples:
                index.add(number, photos[photo_id].key, examples)
    drop_scarce(index)
    return index


def _examples(
    photo: coco_files.Photo,
    owners: dict[int, list[Region]],
    boxes: dict[int, Any],
    number: int,
    faults: Faults,
    file: str,
) -> list[Example | None]:
    examples: list[Example | None] = []
    for owner, regions in owners.items():
        box = faults.attempt(
            f"annotation {owner} of {file}",
            partial(as_box, boxes[owner], photo.size, "xywh"),
        )
        if box is not None:
            examples.append(Example(photo.path, number, tuple(regions), photo.size, box))
    return examples
