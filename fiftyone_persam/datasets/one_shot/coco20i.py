"""COCO-20i (Nguyen and Todorovic, ICCV 2019): the 80 classes of COCO 2014 in four folds."""

from __future__ import annotations

from pathlib import Path

from . import coco_files
from .records import ClassInfo, Example, Faults, OneShotIndex, Protocol, Region, drop_scarce

FOLDS = 4
PROTOCOL = Protocol(classes="random", count=1000)


def read(root: Path, on_error: str = "raise") -> OneShotIndex:
    """Find all classes; class i is tested in fold ``i % 4``.

    Layout::

        <root>/annotations/instances_val2014.json
        <root>/val2014/*.jpg

    The published lists of photos per class are pickles, which are not read here because pickles run
    what they hold: a class's photos are those with an annotation of it, by name.

    Raises:
        DatasetLayoutError: not this layout; or, unless ``on_error`` is "skip", an annotation or a
            photo that cannot be used.
    """
    index = OneShotIndex("coco20i", PROTOCOL)
    faults = Faults(on_error, index.skipped)
    file = coco_files.read(coco_files.find(root, ("instances_val2014.json",)))
    photos = coco_files.photos_of(file, root, "val2014", faults)
    categories = sorted(entry["id"] for entry in file.categories)
    names = {entry["id"]: str(entry.get("name")) for entry in file.categories}
    regions: dict[int, dict[int, list[Region]]] = {one: {} for one in categories}
    for entry, photo, region in coco_files.regions_of(file, photos, set(categories), faults):
        regions[entry["category_id"]].setdefault(photo.id, []).append(region)
    for number, category in enumerate(categories):
        index.classes.append(ClassInfo(names[category], number % FOLDS))
        index.photos[number] = []
        for photo in sorted((photos[i] for i in regions[category]), key=lambda photo: photo.key):
            example = Example(
                photo.path, number, tuple(regions[category][photo.id]), size=photo.size
            )
            index.add(number, photo.key, [example])
    drop_scarce(index)
    return index
