"""FSS-1000 (Li et al., CVPR 2020): 1000 classes of 10 photos; 240 of them are the test."""

from __future__ import annotations

from pathlib import Path

from ...errors import DatasetLayoutError
from .records import ClassInfo, Example, Faults, OneShotIndex, Protocol, require_file

PROTOCOL = Protocol(classes="query")
PHOTOS_PER_CLASS = 10
FOREGROUND = 128
"""Grey value of a mask from which a pixel is the object, as published."""

_PHOTOS = ("data", "fewshot_data", "fewshot_data/fewshot_data", ".")
_LISTS = ("splits/test.txt", "fss_test_set.txt", "test.txt")


def read(root: Path, on_error: str = "raise") -> OneShotIndex:
    """Find the test classes.

    Layout::

        <root>/splits/test.txt           a class name per line
        <root>/data/<class>/1.jpg ... 10.jpg, 1.png ... 10.png

    The photos may lie in ``fewshot_data/`` as in the official archive, or in the root itself.

    Raises:
        DatasetLayoutError: not this layout; or, unless ``on_error`` is "skip", a photo or a mask
            that is missing.
    """
    index = OneShotIndex("fss1000", PROTOCOL)
    faults = Faults(on_error, index.skipped)
    listing = next((root / name for name in _LISTS if (root / name).is_file()), root / _LISTS[0])
    require_file(listing, "list of test classes")
    names = sorted(listing.read_text(encoding="utf-8").split())
    if not names:
        raise DatasetLayoutError(f"list of test classes {listing} is empty: put the names there")
    folder = next((root / n for n in _PHOTOS if (root / n / names[0]).is_dir()), root / _PHOTOS[0])
    for name in names:
        number = len(index.classes)
        index.classes.append(ClassInfo(name, 0))
        index.photos[number] = []
        for one in range(1, PHOTOS_PER_CLASS + 1):
            photo, mask = folder / name / f"{one}.jpg", folder / name / f"{one}.png"
            missing = next((path for path in (photo, mask) if not path.is_file()), None)
            if missing is not None:
                faults.report(str(missing), "the file is missing")
                continue
            index.add(number, str(one), [Example(photo, number, (mask,), threshold=FOREGROUND)])
        # Queries come in the order of file names: 1, 10, 2, ...; supports are drawn by number.
        index.queries[number] = sorted(index.photos[number], key=lambda key: f"{key}.jpg")
    return index
