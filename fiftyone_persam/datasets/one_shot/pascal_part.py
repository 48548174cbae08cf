"""PASCAL-Part (Chen et al., CVPR 2014) as Matcher tests it: merged parts, four groups."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import DatasetLayoutError
from .records import ClassInfo, Example, Faults, OneShotIndex, Protocol
from .regions import as_box, as_region, read_json

GROUPS = ("animals", "indoor", "person", "vehicles")
PROTOCOL = Protocol(classes="round_robin", objects=True, most=2500)
LEFT_OUT = "aeroplane+TAIL"
"""The published loader leaves this class out."""

_INDEX = "all_obj_part_to_image.json"


def read(root: Path, on_error: str = "raise") -> OneShotIndex:
    """Find the parts of each group; photos are cropped to the object's box.

    Layout (also below ``VOCdevkit/VOC2010``)::

        <root>/all_obj_part_to_image.json
        <root>/Annotations_Part_json_merged_part_classes/<photo>.json
        <root>/JPEGImages/<photo>.jpg

    Raises:
        DatasetLayoutError: not this layout; or, unless ``on_error`` is "skip", an annotation or a
            photo that cannot be used.
    """
    inner = root / "VOCdevkit" / "VOC2010"
    folder = inner if inner.is_dir() else root
    content = read_json(folder / _INDEX)
    index = OneShotIndex("pascal_part", PROTOCOL)
    reader = _Reader(folder, Faults(on_error, index.skipped))
    for fold, group in enumerate(GROUPS):
        index.listed[fold] = 0
        for name, part, lists in _parts(content, group, folder / _INDEX):
            photos = lists["val"]
            index.listed[fold] += len(photos)
            if not (lists["train"] and photos) or f"{name}+{part}" == LEFT_OUT:
                continue
            number = len(index.classes)
            index.classes.append(ClassInfo(f"{name}+{part}", fold, part))
            index.photos[number] = []
            for photo in photos:
                examples = reader.examples(photo, name, part, number)
                if any(example is not None for example in examples):
                    index.add(number, photo, examples)
    if not index.examples:
        raise DatasetLayoutError(f"{folder / _INDEX} names no usable photo: check the folder")
    return index


class _Reader:
    """Reads a photo's annotation once, however many parts are asked for."""

    def __init__(self, folder: Path, faults: Faults) -> None:
        self._folder = folder
        self._faults = faults
        self._objects: dict[str, list[Any]] = {}

    def examples(self, photo: str, name: str, part: str, number: int) -> list[Example | None]:
        """One entry per object of a name in a photo, None where it lacks the part."""
        objects = [one for one in self._of(photo) if one.get("name") == name]
        if not objects and photo in self._objects and self._objects[photo]:
            self._faults.report(f"{photo}.json", f"it has no object {name!r}, which is listed")
        return [self._example(photo, one, part, number) for one in objects]

    def _of(self, photo: str) -> list[Any]:
        if photo not in self._objects:
            self._objects[photo] = self._faults.attempt(str(photo), lambda: self._read(photo)) or []
        return self._objects[photo]

    def _read(self, photo: str) -> list[Any]:
        path = self._folder / "JPEGImages" / f"{photo}.jpg"
        if not path.is_file():
            raise DatasetLayoutError(f"photo {path} is missing")
        annotation = self._folder / "Annotations_Part_json_merged_part_classes" / f"{photo}.json"
        content = read_json(annotation)
        objects = content.get("object") if isinstance(content, dict) else None
        if not isinstance(objects, list) or not all(isinstance(one, dict) for one in objects):
            raise DatasetLayoutError(f"annotation {annotation} has no list 'object'")
        return objects

    def _example(self, photo: str, one: dict[str, Any], part: str, number: int) -> Example | None:
        what = f"{part} of {one.get('name')} in {photo}.json"
        masks = [
            mask
            for found in one.get("parts") or []
            if isinstance(found, dict) and found.get("name") == part
            for mask in found.get("mask") or []
        ]
        if not masks:
            return None

        def build() -> Example:
            size = _size_of(masks[0])
            box = one.get("bndbox")
            corners = list(box.values()) if isinstance(box, dict) else box
            regions = tuple(as_region(mask, size) for mask in masks)
            path = self._folder / "JPEGImages" / f"{photo}.jpg"
            return Example(path, number, regions, size, as_box(corners, size, "xyxy"))

        found: Example | None = self._faults.attempt(what, build)
        return found


def _size_of(mask: Any) -> tuple[int, int]:
    size = mask.get("size") if isinstance(mask, dict) else None
    if (
        not isinstance(size, list)
        or len(size) != 2
        or not all(isinstance(side, int) and side > 0 for side in size)
    ):
        raise DatasetLayoutError("its mask does not state its size")
    return int(size[0]), int(size[1])


def _parts(content: Any, group: str, path: Path) -> list[tuple[str, str, dict[str, list[str]]]]:
    try:
        found = [
            (name, part, {split: [str(p) for p in lists[split]] for split in ("train", "val")})
            for name, entry in content[group]["object"].items()
            for part, lists in entry["part"].items()
        ]
    except (KeyError, TypeError, AttributeError):
        raise DatasetLayoutError(
            f"index {path} does not list the parts of {group!r}: check that this is the official "
            "file"
        ) from None
    return found
