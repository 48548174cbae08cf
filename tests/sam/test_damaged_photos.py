"""Damaged, odd and hostile files: the photo as a browser shows it, or one line, and no harm."""

from __future__ import annotations

import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image, ImageOps

from fiftyone_persam.errors import PhotoError
from fiftyone_persam.sam import load_photo
from fiftyone_persam.sam.photo_files import use_image

from .photo_files import CAT, damaged, encoded, exif, samples

Array = np.ndarray[Any, Any]
FILES = samples()


@pytest.mark.parametrize("form", FILES)
def test_300_damaged_files_of_each_format(tmp_path: Path, form: str) -> None:
    """A photo or one line that names the file."""
    rng = random.Random(form)
    path = tmp_path / f"photo.{form}"
    read = 0
    for _ in range(300):
        path.write_bytes(damaged(rng.choice(FILES[form]), rng))
        try:
            photo = load_photo(path)
        except PhotoError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            read += 1
            assert photo.dtype == np.uint8 and photo.ndim == 3 and photo.shape[2] == 3
    assert read  # some of it is harmless


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_300_damaged_exif_blocks_of_each_format(tmp_path: Path, form: str) -> None:
    """The picture itself is whole: it is shown, at worst not turned."""
    rng = random.Random(form)
    block = exif().tobytes()
    content = encoded(CAT, form, exif=block, **({"lossless": True} if form == "WEBP" else {}))
    start = content.find(block[6:])
    assert start > 0
    path = tmp_path / "photo"
    path.write_bytes(content)
    upright = load_photo(path)
    turned = [np.rot90(one, k) for one in (upright, upright[:, ::-1]) for k in range(4)]
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 2, 5, 40))):
            place = start + rng.randrange(len(block) - 6)
            changed[place] = rng.choice((0, 255, rng.randrange(256)))
        if form == "PNG":  # its own checksum would give the damage away
            changed = bytearray(with_right_checksums(bytes(changed)))
        path.write_bytes(changed)
        photo = load_photo(path)
        assert any(np.array_equal(photo, one) for one in turned if one.shape == photo.shape)


def with_right_checksums(png: bytes) -> bytes:
    found, place = [png[:8]], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        body = png[place + 4 : place + 8 + length]
        found += [png[place : place + 4], body, struct.pack(">I", zlib.crc32(body))]
        place += 12 + length
    return b"".join(found)


@pytest.mark.parametrize(
    "value", [6.0, (6,), "6", b"6", 0, 9, -1, 65535, (1, 2, 3), float("nan"), "north"]
)
def test_odd_values_of_a_turn(tmp_path: Path, value: object) -> None:
    """Whatever another program wrote there, Pillow's own reader included."""

    class Odd(Image.Image):
        def getexif(self) -> Any:
            return {0x0112: value}

    image = Image.fromarray(CAT)
    image.__class__ = Odd
    photo = load_photo(image)
    turned = value in (6.0, (6,), "6", b"6")
    np.testing.assert_array_equal(photo, np.rot90(CAT, -1) if turned else CAT)


def test_exif_that_pillow_cannot_write_back(tmp_path: Path) -> None:
    """Turning with Pillow's own function wrote all tags anew: a TypeError for texts like these."""
    block = exif(6)
    block[0x9C9B] = (72, 101)
    path = tmp_path / "photo.jpg"
    path.write_bytes(encoded(CAT, "JPEG", exif=block))
    with Image.open(path) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image.copy()).convert("RGB"))

    class Odd(Image.Image):
        def getexif(self) -> Any:
            raise TypeError("The fill character must be a unicode character, not bytes")

    assert load_photo(path).shape[:2] == wanted.shape[:2] == CAT.shape[1::-1]
    image = Image.fromarray(CAT)
    image.__class__ = Odd
    np.testing.assert_array_equal(load_photo(image), CAT)


# A browser shows these ---------------------------------------------------------------------------


