"""LVIS-92i (Liu et al., Matcher, ICLR 2024): 920 classes of LVIS's validation set in 10 folds."""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetLayoutError
from . import coco_files
from .records import ClassInfo, Example, Faults, OneShotIndex, Protocol, Region

FOLDS = 10
PROTOCOL = Protocol(classes="round_robin", count=2300)


def read(root: Path, on_error: str = "raise") -> OneShotIndex:
    """Find the classes that have two photos or more.

    Layout::

        <root>/lvis_v1_val.json          or in annotations/
        <root>/val2017/*.jpg             also in <root>/coco/
        <root>/train2017/*.jpg           LVIS's validation set has photos of both

    The published index is a pickle, which is not read here because pickles run what they hold. Its
    order of classes is taken to be that of the category ids.

    Raises:
        DatasetLayoutError: not this layout; or, unless ``on_error`` is "skip", an annotation or a
            photo that cannot be used.
    """
    index = OneShotIndex("lvis92i", PROTOCOL)
    faults = Faults(on_error, index.skipped)
    file = coco_files.read(coco_files.find(root, ("lvis_v1_val.json",)))
    photos = coco_files.photos_of(file, root, "val2017", faults)
    names = {entry["id"]: str(entry.get("name")) for entry in file.categories}
    regions: dict[int, dict[int, list[Region]]] = {}
    for entry, photo, region in coco_files.regions_of(file, photos, set(names), faults):
        regions.setdefault(entry["category_id"], {}).setdefault(photo.id, []).append(region)
    usable = [one for one in sorted(regions) if len(regions[one]) > 1]
    usable = usable[: len(usable) // FOLDS * FOLDS]
    if not usable:
        raise DatasetLayoutError(
            f"{file.path} has fewer than {FOLDS} classes with two photos: check that this is the "
            "official file"
        )
    for number, category in enumerate(usable):
        index.classes.append(ClassInfo(names[category], number % FOLDS))
        for photo_id in regions[category]:
            photo = photos[photo_id]
            example = Example(
                photo.path, number, tuple(regions[category][photo_id]), size=photo.size
            )
            index.add(number, photo.key, [example])
    return index
