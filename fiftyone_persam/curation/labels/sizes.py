"""The size of a photo as it is shown."""

from __future__ import annotations

from PIL import Image

from ...errors import PhotoError

EXIF_ORIENTATION = 0x0112
TURNED = (5, 6, 7, 8)


def read_shown_size(filepath: str) -> tuple[int, int]:
    """(H, W) of a photo as it is shown, that is turned as its EXIF says, from the file's header.

    FiftyOne's own metadata has the sides of the stored pixels, whatever EXIF says.

    Raises:
        PhotoError: if the file cannot be read
    """
    try:
        with Image.open(filepath) as photo:
            width, height = photo.size
            turned = photo.getexif().get(EXIF_ORIENTATION, 1) in TURNED
    except Exception as error:  # Pillow's decoders raise many kinds
        raise PhotoError(f"{filepath}: cannot be read as a photo ({error})") from error
    return (width, height) if turned else (height, width)
