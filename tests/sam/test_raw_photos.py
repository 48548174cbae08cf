"""Photos that a device resizes are those that the host resizes, within 1 / 255."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data

from fiftyone_persam.errors import PhotoError
from fiftyone_persam.sam import PromptableSam, load_photo
from fiftyone_persam.sam.photos import resize_photo
from fiftyone_persam.sam.raw_photos import RawPhoto, load_raw, resize_raw

from .photo_files import CAT, Array, encoded, exif

CPU = torch.device("cpu")


def through_device(source: object, image_size: int) -> Array:
    raw, size = load_raw(source, image_size)  # type: ignore[arg-type]
    photo = load_photo(source)  # type: ignore[arg-type]
    assert size == photo.shape[:2]
    (pixels,) = resize_raw([raw], CPU)
    found: Array = pixels.permute(1, 2, 0).numpy()
    assert found.shape == raw.shape == resize_photo(photo, image_size).shape
    return found


@pytest.mark.parametrize("image_size", [64, 90, 200])
@pytest.mark.parametrize(
    ("form", "options"),
    [
        ("JPEG", {"quality": 90}),
        ("JPEG", {"quality": 90, "progressive": True, "subsampling": 0}),
        *[("JPEG", {"exif": exif(turn)}) for turn in range(1, 9)],
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
    ],
)
def test_within_one_level_of_the_host_s(
    form: str, options: dict[str, object], image_size: int, tmp_path: Path
) -> None:
    path = tmp_path / "photo"
    path.write_bytes(encoded(CAT, form, **options))
    wanted = resize_photo(load_photo(path), image_size)
    assert np.abs(through_device(path, image_size) - wanted.astype(float)).max() <= 1


@pytest.mark.parametrize("mode", ["L", "CMYK", "P"])
def test_other_modes(mode: str, tmp_path: Path) -> None:
    path = tmp_path / "photo"
    Image.fromarray(CAT).convert(mode).save(path, "PNG" if mode == "P" else "JPEG")
    wanted = resize_photo(load_photo(path), 64)
    assert np.abs(through_device(path, 64) - wanted.astype(float)).max() <= 1


@pytest.mark.parametrize(("image_size", "scale"), [(256, 1), (160, 2), (100, 2), (64, 4), (30, 8)])
def test_a_large_jpeg_is_decoded_at_a_fraction(image_size: int, scale: int, tmp_path: Path) -> None:
    """Which is larger than the input still, and hardly differs when resized."""
    path = tmp_path / "large.jpg"
    photo = Image.fromarray(data.astronaut()[:381])
    photo.save(path, quality=95, exif=exif(6))
    raw, size = load_raw(path, image_size)
    assert size == (512, 381)
    assert tuple(raw.pixels.shape) == (-(-512 // scale), -(-381 // scale), 3)
    assert max(raw.pixels.shape) >= 1.5 * image_size
    wanted = resize_photo(load_photo(path), image_size).astype(float)
    assert np.abs(through_device(path, image_size) - wanted).mean() < 4


def test_a_strip_far_longer_than_the_input() -> None:
    """A device's filter has no room for it."""
    strip = np.ascontiguousarray(np.repeat(CAT, 30, axis=1))
    raw, size = load_raw(strip, 64)
    assert size == strip.shape[:2] and tuple(raw.pixels.shape) == raw.shape
    np.testing.assert_array_equal(through_device(strip, 64), resize_photo(strip, 64))


@pytest.mark.parametrize("keep", [0, 3, 200, 0.5, 0.9])
def test_a_damaged_file_says_what_it_always_said(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    content = encoded(CAT, "JPEG")
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(PhotoError) as wanted:
        load_photo(path)
    with pytest.raises(PhotoError) as found:
        load_raw(path, 64)
    assert str(found.value) == str(wanted.value)


def test_arrays_and_photos_of_several_sizes_in_one_batch(seeded: PromptableSam) -> None:
    tall = np.ascontiguousarray(CAT[:, :40])
    raw = [load_raw(photo, seeded.image_size)[0] for photo in (CAT, tall, CAT)]
    found = seeded.preprocess(raw)
    wanted = seeded.preprocess([resize_photo(p, seeded.image_size) for p in (CAT, tall, CAT)])
    step = 1.01 / seeded.sam.pixel_std.min()
    assert (found - wanted).abs().max() <= step
    mixed = seeded.preprocess([raw[0], resize_photo(tall, seeded.image_size), raw[2]])
    assert (mixed - wanted).abs().max() <= step


def test_encoding_raw_photos(seeded: PromptableSam) -> None:
    raw, size = load_raw(CAT, seeded.image_size)
    assert isinstance(raw, RawPhoto)
    (found,), (wanted,) = seeded.encode_resized([raw], [size]), seeded.encode([CAT])
    assert found.input_size == wanted.input_size and found.original_size == wanted.original_size
    error = (found.features - wanted.features).norm() / wanted.features.norm()
    assert error < 0.05


def test_who_resizes(seeded: PromptableSam) -> None:
    assert not seeded.resizes and seeded.with_speed(resize=True).resizes
