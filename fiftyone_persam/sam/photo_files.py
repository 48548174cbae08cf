"""Opening image files that may come from strangers: regular files of known formats only."""

from __future__ import annotations

import io
import os
import stat
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError, features

from ..errors import PersamError, PhotoError
from .mending import mended

Array = npt.NDArray[Any]
Result = TypeVar("Result")

FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "HEIF", "ICO", "JPEG", "JPEG2000", "MPO", "PCX", "PNG", "PPM"),
    *("QOI", "SGI", "TGA", "TIFF", "WEBP"),
)
"""Formats that are read, as Pillow names them. None of them starts a program or opens a file."""

ORIENTATION = 0x0112
SWAPS_SIDES = (5, 6, 7, 8)
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_REDUCED, _DNG_VERSION = 0x00FE, 0xC612
_FINAL = (PersamError, Image.DecompressionBombError)
_CONVERT = "convert it to JPEG or PNG"


@contextmanager
def open_regular(path: Path, what: str = "photo") -> Iterator[BinaryIO]:
    """A regular file, open for reading; what it is, is asked of the open file, not of its name.

    Raises:
        PhotoError: there is none, it may not be read, or it is a folder, a pipe or a device.
    """
    # Without O_NONBLOCK, opening a pipe waits for somebody to write into it.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags)
    except FileNotFoundError:
        raise PhotoError(f"{what} {short(path)} does not exist: check its path") from None
    except (OSError, ValueError) as error:  # the latter for a NUL in the path
        if path_is_folder(path):  # Windows opens none
            raise PhotoError(f"{what} {short(path)} is not a file: replace or remove it") from None
        reason = getattr(error, "strerror", None) or one_line(error)
        raise PhotoError(f"{what} {short(path)} cannot be read ({reason}): replace it") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise PhotoError(f"{what} {short(path)} is not a file: replace or remove it")
    with os.fdopen(descriptor, "rb") as file:
        yield file


@contextmanager
def open_image(path: Path, what: str = "photo") -> Iterator[Image.Image]:
    """An image of one of `FORMATS`, its header read, for callers that report errors themselves.

    Raises:
        PhotoError: see `open_regular`.
        OSError: Pillow does not read it.
    """
    with open_regular(path, what) as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = _open(file)
        if image is None:
            raise UnidentifiedImageError("Pillow has no mode for these pixels")
        yield image


def use_image(
    path: Path, use: Callable[[Image.Image | None, BinaryIO], Result], what: str = "photo"
) -> Result:
    """What a function makes of an image of one of `FORMATS`.

    Whatever a decoder raises meanwhile becomes one line. A file whose metadata is damaged, but
    whose picture is not, is mended in memory and used once more.

    Args:
        path: the file.
        use: takes the image, its header read, and the file under it. Instead of the image comes
            None for a TIFF that Pillow has no mode for, such as 64-bit floats.
        what: how messages call it.

    Raises:
        PhotoError: see `open_regular`; it is another format, damaged, or has too many pixels.
    """
    with open_regular(path, what) as file:
        try:
            return _used(file, use)
        except Exception as error:  # decoders raise anything on a damaged file
            if not isinstance(error, (*_FINAL, MemoryError)):
                copy = mended(file)
                with suppress(Exception):
                    if copy is not None:
                        return _used(io.BytesIO(copy), use)
            raise PhotoError(f"{what} {short(path)} {_reason(error, file)}") from None


def orientation_of(image: Image.Image) -> int:
    """How an image is to be turned to be upright, 1 to 8; 1 where its EXIF is damaged."""
    try:
        value = image.getexif().get(ORIENTATION, 1)
        value = value[0] if isinstance(value, (tuple, list)) else value
        turn = int(value)
    except Exception:  # whatever a damaged block makes Pillow raise
        return 1
    return turn if turn in _TURNS else 1


def shown_size(image: Image.Image) -> tuple[int, int]:
    """(H, W) of an opened image as it is shown, from its header."""
    width, height = image.size
    # Pillow has turned a TIFF's size already.
    turned = image.format != "TIFF" and orientation_of(image) in SWAPS_SIDES
    return (width, height) if turned else (height, width)


def upright(image: Image.Image) -> Image.Image:
    """An image turned as its EXIF says; Pillow's own function fails where other tags are broken."""
    image.load()  # a TIFF is turned by this, and says so only then
    turn = _TURNS.get(orientation_of(image))
    return image if turn is None else image.transpose(turn)


