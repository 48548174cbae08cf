"""Photos as files of every kind, and ways to damage them; shared by the tests of readers."""

from __future__ import annotations

import io
import random
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from skimage import data

Array = np.ndarray[Any, Any]
CAT: Array = np.ascontiguousarray(data.chelsea()[20:80, 40:130, :3])  # (60, 90, 3)
GREY: Array = CAT[:, :, 1].copy()


def exif(orientation: int = 6) -> Image.Exif:
    """As a camera writes it: a turn, texts, fractions, a block of its own."""
    block = Image.Exif()
    block[0x0112] = orientation
    block[0x010F], block[0x0132] = "Maker", "2020:01:01 00:00:00"
    camera = block.get_ifd(0x8769)
    camera[0x9003], camera[0x829A], camera[0x927C] = "2020:01:01 00:00:00", (1, 100), b"note" * 9
    block.get_ifd(0x8825)[2] = (1.0, 2.0, 3.0)
    return block


def encoded(image: Image.Image | Array, form: str, **options: Any) -> bytes:
    """A photo as the bytes of a file."""
    file = io.BytesIO()
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    image.save(file, form, **options)
    return file.getvalue()


def tiff(values: Array, **options: Any) -> bytes:
    """Values of any type as the bytes of a TIFF."""
    file = io.BytesIO()
    options.setdefault("photometric", "rgb" if 3 in values.shape else "minisblack")
    tifffile.imwrite(file, values, **options)
    return file.getvalue()


def samples() -> dict[str, list[bytes]]:
    """Sound files, by format."""
    photo = Image.fromarray(CAT)
    deep = CAT.astype(np.uint16) * 16
    found = {
        "jpg": [
            encoded(photo, "JPEG", exif=exif()),
            encoded(photo, "JPEG", progressive=True),
            encoded(photo.convert("CMYK"), "JPEG"),
        ],
        "png": [
            encoded(photo, "PNG", exif=exif()),
            encoded(photo.convert("P"), "PNG"),
            encoded(photo.convert("RGBA"), "PNG"),
        ],
        "webp": [
            encoded(photo, "WEBP", exif=exif().tobytes()),
            encoded(photo, "WEBP", save_all=True, append_images=[photo.rotate(90)]),
        ],
        "gif": [encoded(photo, "GIF", save_all=True, append_images=[photo.rotate(9)])],
        "tif": [
            encoded(photo, "TIFF", exif=exif()),
            encoded(photo, "TIFF", compression="tiff_lzw"),
            tiff(deep),
            tiff(deep.transpose(2, 0, 1), planarconfig="separate"),
            tiff(GREY / 3),
            tiff(deep[:, :, 0], tile=(16, 16), compression="zlib", byteorder=">"),
        ],
        "bmp": [encoded(photo, "BMP"), encoded(photo.convert("P"), "BMP")],
        "jp2": [encoded(photo, "JPEG2000")],
        "ppm": [encoded(photo, "PPM")],
        "tga": [encoded(photo, "TGA")],
        "ico": [encoded(photo, "ICO")],
    }
    if "AVIF" in Image.SAVE:
        found["avif"] = [encoded(photo, "AVIF", exif=exif())]
    return found


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file after an accident: bytes changed, lost, added, moved, or the end cut off."""
    found, kind, size = bytearray(content), rng.randrange(6), len(content)
    place = rng.randrange(size)
    if kind == 0:
        for _ in range(rng.randint(1, 4)):
            found[rng.randrange(size)] = rng.randrange(256)
    elif kind == 1:  # headers are where readers trip
        for _ in range(rng.randint(1, 6)):
            found[rng.randrange(min(size, 600))] = rng.choice((0, 255, 127, rng.randrange(256)))
    elif kind == 2:
        del found[place:]
    elif kind == 3:
        del found[place : place + rng.randint(1, 40)]
    elif kind == 4:
        found[place:place] = rng.randbytes(rng.randint(1, 40))
    else:
        other = rng.randrange(size)
        found[place : place + 32] = found[other : other + 32]
    return bytes(found)
