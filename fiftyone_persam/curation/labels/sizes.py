"""The size of a photo as it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

from PIL import Image

from ...sam.deep_files import tiff_size
from ...sam.photo_files import shown_size, use_image


def read_shown_size(filepath: str) -> tuple[int, int]:
    """(H, W) of a photo as it is shown, that is turned as its EXIF says, from the file's header.

    FiftyOne's own metadata has the sides of the stored pixels, whatever EXIF says.

    Raises:
        PhotoError: if the file cannot be read
    """

    def size(image: Image.Image | None, file: BinaryIO) -> tuple[int, int]:
        return tiff_size(file) if image is None else shown_size(image)

    return use_image(Path(filepath), size)
