"""Image files whose pixels are whole but whose metadata or last bytes are not.

A browser shows them and Pillow refuses them. What is changed is a copy in memory, and only where
no pixel can be lost: chunks beside the picture are left out, a missing end marker is added.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import BinaryIO

import numpy as np
from PIL import Image

_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURE = (b"IHDR", b"PLTE", b"tRNS")
_KEPT = (*_PICTURE, b"eXIf")
_END = b"\xff\xd9"
_MISSING = 0.02  # share of a JPEG's pixels that may be lost with its last bytes


def mended(file: BinaryIO) -> bytes | None:
    """A copy of an image file that Pillow may read; None if there is nothing to mend."""
    file.seek(0)
    data = file.read()
    if data.startswith(_PNG):
        return _png_without_extras(data)
    if data.startswith(b"\xff\xd8"):
        return _jpeg_with_an_end(data)
    if data[4:8] == b"ftyp":
        return _without_exif_item(data)
    return None


def _png_without_extras(data: bytes) -> bytes | None:
    """Only what the picture is made of; None if that is damaged as well.

    The picture's own checksum, inside its compressed data, is what counts: where it holds, a wrong
    checksum around the data is all that is wrong.
    """
    kept, pixels, place = [_PNG], [], len(_PNG)
    while place + 12 <= len(data):
        (length,) = struct.unpack(">I", data[place : place + 4])
        end = place + 12 + length
        name, body = data[place + 4 : place + 8], data[place + 8 : end - 4]
        sound = end <= len(data) and data[end - 4 : end] == _checksum(name, body)
        if name == b"IDAT" and end <= len(data):
            pixels.append(body)
        elif name in _PICTURE and not sound:
            return None
        elif sound and name in _KEPT:
            kept.append(_chunk(name, body))
        if end > len(data) or name == b"IEND":
            break
        place = end
    if not _is_whole(pixels):
        return None
    return b"".join([*kept, _chunk(b"IDAT", b"".join(pixels)), _chunk(b"IEND", b"")])


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + _checksum(name, body)


def _checksum(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", zlib.crc32(body, zlib.crc32(name)))


def _is_whole(parts: list[bytes]) -> bool:
    """Whether compressed data ends as it should, without keeping what is in it."""
    stream = zlib.decompressobj()
    rest = b"".join(parts)
    try:
        while rest and not stream.eof:
            stream.decompress(rest, 2**20)
            rest = stream.unconsumed_tail
    except zlib.error:
        return False
    return stream.eof


def _jpeg_with_an_end(data: bytes) -> bytes | None:
    """With an end marker; None if more than the last blocks of the picture are missing."""
    body = data.rstrip(b"\xff")
    # Where the data ends, what the decoder makes up depends on what follows.
    noise = np.random.default_rng(0).integers(0, 255, 4 * len(body), np.uint8).tobytes()
    one, other = _decoded(body + _END), _decoded(body + noise + _END)
    if one is None or other is None or one.shape != other.shape:
        return None
    changed = np.abs(one.astype(np.int16) - other) > 8
    return body + _END if changed.mean() <= _MISSING else None


def _decoded(data: bytes) -> np.ndarray | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=["JPEG"]) as image:
                image.draft("L", image.size)
                return np.asarray(image.convert("L"))
    except Exception:  # whatever a decoder raises on a damaged file
        return None


def _without_exif_item(data: bytes) -> bytes | None:
    """An AVIF or HEIC whose EXIF is hidden: its turn is in a box of its own."""
    entry = data.find(b"infe")
    while entry >= 0:
        kind = entry + 12
        if data[kind : kind + 4] == b"Exif":
            return data[:kind] + b"free" + data[kind + 4 :]
        entry = data.find(b"infe", entry + 4)
    return None
