"""Photos of any kind come out as upright uint8 RGB, or with one line that says what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

from fiftyone_persam.errors import PhotoError
from fiftyone_persam.sam import load_photo, photo_size, resize_photo

Array = np.ndarray[Any, Any]
CAT = np.ascontiguousarray(data.chelsea()[:60, :90, :3])
GREY = CAT[:, :, 0]
RAMP = np.linspace(0, 65535, 64 * 32).round().astype(np.uint16).reshape(32, 64)


@pytest.fixture
def file(tmp_path: Path) -> Callable[..., Path]:
    def save(image: Image.Image, name: str, **options: Any) -> Path:
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def pil(array: Array, mode: str | None = None) -> Image.Image:
    image = Image.fromarray(array)
    return image if mode is None else image.convert(mode)


def gray_rgb(grey: Array) -> Array:
    return np.repeat(grey[:, :, None], 3, axis=2)


HALF = np.where(np.arange(90) < 45, 255, 0).astype(np.uint8)
RGBA = np.dstack([CAT, np.broadcast_to(HALF, CAT.shape[:2])])
OVER_WHITE = np.where(HALF[None, :, None] > 0, CAT, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("image", "name", "expected", "tolerance"),
    [
        (pil(CAT), "rgb.png", CAT, 0),
        (pil(CAT), "rgb.jpg", CAT, 60),
        (pil(CAT), "rgb.webp", CAT, 60),
        (pil(CAT), "rgb.bmp", CAT, 0),
        (pil(CAT), "rgb.tiff", CAT, 0),
        (pil(CAT, "L"), "grey.png", gray_rgb(np.asarray(pil(CAT, "L"))), 0),
        (pil(CAT, "1"), "one_bit.png", gray_rgb(np.asarray(pil(CAT, "1")) * np.uint8(255)), 0),
        (pil(RGBA), "alpha.png", OVER_WHITE, 0),
        (pil(RGBA).convert("LA"), "grey_alpha.png", None, 0),
        (pil(CAT, "P"), "palette.png", np.asarray(pil(CAT, "P").convert("RGB")), 0),
        (pil(CAT, "P"), "palette.gif", np.asarray(pil(CAT, "P").convert("RGB")), 0),
        (pil(CAT, "CMYK"), "cmyk.tiff", CAT, 3),
        (pil(CAT, "CMYK"), "cmyk.jpg", CAT, 80),
        (pil(CAT, "YCbCr"), "ycbcr.jpg", CAT, 60),
        (pil(RAMP), "deep.png", gray_rgb(np.round(RAMP / 257).astype(np.uint8)), 0),
        (pil(RAMP), "deep.tiff", gray_rgb(np.round(RAMP / 257).astype(np.uint8)), 0),
        (
            pil((RAMP / 65535).astype(np.float32)),
            "float.tiff",
            gray_rgb(np.round(RAMP / 257).astype(np.uint8)),
            1,
        ),
        (pil(CAT[:1, :1]), "one_pixel.png", CAT[:1, :1], 0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_files_of_any_mode(
    file: Callable[..., Path], image: Image.Image, name: str, expected: Array, tolerance: int
) -> None:
    photo = load_photo(file(image, name))
    assert photo.dtype == np.uint8 and photo.shape == (*image.size[::-1], 3)
    assert photo.flags.writeable and photo.flags.c_contiguous
    if expected is not None:
        assert np.abs(photo.astype(int) - expected).max() <= tolerance


def test_palette_with_a_transparent_colour(file: Callable[..., Path]) -> None:
    palette = pil(np.repeat(np.array([[0, 1]], np.uint8), 4, 0)).convert("P")
    palette.putpalette([255, 0, 0, 0, 255, 0])
    photo = load_photo(file(palette, "transparent.png", transparency=1))
    assert photo[0].tolist() == [[255, 0, 0], [255, 255, 255]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation_is_applied(file: Callable[..., Path], orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    photo = load_photo(file(pil(CAT), "turned.png", exif=exif))
    turned: dict[int, Array] = {
        1: CAT,
        2: CAT[:, ::-1],
        3: CAT[::-1, ::-1],
        4: CAT[::-1],
        5: CAT.transpose(1, 0, 2),
        6: np.rot90(CAT, -1),
        7: CAT[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(CAT),
    }
    np.testing.assert_array_equal(photo, turned[orientation])


def test_an_animation_is_its_first_frame(file: Callable[..., Path]) -> None:
    frames = [pil(np.full((8, 8), value, np.uint8)) for value in (10, 200)]
    path = file(frames[0], "moving.gif", save_all=True, append_images=frames[1:])
    assert (load_photo(path) == 10).all()


def test_a_wrong_extension_does_not_matter(file: Callable[..., Path]) -> None:
    path = file(pil(CAT), "photo.png")
    np.testing.assert_array_equal(load_photo(path.rename(path.with_suffix(".jpg"))), CAT)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (CAT, CAT),
        (GREY, gray_rgb(GREY)),
        (GREY[:, :, None], gray_rgb(GREY)),
        (RGBA, OVER_WHITE),
        (CAT.astype(np.uint16) * 257, CAT),
        (CAT / 255, CAT),
        ((CAT / 255).astype(np.float32), CAT),
        (GREY > 100, gray_rgb((GREY > 100) * np.uint8(255))),
        (CAT[:, ::-1], CAT[:, ::-1]),
        (pil(CAT), CAT),
        (pil(RGBA), OVER_WHITE),
    ],
)
def test_arrays_and_pil_images(source: Any, expected: Array) -> None:
    photo = load_photo(source)
    assert photo.dtype == np.uint8
    np.testing.assert_array_equal(photo, expected)


def _write(content: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        path.write_bytes(content)

    return write


def _truncate(suffix: str, keep: float) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        pil(np.tile(CAT, (8, 8, 1))).save(path, format=suffix)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])

    return write


@pytest.mark.parametrize(
    ("write", "says"),
    [
        (lambda path: None, "does not exist"),
        (_write(b""), "is empty"),
        (_write(b"not a photo at all"), "not an image"),
        (_write(b"%PDF-1.4 ..."), "not an image"),
        (_truncate("JPEG", 0.4), "cannot be decoded"),
        (_truncate("PNG", 0.4), "cannot be decoded"),
        (_truncate("PNG", 0.001), "cannot be"),
        (_truncate("GIF", 0.2), "cannot be decoded"),
        (lambda path: path.mkdir(), "is not a file"),
    ],
)
def test_bad_files(tmp_path: Path, write: Callable[[Path], None], says: str) -> None:
    path = tmp_path / "photo.jpg"
    write(path)
    with pytest.raises(PhotoError) as caught:
        load_photo(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    assert says in message or (says == "cannot be" and "not an image" in message)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read(file: Callable[..., Path]) -> None:
    path = file(pil(CAT), "secret.png")
    path.chmod(0)
    with pytest.raises(PhotoError, match="cannot be read"):
        load_photo(path)


@pytest.mark.parametrize(
    "source",
    [
        None,
        3,
        b"bytes",
        [[0, 1]],
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 5), np.uint8),
        np.zeros((2, 4, 4, 3), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4, 3), np.int64),
        np.full((4, 4, 3), 2.0),
        np.full((4, 4, 3), -0.1),
        np.full((4, 4, 3), np.nan),
        np.full((4, 4, 3), "a"),
        np.zeros((4, 4, 3), complex),
    ],
    ids=lambda value: f"{type(value).__name__}{getattr(value, 'shape', '')}",
)
def test_bad_sources(source: Any) -> None:
    with pytest.raises(PhotoError) as caught:
        load_photo(source)
    assert "\n" not in str(caught.value)


def test_more_pixels_than_pil_trusts(
    file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = file(pil(CAT), "huge.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PhotoError, match="pixels"):
        load_photo(path)


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (100, 200, (512, 1024)),
        (200, 100, (1024, 512)),
        (1024, 1024, (1024, 1024)),
        (1, 1, (1024, 1024)),
        (1, 5000, (1, 1024)),
        (3000, 4000, (768, 1024)),
    ],
)
def test_resized_as_sam_does(height: int, width: int, expected: tuple[int, int]) -> None:
    from segment_anything.utils.transforms import ResizeLongestSide

    assert photo_size(height, width, 1024) == expected
    if height > 1:
        assert ResizeLongestSide.get_preprocess_shape(height, width, 1024) == expected


@pytest.mark.parametrize("size", [32, 90, 200])
def test_resizing_equals_segment_anythings(size: int) -> None:
    from segment_anything.utils.transforms import ResizeLongestSide

    np.testing.assert_array_equal(resize_photo(CAT, size), ResizeLongestSide(size).apply_image(CAT))