def turn_array(array: Array, orientation: int) -> Array:
    """The same for an array (H, W, ...)."""
    if orientation in SWAPS_SIDES:
        array = np.swapaxes(array, 0, 1)
    flip_rows = orientation in (3, 4, 7, 8)
    flip_columns = orientation in (2, 3, 6, 7)
    return array[:: -1 if flip_rows else 1, :: -1 if flip_columns else 1]


def check_pixels(height: int, width: int) -> None:
    """Raise as Pillow does if an image has more pixels than it trusts."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and height * width > 2 * limit:
        raise Image.DecompressionBombError


def short(path: object) -> str:
    """A path for a message."""
    text = str(path)
    return text if len(text) <= 200 else f"...{text[-197:]}"


def one_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def path_is_folder(path: Path) -> bool:
    """Whether there is a folder of this path."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


# ----------------------------------------------------------------------------------------------


def _used(file: BinaryIO, use: Callable[[Image.Image | None, BinaryIO], Result]) -> Result:
    with warnings.catch_warnings():
        # A user's own 100 megapixel panorama is not an attack; PIL still refuses twice that size.
        # What it says of damaged metadata helps nobody.
        warnings.simplefilter("ignore")
        return use(_open(file), file)  # closing the image would close the file under it


def _reason(error: Exception, file: BinaryIO) -> str:
    """Why a file cannot be used, and what to do."""
    if isinstance(error, PersamError):
        return str(error)
    if isinstance(error, Image.DecompressionBombError):
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return (
            f"has more than {limit:,} pixels: make it smaller, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS if you trust it"
        )
    if isinstance(error, UnidentifiedImageError):
        return _unknown(file)
    if isinstance(error, MemoryError):
        return "needs more memory than there is: make it smaller"
    return f"cannot be decoded ({one_line(error)}): replace it"


def _open(file: BinaryIO) -> Image.Image | None:
    head = file.read(32)
    file.seek(0)
    if head[4:8] == b"ftyp" and b"avif" not in head and "HEIF" not in Image.OPEN:
        with suppress(ImportError):
            from pillow_heif import register_heif_opener

            register_heif_opener()
    Image.init()
    try:
        image = Image.open(file, formats=[one for one in FORMATS if one in Image.OPEN])
    except UnidentifiedImageError:
        if head[:4] in _TIFF_STARTS:
            return None
        raise
    # A camera's raw file is a TIFF whose first image is a small preview of another size.
    tags = getattr(image, "tag_v2", {})
    if _DNG_VERSION in tags or tags.get(_REDUCED, 0) == 1:
        raise PhotoError(f"is a camera's raw file, or a preview of one: {_CONVERT}")
    return image


def _unknown(file: BinaryIO) -> str:
    """Why a file is not read, by its first bytes."""
    file.seek(0)
    head = file.read(64)
    if not head:
        return "is empty: replace or remove it"
    if head[4:8] == b"ftyp":
        brand = head[8:32]
        if b"avif" in brand or b"avis" in brand:
            if features.check("avif"):
                return "is a damaged AVIF file: replace it"
            return f"is an AVIF file, which this Pillow does not read: {_CONVERT}, or update Pillow"
        if any(one in brand for one in (b"hei", b"hev", b"mif1", b"msf1")):
            if "HEIF" in Image.OPEN:
                return "is a damaged HEIC file: replace it"
            return (
                f"is a HEIC file, which Pillow does not read: {_CONVERT}, or "
                "pip install pillow-heif"
            )
        return "is a video: take a photo, or one of its frames"
    for start, name in _NOT_READ:
        if head.lstrip().startswith(start):
            return f"is not an image that is read here but {name}: {_CONVERT}"
    return "is not an image that PIL can read: replace or remove it"


_NOT_READ = (
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "a PDF"),
    (b"<svg", "an SVG drawing"),
    (b"<?xml", "an XML file"),
    (b"8BPS", "a Photoshop file"),
    (b"FUJIFILMCCD-RAW", "a camera's raw file"),
    (b"\xff\x0a", "a JPEG XL"),
    (b"\x00\x00\x00\x0cJXL", "a JPEG XL"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"SIMPLE  =", "FITS"),
)
