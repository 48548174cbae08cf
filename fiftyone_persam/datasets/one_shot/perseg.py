"""PerSeg (Zhang et al., ICLR 2024): each object's photo 00 is the reference for its others."""

from __future__ import annotations

from pathlib import Path

from ..layout import scan_album
from .records import ClassInfo, Example, Faults, OneShotIndex, Protocol

PROTOCOL = Protocol(classes="first")


def read(root: Path, on_error: str = "raise") -> OneShotIndex:
    """Find all objects of an album in PerSeg's layout; see `PerSegDataset`.

    Raises:
        DatasetLayoutError: not this layout, or a mask that is missing.
    """
    index = OneShotIndex("perseg", PROTOCOL)
    faults = Faults(on_error, index.skipped)
    numbers: dict[str, int] = {}
    for entry in scan_album(root):
        if entry.object not in numbers:
            numbers[entry.object] = len(index.classes)
            index.classes.append(ClassInfo(entry.object, 0))
        number = numbers[entry.object]
        if entry.mask is None:
            faults.report(str(entry.photo), "its mask is missing")
            continue
        example = Example(entry.photo, number, (entry.mask,))
        index.add(number, entry.photo.name, [example])
        if entry.role == "reference":  # it comes first, whatever its name
            photos = index.photos[number]
            photos.insert(0, photos.pop())
    return index
