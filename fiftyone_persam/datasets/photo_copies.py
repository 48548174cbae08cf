"""Copies of photos for exports: upright, so that readers that ignore EXIF see what FiftyOne shows.

A photo that needs no turning is copied byte for byte. No FiftyOne.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps

from ..errors import PersamError, PhotoError
from ..sam.photo_files import open_image, open_regular
from ..sam.photos import load_photo
from .mask_files import check_photo

ORIENTATION = 0x0112
JPEG_SUFFIXES = (".jpg", ".jpeg")
_JPEG_SIDE = 65_500  # libjpeg's limit
_QUALITY = 95
_SAVED_AS = {"MPO": "JPEG", None: "PNG"}  # phones store a photo and its preview as MPO
_WITH_EXIF = ("JPEG", "PNG", "WEBP")


def copy_upright(source: Path, target: Path) -> tuple[int, int]:
    """Copy a photo; one that EXIF turns is turned and written anew in its own format.

    JPEGs are written with quality 95 and full colour resolution, formats without loss stay so.
    Other metadata is kept.

    Args:
        source: the photo.
        target: the file to write.

    Returns:
        (H, W) of the photo as it is shown, and as it is stored in the copy.

    Raises:
        PhotoError: the photo cannot be read to its end, or its format cannot hold it.
        OSError: the target cannot be written.
    """
    size = _size_of(source)
    if orientation_of(source) == 1:
        copy_file(source, target)
        return size
    with _opened(source) as image:
        kind = _SAVED_AS.get(image.format, image.format)
        upright = ImageOps.exif_transpose(image)
        options = _options(kind, upright)
    target.write_bytes(_encoded(upright, kind, options, source))
    return size


def copy_as_jpeg(source: Path, target: Path) -> tuple[int, int]:
    """Like `copy_upright`, and photos of other formats become JPEGs."""
    if source.suffix.lower() in JPEG_SUFFIXES:
        return copy_upright(source, target)
    pixels = load_photo(source)
    upright = Image.fromarray(pixels)
    target.write_bytes(_encoded(upright, "JPEG", _options("JPEG", upright), source))
    return pixels.shape[0], pixels.shape[1]


def orientation_of(photo: Path) -> int:
    """The photo's EXIF orientation, 1 to 8; 1 is upright, or has no EXIF that can be read."""
    try:
        with _opened(photo) as image:
            found = image.getexif().get(ORIENTATION, 1)
    except PhotoError:  # of a kind that is read by other means
        return 1
    return int(found) if found in range(1, 9) else 1


def copy_file(source: Path, target: Path) -> None:
    """Copy a file's content; errors name the file that is to blame.

    Raises:
        PhotoError: the source cannot be read.
        OSError: the target cannot be written.
    """
    with open_regular(source, "file") as file, target.open("wb") as copy:
        while True:
            with _reading(source):
                chunk = file.read(1 << 20)
            if not chunk:
                break
            copy.write(chunk)


def _size_of(photo: Path) -> tuple[int, int]:
    try:
        return check_photo(photo)[0]
    except PhotoError:  # a kind that Pillow alone does not read
        pixels = load_photo(photo)
        return pixels.shape[0], pixels.shape[1]


@contextmanager
def _reading(source: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise PhotoError(
            f"{source} cannot be read ({reason}): restore it, or leave its photo out"
        ) from None


@contextmanager
def _opened(photo: Path) -> Iterator[Any]:
    try:
        with open_image(photo) as image:
            yield image
    except PersamError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PhotoError(f"cannot read photo {photo}: {reason}") from None


def _options(kind: str, upright: Image.Image) -> dict[str, Any]:
    options: dict[str, Any] = {}
    if kind in _WITH_EXIF:
        exif = upright.getexif()
        exif.pop(ORIENTATION, None)
        options["exif"] = exif.tobytes()
    if profile := upright.info.get("icc_profile"):
        options["icc_profile"] = profile
    if kind == "JPEG":
        options |= {"quality": _QUALITY, "subsampling": 0}
    elif kind == "WEBP":
        options["lossless"] = True
    return options


def _encoded(image: Image.Image, kind: str, options: dict[str, Any], source: Path) -> bytes:
    if kind == "JPEG" and max(image.size) > _JPEG_SIDE:
        raise PhotoError(
            f"{source} is {image.width} x {image.height} pixels, and a JPEG holds {_JPEG_SIDE} "
            "each way: make it smaller, or export it in another format"
        )
    buffer = io.BytesIO()
    try:
        image.save(buffer, format=kind, **options)
    except Exception as error:  # as many kinds as formats
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PhotoError(f"{source} cannot be written as {kind} ({reason}): convert it") from None
    return buffer.getvalue()
