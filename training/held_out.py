"""Which training photos the discovery head never sees, because it is measured on them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path

from training.pack import PHOTO_FOLDERS

ONE_IN = 8


def is_held_out(stem: str) -> bool:
    """Whether this photo, "folder/stem", is kept out: one in eight, chosen by its name alone."""
    return zlib.crc32(stem.encode()) % ONE_IN == 0


def held_out(source: Path, folders: tuple[str, ...] = PHOTO_FOLDERS) -> Iterator[tuple[Path, Path]]:
    """(photo, mask of ids) of the photos kept out, folder after folder, by name."""
    for folder in folders:
        for photo in sorted((source / folder / "images").glob("*.jpg")):
            mask = source / folder / "masks" / f"{photo.stem}.png"
            if mask.exists() and is_held_out(f"{folder}/{photo.stem}"):
                yield photo, mask
