"""Files of more than 8 bits a channel, read as they are; Pillow keeps 8 bits of most of them."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

from ..errors import PhotoError
from .photo_files import SWAPS_SIDES, check_pixels, orientation_of, turn_array

Array = npt.NDArray[Any]

_DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_BITS, _SAMPLES, _FORMAT, _EXTRA, _NODATA = 258, 277, 339, 338, 42113
_LZW = 5


@dataclass(frozen=True, eq=False)
class DeepImage:
    """What a deep file holds, upright.

    Attributes:
        values: (H, W) grey or (H, W, 3) RGB of any real type; NaN where the file has no data.
        alpha: (H, W) 0 to 1; None if opaque.
        inverted: whether small values are bright.
    """

    values: Array
    alpha: npt.NDArray[np.float32] | None = None
    inverted: bool = False


def read_deep(image: Image.Image, file: BinaryIO | None) -> DeepImage | None:
    """The values of an opened image that Pillow would cut to 8 bits; None if it has no more.

    Args:
        image: opened, not loaded.
        file: the file under it; None for an image without one.

    Raises:
        PhotoError: it has other channels than grey or RGB, or a compression that is not read.
    """
    if image.format == "TIFF" and file is not None:
        tags = getattr(image, "tag_v2", {})
        bits, kinds = _numbers(tags.get(_BITS, 1)), _numbers(tags.get(_FORMAT, 1))
        deep = max(bits) > 8 or any(kind != 1 for kind in kinds)
        if deep and tags.get(262) in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            return read_tiff(file)
        return None
    if image.mode in _DEEP_MODES:
        turn = orientation_of(image)
        return DeepImage(turn_array(np.asarray(image), turn))
    if file is not None and _keeps_16_bits(image, file):
        turn = orientation_of(image)
        image.load()  # Pillow finds the damage that OpenCV passes over
        return _read_with_opencv(file, turn)
    return None


def tiff_size(file: BinaryIO) -> tuple[int, int]:
    """(H, W) of the first image of a TIFF as it is shown, from its header."""
    with _open_tiff(file) as tiff:
        page = tiff.pages.first
        size = (page.imagelength, page.imagewidth)
        return size[::-1] if page.tags.valueof(274, default=1) in SWAPS_SIDES else size


def read_tiff(file: BinaryIO) -> DeepImage:
    """The first image of a TIFF of any depth, layout and byte order.

    Raises:
        PhotoError: it has other channels than grey or RGB, or a compression that is not read.
    """
    with _open_tiff(file) as tiff:
        page = tiff.pages.first
        check_pixels(page.imagelength, page.imagewidth)
        if page.dtype is None or page.dtype.kind not in "biuf":
            raise PhotoError("holds no real numbers: save it as grey or RGB")
        photometric = int(page.photometric)
        if photometric not in (_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB):
            raise PhotoError("is a TIFF of colours that are not read here: save it as RGB")
        if page.imagedepth > 1:
            raise PhotoError("is a volume: take one of its slices")
        values = _decode_tiff(page, file)
        turn = page.tags.valueof(274, default=1)
        nodata = page.tags.valueof(_NODATA)
        extra = _numbers(page.tags.valueof(_EXTRA, default=()))
    colours, alpha = _channels(values, photometric == _RGB, extra)
    if alpha is not None:
        alpha = turn_array(alpha, turn)
    colours = _without_nodata(turn_array(colours, turn), nodata)
    return DeepImage(colours, alpha, photometric == _WHITE_IS_ZERO)


# ----------------------------------------------------------------------------------------------


def _open_tiff(file: BinaryIO) -> Any:
    import tifffile

    # What it finds odd in a file is said in one line by us, or does not matter.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())
    file.seek(0)
    return tifffile.TiffFile(file, name="photo.tif")


def _numbers(value: Any) -> tuple[int, ...]:
    many = value if isinstance(value, (tuple, list)) else (value,)
    return tuple(int(one) for one in many) or (0,)


def _keeps_16_bits(image: Image.Image, file: BinaryIO) -> bool:
    """Whether a PNG, PPM or JPEG 2000 has colours of more than 8 bits."""
    tiles = getattr(image, "tile", None)
    layer = tiles[0][3] if tiles else ()  # codec, extents, offset, arguments
    if image.format == "PNG":
        return isinstance(layer, str) and ";16" in layer
    if image.format == "PPM":
        return isinstance(layer, tuple) and len(layer) > 1 and layer[1] > 255
    return image.format == "JPEG2000" and image.mode in ("RGB", "RGBA") and _deep_codestream(file)


def _deep_codestream(file: BinaryIO) -> bool:
    """Whether the first channel of a JPEG 2000 has more than 8 bits, by its SIZ marker."""
    file.seek(0)
    head = file.read(4096)
    file.seek(0)
    place = head.find(b"\xff\x4f\xff\x51") + 42
    return place >= 42 and place < len(head) and (head[place] & 0x7F) + 1 > 8


def _read_with_opencv(file: BinaryIO, turn: int) -> DeepImage | None:
    import cv2

    file.seek(0)
    values = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype == np.uint8:
        return None  # Pillow has read it: 8 bits are better than none
    values = turn_array(values, turn)
    if values.ndim == 2:
        return DeepImage(values)
    alpha = None
    if values.shape[2] == 4:
        alpha = values[:, :, 3].astype(np.float32) / np.float32(np.iinfo(values.dtype).max)
    return DeepImage(values[:, :, 2::-1], alpha)


def _decode_tiff(page: Any, file: BinaryIO) -> Array:
    """(H, W, S), whatever the order of the planes."""
    values: Array | None
    try:
        values = page.asarray()
    except Exception as error:  # of several types
        if "imagecodecs" not in str(error):
            raise
        values = _decode_packed(page, file) if _is_packed(page) else _decode_compressed(page, file)
    if values is None:
        raise PhotoError(
            f"is a TIFF compressed with {page.compression.name}, which is not read here at this "
            "depth: save it without compression"
        )
    if values.ndim == 3 and page.axes.startswith("S"):
        values = np.moveaxis(values, 0, -1)
    return values[:, :, None] if values.ndim == 2 else values


def _is_packed(page: Any) -> bool:
    """Whether values of 10, 12 or 14 bits follow each other without gaps, as cameras write them."""
    plain = int(page.compression) == 1 and int(page.planarconfig) == 1 and not page.is_tiled
    return plain and 8 < page.bitspersample < 16 and int(page.sampleformat) == 1


def _decode_packed(page: Any, file: BinaryIO) -> Array:
    parts = []
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        file.seek(offset)
        parts.append(np.frombuffer(file.read(count), np.uint8))
    width, bits = page.imagewidth * page.samplesperpixel, page.bitspersample
    # Each row begins with a byte of its own.
    rows = np.concatenate(parts).reshape(page.imagelength, -1)
    weights = (1 << np.arange(bits - 1, -1, -1)).astype(np.uint16)
    values = np.empty((page.imagelength, width), np.uint16)
    for start in range(0, len(rows), 64):  # a byte for each bit: some rows at a time
        single = np.unpackbits(rows[start : start + 64], axis=1, count=width * bits)
        values[start : start + 64] = single.reshape(-1, width, bits) @ weights
    return values.reshape(page.imagelength, page.imagewidth, -1)


def _decode_compressed(page: Any, file: BinaryIO) -> Array | None:
    """What tifffile has no codec for, by a reader that uses libtiff."""
    if page.samplesperpixel == 1:
        file.seek(0)
        with Image.open(file, formats=["TIFF"]) as image:
            image.load()
            turned = np.asarray(image)
        # Pillow has turned it; our caller does so again.
        return _turned_back(turned, page.tags.valueof(274, default=1))
    return _decode_colours(page, file)


def _decode_colours(page: Any, file: BinaryIO) -> Array | None:
    import cv2

    if int(page.compression) != _LZW or int(page.planarconfig) != 1 or page.samplesperpixel > 4:
        return None
    file.seek(0)
    data = np.frombuffer(file.read(), np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
    if values is None or values.dtype != page.dtype or values.ndim != 3:
        return None
    order = (2, 1, 0, 3)[: values.shape[2]]
    return values[:, :, order]


def _turned_back(array: Array, turn: int) -> Array:
    # Quarter turns undo each other; all other turns undo themselves.
    return turn_array(array, {6: 8, 8: 6}.get(turn, turn))


def _channels(
    values: Array, rgb: bool, extra: tuple[int, ...]
) -> tuple[Array, npt.NDArray[np.float32] | None]:
    count = values.shape[2]
    if rgb and count >= 3:
        colours, rest = values[:, :, :3], count - 3
    elif count == 3:  # three channels that nobody called red, green and blue
        colours, rest = values, 0
    elif count <= 2:
        colours, rest = values[:, :, 0], count - 1
    else:
        raise PhotoError(f"has {count} channels: save three of them as RGB")
    if rest == 0 or not extra or extra[0] not in (1, 2):
        return colours, None
    alpha = values[:, :, count - rest]
    top = 1.0 if alpha.dtype.kind == "f" else float(np.iinfo(alpha.dtype).max)
    return colours, np.clip(alpha.astype(np.float32) / top, 0, 1)


def _without_nodata(values: Array, nodata: Any) -> Array:
    """GDAL's mark of missing pixels -> NaN."""
    try:
        mark = float(str(nodata).strip("\0 "))
    except ValueError:
        return values
    missing = values == mark
    if not missing.any():
        return values
    return np.where(missing, np.nan, values.astype(np.float64))