def png_chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place < len(png):
        (length,) = struct.unpack(">I", png[place : place + 4])
        found.append((png[place + 4 : place + 8], png[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png_of(chunks: list[tuple[bytes, bytes]], spoil: bytes = b"") -> bytes:
    parts = [b"\x89PNG\r\n\x1a\n"]
    for name, body in chunks:
        check = zlib.crc32(name + body) ^ (name == spoil)
        parts += [struct.pack(">I", len(body)), name, body, struct.pack(">I", check)]
    return b"".join(parts)


PNG = png_chunks(encoded(CAT, "PNG", exif=exif(6)))
JPEG = encoded(CAT, "JPEG", quality=95)
UPRIGHT: Array = np.rot90(CAT, -1)
SHOWN: dict[str, tuple[bytes, Array]] = {
    "PNG, a text's checksum": (png_of([*PNG[:1], (b"tEXt", b"a\0b"), *PNG[1:]], b"tEXt"), UPRIGHT),
    "PNG, EXIF's checksum": (png_of(PNG, b"eXIf"), CAT),
    "PNG, the picture's checksum": (png_of(PNG, b"IDAT"), UPRIGHT),
    "PNG, no end": (png_of(PNG[:-1]), UPRIGHT),
    "PNG, huge text": (
        png_of([*PNG[:1], (b"zTXt", b"a\0\0" + zlib.compress(bytes(2**26))), *PNG[1:]]),
        UPRIGHT,
    ),
    "PNG, junk behind": (png_of(PNG) + b"junk" * 99, UPRIGHT),
    "JPEG, no end": (JPEG[:-2], CAT),
    "JPEG, half an end": (JPEG[:-1], CAT),
    "JPEG, last bytes": (JPEG[:-6], CAT),
    "JPEG, junk behind": (JPEG + b"junk" * 99, CAT),
    "JPEG, EXIF of nothing": (JPEG[:2] + b"\xff\xe1\0\x08Exif\0\0" + JPEG[2:], CAT),
    "JPEG, EXIF cut": (JPEG[:2] + b"\xff\xe1\0\x10Exif\0\0II*\0\xff\xff\xff\xff" + JPEG[2:], CAT),
    "JPEG, several pictures cut": (
        encoded(CAT, "MPO", save_all=True, append_images=[Image.fromarray(CAT[::-1])])[:-999],
        CAT,
    ),
}


def exif_block(*odd: tuple[int, int, int, int]) -> bytes:
    """A turn to the right, and entries (tag, type, count, value) that make no sense."""
    entries = sorted([(0x0112, 3, 1, 6), *odd])
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4)


# From reports of Pillow's users: phones, Windows Explorer and web services wrote such blocks, and
# browsers turn the photos all the same.
ODD_EXIF: dict[str, bytes] = {
    "two numbers for one": exif_block((0x011A, 3, 2, 0x00480048)),
    "a fraction that is not a fraction": exif_block((0x011A, 3, 1, 72)),
    "a fraction over nothing": exif_block((0x011A, 5, 1, 0)),
    "an offset beyond the end": exif_block((0x010F, 2, 400, 0xFFFFFF00)),
    "an unknown type": exif_block((0x0131, 77, 9, 9)),
    "a huge count": exif_block((0x0131, 2, 0xFFFFFFFF, 8)),
    "a text that is a number": exif_block((0x0132, 4, 1, 9)),
    "a block in a block that is none": exif_block((0x8769, 4, 1, 0xFFFF)),
    "a place that is none": exif_block((0x8825, 9, 9, 9)),
    "itself as its own block": exif_block((0x8769, 4, 1, 8)),
}


@pytest.mark.parametrize("name", ODD_EXIF)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_a_turn_among_odd_entries(tmp_path: Path, form: str, name: str) -> None:
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {"quality": 95}
    path = tmp_path / "photo"
    path.write_bytes(encoded(CAT, form, exif=ODD_EXIF[name], **options))
    photo = load_photo(path)
    assert photo.shape == UPRIGHT.shape
    assert np.abs(photo.astype(int) - UPRIGHT).mean() < 4


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0" + exif_block(),  # twice, as a web service wrote it
        b"Exif\0\0\0\x08\0\x02\x01\x12\0\x03",  # without the header of a TIFF
        b"Exif\0\0",
        b"Exif",
        b"",
        exif_block()[:20],
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_blocks_that_are_no_exif(tmp_path: Path, form: str, block: bytes) -> None:
    options: dict[str, Any] = {"lossless": True} if form == "WEBP" else {"quality": 95}
    path = tmp_path / "photo"
    path.write_bytes(encoded(CAT, form, exif=block, **options))
    photo = load_photo(path).astype(int)
    assert photo.shape in (CAT.shape, UPRIGHT.shape)
    wanted = CAT if photo.shape == CAT.shape else UPRIGHT
    assert np.abs(photo - wanted).mean() < 4


@pytest.mark.parametrize("name", SHOWN)
def test_damage_beside_the_picture(tmp_path: Path, name: str) -> None:
    content, wanted = SHOWN[name]
    path = tmp_path / "photo"
    path.write_bytes(content)
    photo = load_photo(path)
    assert photo.shape == wanted.shape
    apart = np.abs(photo.astype(int) - wanted).max(axis=2)
    # The last block of a JPEG without its last bytes may be another.
    assert np.mean(apart > (0 if "PNG" in name else 40)) < 0.06


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_picture_that_is_cut_short_is_refused(tmp_path: Path, form: str, share: float) -> None:
    content = encoded(np.tile(CAT, (4, 4, 1)), form)
    path = tmp_path / "photo"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(PhotoError, match=r"cannot be decoded|not an image"):
        load_photo(path)


# Kinds of files ----------------------------------------------------------------------------------


def test_lab(tmp_path: Path) -> None:
    from skimage.color import rgb2lab

    lab = rgb2lab(CAT)
    lab[:, :, 0] *= 2.55
    stored = np.round(lab).astype(np.int16).astype(np.int8).view(np.uint8)
    stored[:, :, 0] = np.round(lab[:, :, 0])
    path = tmp_path / "photo.tif"
    Image.frombytes("LAB", (CAT.shape[1], CAT.shape[0]), stored.tobytes()).save(path)
    assert np.abs(load_photo(path).astype(int) - CAT).mean() < 6


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        ("photo.avif", b"\0\0\0\x18ftypavif\0\0\0\0mif1avif", "AVIF"),
        ("photo.mp4", b"\0\0\0\x18ftypisom\0\0\0\0isomiso2", "video"),
        ("photo.pdf", b"%PDF-1.4\n", "PDF"),
        ("photo.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        ("photo.psd", b"8BPS\0\x01" + bytes(20), "Photoshop"),
        ("photo.jxl", b"\xff\x0a" + bytes(20), "JPEG XL"),
        ("photo.html", b"<!DOCTYPE html><html>404</html>", "not an image"),
    ],
)
def test_what_is_not_read_says_what_it_is(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(PhotoError, match=says) as caught:
        load_photo(path)
    assert str(path) in str(caught.value) and ": " in str(caught.value)


def test_heic_is_read_where_pillow_can(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(encoded(CAT, "HEIF", quality=90))
    assert np.abs(load_photo(path).astype(int) - CAT).mean() < 12


# Hostile files -----------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("name", ["photo.eps", "photo.jpg"])
def test_postscript_starts_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(a))
    path = tmp_path / name
    path.write_bytes(EPS)
    with pytest.raises(PhotoError, match="PostScript"):
        load_photo(path)
    assert not started


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _linked_pipe(path: Path) -> None:
    os.mkfifo(path.with_name("pipe"))
    path.symlink_to(path.with_name("pipe"))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such files")
@pytest.mark.parametrize("make", [_pipe, _loop, _device, _linked_pipe, Path.mkdir])
def test_what_is_no_regular_file(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "photo.jpg"
    make(path)
    with pytest.raises(PhotoError, match=r"photo\.jpg (is not a file|cannot be read)"):
        load_photo(path)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes as files")
def test_a_pipe_that_takes_a_photo_s_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked is what was opened: nothing can be put between the two."""
    path, pipe = tmp_path / "photo.png", tmp_path / "pipe"
    Image.fromarray(CAT).save(path)
    os.mkfifo(pipe)
    status = os.fstat

    def swap(descriptor: int) -> os.stat_result:
        if pipe.exists():
            os.replace(pipe, path)
        return status(descriptor)

    monkeypatch.setattr(os, "fstat", swap)
    np.testing.assert_array_equal(load_photo(path), CAT)
    with pytest.raises(PhotoError, match=r"photo\.png is "):
        load_photo(path)


def test_the_limit_of_pixels_holds_for_tiffs_that_pillow_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from .photo_files import tiff

    path = tmp_path / "photo.tif"
    path.write_bytes(tiff(np.random.default_rng(0).random((60, 60))))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PhotoError, match="more than 2,000 pixels"):
        load_photo(path)


def test_messages_call_the_file_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(PhotoError, match=r"^mask .*nothing\.png does not exist"):
        use_image(tmp_path / "nothing.png", lambda image, file: None, "mask")
