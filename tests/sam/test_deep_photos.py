"""Photos of more than 8 bits look as the same photo does in 8 bits, one window for a whole run."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from benchmarks.album import read_album
from benchmarks.deep_photos import measure
from fiftyone_persam.engine.cache import embedding_key
from fiftyone_persam.errors import PhotoError
from fiftyone_persam.personalize import PerSAM, Reference
from fiftyone_persam.sam import Contrast, load_photo, load_sam, read_photo
from fiftyone_persam.sam.contrast import contrast_of

from ..curation.discs import tiny_sam
from .photo_files import CAT, encoded, exif, tiff

Array = np.ndarray[Any, Any]
# Stretched to all of 0 to 255, so that what follows has a known answer.
WIDE = np.clip((CAT.astype(float) - 40) * 1.5, 0, 255).round().astype(np.uint8)
WIDE[-1, :40], WIDE[-1, 40:80] = 0, 255
WIDE_GREY = np.ascontiguousarray(WIDE[:, :, 1])


def bits(values: Array, count: int) -> Array:
    return np.round(values * ((2**count - 1) / 255)).astype(np.uint16)


def spoilt(values: Array, *changes: tuple[int, float]) -> Array:
    values = values.copy()
    for place, value in changes:
        values.reshape(-1)[place] = value
    return values


KINDS: dict[str, Array] = {
    "8 bits in 16": WIDE.astype(np.uint16),
    "10 bits": bits(WIDE, 10),
    "12 bits": bits(WIDE, 12),
    "14 bits": bits(WIDE, 14),
    "16 bits": bits(WIDE, 16),
    "12 bits, a hot pixel": spoilt(bits(WIDE, 12), (500, 65535)),
    "int16 around 0": (WIDE.astype(np.int32) * 257 - 32768).astype(np.int16),
    "int16 from 0": bits(WIDE, 12).astype(np.int16),
    "int32": WIDE.astype(np.int32) * 1000 - 90000,
    "uint32": WIDE.astype(np.uint32) * 1000,
    "int8": (WIDE.astype(np.int16) - 128).astype(np.int8),
    "float32": (WIDE / 255).astype(np.float32),
    "float64": WIDE / 255,
    "float of 0 to 255": WIDE.astype(np.float32),
    "small floats": WIDE / 255 * 0.03,
    "float16": (WIDE / 255).astype(np.float16),
    "grey, 12 bits": bits(WIDE_GREY, 12),
    "grey, thermal": (WIDE_GREY * 8.0 + 29000).astype(np.uint16),
    "grey, Kelvin": WIDE_GREY / 10 + 285.0,
    "grey, float with NaN": spoilt(WIDE_GREY / 10 + 285.0, (700, np.nan), (701, np.nan)),
    "grey, a hot pixel": spoilt(WIDE_GREY / 255, (700, 1e6)),
    "grey, a dead pixel": spoilt(WIDE_GREY / 10 + 285.0, (700, -9999)),
    "grey, infinite": spoilt(WIDE_GREY / 255, (700, np.inf)),
    "grey, float's least": spoilt(WIDE_GREY / 10 + 285.0, *((n, -3.4e38) for n in range(999))),
}


def apart(found: Array, values: Array) -> float:
    """Mean difference from the 8-bit photo, without the pixels that were spoilt."""
    wanted = WIDE if values.ndim == 3 else np.repeat(WIDE_GREY[:, :, None], 3, axis=2)
    assert found.shape == wanted.shape and found.dtype == np.uint8
    if values.dtype.kind == "f":
        found = found[~(np.abs(values) > 1e3)] if values.ndim == 2 else found
        wanted = wanted[~(np.abs(values) > 1e3)] if values.ndim == 2 else wanted
    return float(np.abs(found.astype(int) - wanted).mean())


@pytest.mark.parametrize("name", KINDS)
def test_arrays(name: str) -> None:
    assert apart(load_photo(KINDS[name]), KINDS[name]) < 2


@pytest.mark.parametrize("name", KINDS)
def test_tiffs(tmp_path: Path, name: str) -> None:
    path = tmp_path / "photo.tif"
    path.write_bytes(tiff(KINDS[name]))
    assert apart(load_photo(path), KINDS[name]) < 2


DEEP = bits(WIDE, 12)


def packed(values: Array, count: int) -> bytes:
    """A TIFF whose values follow each other without gaps: tifffile writes none by itself."""
    height, width, channels = values.shape
    single = (values.reshape(height, -1)[:, :, None] >> np.arange(count - 1, -1, -1)) & 1
    content = np.packbits(single.astype(np.uint8).reshape(height, -1), axis=1).tobytes()
    at = 8 + 2 + 12 * 9 + 4
    tags = (
        *((256, 4, 1, width), (257, 4, 1, height), (258, 3, channels, at), (259, 3, 1, 1)),
        *((262, 3, 1, 2), (273, 4, 1, at + 8), (277, 3, 1, channels), (278, 4, 1, height)),
        (279, 4, 1, len(content)),
    )
    directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + directory + struct.pack("<I", 0)
    return head + struct.pack("<HHHH", *[count] * channels, 0) + content


LAYOUTS: dict[str, Callable[[], bytes]] = {
    "planar": lambda: tiff(DEEP.transpose(2, 0, 1), planarconfig="separate"),
    "planar, signed": lambda: tiff(DEEP.transpose(2, 0, 1).astype("i2"), planarconfig="separate"),
    "big-endian": lambda: tiff(DEEP, byteorder=">"),
    "big-endian, planar": lambda: tiff(
        DEEP.transpose(2, 0, 1), planarconfig="separate", byteorder=">"
    ),
    "tiled": lambda: tiff(DEEP, tile=(16, 16)),
    "tiled, planar": lambda: tiff(DEEP.transpose(2, 0, 1), planarconfig="separate", tile=(16, 16)),
    "deflated": lambda: tiff(DEEP, compression="zlib"),
    "deflated, predicted": lambda: tiff(DEEP, compression="zlib", predictor=True),
    "strips": lambda: tiff(DEEP, rowsperstrip=7),
    "BigTIFF": lambda: tiff(DEEP, bigtiff=True),
    "pages": lambda: tiff(np.stack([DEEP, DEEP[::-1]])),
    "LZW": lambda: cv2.imencode(
        ".tif", np.ascontiguousarray(DEEP[:, :, ::-1]), [cv2.IMWRITE_TIFF_COMPRESSION, 5]
    )[1].tobytes(),
    "packed 10 bits": lambda: packed(bits(WIDE, 10), 10),
    "packed 12 bits": lambda: packed(DEEP, 12),
    "packed 14 bits": lambda: packed(bits(WIDE, 14), 14),
    "PNG": lambda: cv2.imencode(".png", np.ascontiguousarray(DEEP[:, :, ::-1]))[1].tobytes(),
    "PPM": lambda: cv2.imencode(".ppm", np.ascontiguousarray(DEEP[:, :, ::-1]))[1].tobytes(),
    "alpha": lambda: tiff(
        np.dstack([DEEP, np.full(DEEP.shape[:2], 65535, np.uint16)]),
        photometric="rgb",
        extrasamples=["unassalpha"],
    ),
    "near infrared": lambda: tiff(
        np.dstack([DEEP, DEEP[:, :, :1]]), photometric="rgb", extrasamples=["unspecified"]
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_of_twelve_bits(tmp_path: Path, name: str) -> None:
    path = tmp_path / "photo"
    path.write_bytes(LAYOUTS[name]())
    assert apart(load_photo(path), DEEP) < 1


def test_small_values_that_are_bright(tmp_path: Path) -> None:
    path = tmp_path / "photo.tif"
    path.write_bytes(tiff(4095 - bits(WIDE_GREY, 12), photometric="miniswhite"))
    assert apart(load_photo(path), WIDE_GREY) < 1


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_deep_photo_is_turned(tmp_path: Path, turn: int) -> None:
    shallow, deep = tmp_path / "8.tif", tmp_path / "16.tif"
    shallow.write_bytes(encoded(WIDE, "TIFF", exif=exif(turn)))
    deep.write_bytes(tiff(bits(WIDE, 16), extratags=[(274, 3, 1, turn, True)]))
    np.testing.assert_array_equal(load_photo(deep), load_photo(shallow))


def test_alpha_of_sixteen_bits_is_laid_over_white(tmp_path: Path) -> None:
    alpha = np.zeros(WIDE.shape[:2], np.uint16)
    alpha[:, :45] = 65535
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), np.dstack([DEEP[:, :, ::-1], alpha]))
    photo = load_photo(path)
    assert (photo[:, 45:] == 255).all()
    assert np.abs(photo[:, :45].astype(int) - WIDE[:, :45]).max() <= 1


def test_missing_pixels_that_gdal_marks(tmp_path: Path) -> None:
    values = (WIDE_GREY / 10).astype(np.float32)
    values[:20] = -9999  # a third of the photo
    path = tmp_path / "photo.tif"
    path.write_bytes(tiff(values, extratags=[(42113, 2, 6, "-9999", True)]))
    photo = load_photo(path)
    assert (photo[:20] == 0).all()
    assert np.abs(photo[20:, :, 0].astype(int) - WIDE_GREY[20:]).mean() < 3


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros((9, 9, 7), np.uint16), "7 channels"),
        (np.full((9, 9), np.nan), "no finite value"),
        (np.full((9, 9), 1j, np.complex64), "no real numbers"),
    ],
)
def test_tiffs_that_show_nothing(tmp_path: Path, values: Array, says: str) -> None:
    path = tmp_path / "photo.tif"
    path.write_bytes(tiff(values, photometric="minisblack", planarconfig="contig"))
    with pytest.raises(PhotoError, match=says) as caught:
        load_photo(path)
    assert str(path) in str(caught.value)


def test_a_camera_s_raw_file_is_refused(tmp_path: Path) -> None:
    """Its first image is a thumbnail: masks would have the wrong size."""
    path = tmp_path / "photo.dng"
    path.write_bytes(tiff(CAT, extratags=[(0xC612, 1, 4, (1, 4, 0, 0), True)]))
    with pytest.raises(PhotoError, match=r"raw file.*convert"):
        load_photo(path)


# One window for a run ---------------------------------------------------------------------------

THERMAL = (WIDE_GREY * 8.0 + 29000).astype(np.uint16)


def test_a_photo_takes_the_window_of_the_reference() -> None:
    _, window = read_photo(THERMAL)
    assert window is not None
    cold = np.minimum(THERMAL, 29900)  # the hot object has left
    photo, used = read_photo(cold, window)
    assert used == window
    assert np.abs(photo.astype(int) - load_photo(THERMAL))[THERMAL <= 29900].max() == 0
    assert photo.max() < 120  # its own window would make it white


@pytest.mark.parametrize("other", [WIDE / 255, THERMAL + np.uint16(9000), THERMAL // 100])
def test_a_photo_of_another_kind_keeps_its_own_window(other: Array) -> None:
    window = contrast_of(THERMAL)
    photo, used = read_photo(other, window)
    assert used == contrast_of(other) != window
    np.testing.assert_array_equal(photo, load_photo(other))


def test_eight_bits_have_no_window() -> None:
    photo, window = read_photo(CAT, Contrast(0, 10))
    assert window is None
    np.testing.assert_array_equal(photo, CAT)


def test_references_and_targets_of_a_method_share_it(tmp_path: Path) -> None:
    mask = np.zeros(THERMAL.shape, bool)
    mask[10:40, 20:60] = True
    cold = np.minimum(THERMAL, 29900)
    first = Reference(THERMAL, mask=mask)
    second = Reference(cold, mask=mask, contrast=first.contrast)
    assert second.contrast == first.contrast is not None
    sam = load_sam(tiny_sam())
    persam = PerSAM(sam).fit([first, second])
    assert persam.contrast == first.contrast
    shown = load_photo(cold, first.contrast)
    (found,), (wanted,) = persam.predict([cold]), persam.predict([shown])
    np.testing.assert_array_equal(found.similarity, wanted.similarity)
    again = PerSAM.load(persam.save(tmp_path / "state"), sam)
    assert again.contrast == first.contrast
    assert PerSAM(sam).fit(Reference(CAT, mask=mask)).contrast is None


def test_a_window_is_part_of_an_embedding_s_key(tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(CAT).save(path)
    sam = load_sam(tiny_sam())
    keys = {embedding_key(sam, str(path), w) for w in (None, Contrast(0, 1), Contrast(0, 2))}
    assert len(keys) == 3


@pytest.mark.shared
@pytest.mark.slow
def test_real_photos_are_segmented_as_well_as_in_eight_bits(shared_dir: Path) -> None:
    """Of what instruments write, the three that lost most: the benchmark measures all."""
    album = list(read_album(shared_dir / "data/perseg_dev", ["cat"]))
    for name, miou, change, _ in measure(album, only=("10 bits", "thermal", "Kelvin")):
        assert miou > 0.8 and abs(change) < 0.01, name
