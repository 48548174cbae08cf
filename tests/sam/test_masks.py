"""One function decides what in a mask is the object, whatever the mask was written with."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fiftyone_persam.errors import PersamError, PhotoError
from fiftyone_persam.sam.masks import (
    classes_in,
    fit_mask,
    mask_of_array,
    object_in,
    read_mask_file,
    value_of_class,
)

from .photo_files import CAT, encoded, exif, tiff

Array = np.ndarray[Any, Any]
H, W = 60, 90
Y, X = np.mgrid[:H, :W]
DISC: Array = (Y - 28) ** 2 + (X - 40) ** 2 < 18**2
OTHER: Array = (Y - 48) ** 2 + (X - 75) ** 2 < 10**2
TWO = (DISC + 2 * OTHER).astype(np.uint8)


def grey(mask: Array, value: int = 255) -> Image.Image:
    return Image.fromarray((mask * value).astype(np.uint8))


def colour(mask: Array, rgb: tuple[int, ...] = (128, 0, 0), ground: Any = 0) -> Image.Image:
    pixels = np.full((*mask.shape, len(rgb)), ground, np.uint8)
    pixels[mask] = rgb
    return Image.fromarray(pixels)


def palette(ids: Array, *colours: tuple[int, int, int]) -> Image.Image:
    image = Image.fromarray(ids.astype(np.uint8), "P")
    image.putpalette([level for one in colours for level in one])
    return image


def with_alpha(image: Image.Image, mask: Array) -> Image.Image:
    image = image.convert("LA" if image.mode == "L" else "RGBA")
    image.putalpha(grey(mask))
    return image


WHITE, BLACK, RED, BLUE = (255, 255, 255), (0, 0, 0), (255, 0, 0), (0, 0, 255)
CUT_OUT = with_alpha(Image.fromarray(CAT), DISC)

HARD: dict[str, bytes] = {
    "1 bit": encoded(Image.fromarray(DISC), "PNG"),
    "0 and 1": encoded(grey(DISC, 1), "PNG"),
    "0 and 7": encoded(grey(DISC, 7), "PNG"),
    "0 and 255": encoded(grey(DISC), "PNG"),
    "16 bits": encoded(Image.fromarray(DISC.astype(np.uint16) * 1000), "PNG"),
    "int32": tiff(DISC.astype(np.int32) * 70000),
    "int64-like floats": tiff(DISC.astype(np.float32) * 3),
    "PerSeg": encoded(colour(DISC), "PNG"),
    "palette, red": encoded(palette(DISC, BLACK, RED), "PNG"),
    "palette, id 0 white": encoded(palette(DISC, WHITE, RED), "PNG"),
    "palette, id 0 white, id 1 black": encoded(palette(DISC, WHITE, BLACK), "PNG"),
    "palette, both black": encoded(palette(DISC, BLACK, BLACK), "PNG"),
    "palette, id 0 transparent": encoded(palette(DISC, WHITE, RED), "PNG", transparency=0),
    "palette TIFF": encoded(palette(DISC, WHITE, RED), "TIFF"),
    "GIF": encoded(grey(DISC), "GIF"),
    "GIF, white first": encoded(palette(~DISC, WHITE, BLACK), "GIF"),
    "BMP": encoded(grey(DISC), "BMP"),
    "WebP": encoded(colour(DISC, (0, 255, 0)), "WEBP", lossless=True),
    "RGBA, opaque": encoded(colour(DISC, (128, 0, 0, 255), (0, 0, 0, 255)), "PNG"),
    "RGBA, transparent ground": encoded(colour(DISC, (0, 99, 0, 255)), "PNG"),
    "RGBA, mask in alpha, black": encoded(colour(DISC, (0, 0, 0, 255)), "PNG"),
    "RGBA, mask in alpha, white": encoded(
        colour(DISC, (255, 255, 255, 255), (255, 255, 255, 0)), "PNG"
    ),
    "RGBA, a cut-out photo": encoded(CUT_OUT, "PNG"),
    "RGBA, a cut-out photo in WebP": encoded(CUT_OUT, "WEBP", lossless=True),
    "LA, mask in alpha": encoded(with_alpha(grey(DISC * 0), DISC), "PNG"),
    "LA, a cut-out photo": encoded(with_alpha(Image.fromarray(CAT).convert("L"), DISC), "PNG"),
    "turned by its EXIF": encoded(grey(np.rot90(DISC)), "PNG", exif=exif(6)),
}


def read(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "mask"
    path.write_bytes(content)
    return read_mask_file(path)


@pytest.mark.parametrize("name", HARD)
def test_the_object_is_what_is_not_background(tmp_path: Path, name: str) -> None:
    for several in (True, False):
        found = object_in(read(tmp_path, HARD[name]), several=several)
        np.testing.assert_array_equal(found.mask, DISC)
        assert found.threshold is None and found.mask.dtype == np.bool_


def soft(image: Image.Image, radius: float = 2) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(radius))


PROBABILITY: Array = np.asarray(soft(grey(DISC), 3), np.float32) / 255
SOFT: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: encoded(grey(DISC), "JPEG"),
    "JPEG, coarse": lambda: encoded(grey(DISC), "JPEG", quality=30),
    "JPEG, RGB": lambda: encoded(grey(DISC).convert("RGB"), "JPEG"),
    "JPEG, PerSeg's red": lambda: encoded(colour(DISC), "JPEG", quality=90),
    "WebP": lambda: encoded(grey(DISC).convert("RGB"), "WEBP", quality=80),
    "feathered": lambda: encoded(soft(grey(DISC)), "PNG"),
    "feathered red": lambda: encoded(soft(colour(DISC)), "PNG"),
    "feathered GIF": lambda: encoded(soft(grey(DISC)), "GIF"),
    "feathered, 16 bits": lambda: encoded(
        Image.fromarray(np.asarray(soft(grey(DISC)), np.uint16) * 257), "PNG"
    ),
    "feathered alpha": lambda: encoded(
        Image.merge("LA", (grey(DISC * 0), soft(grey(DISC)))), "PNG"
    ),
    "probabilities": lambda: tiff(PROBABILITY),
    "probabilities, float64": lambda: tiff(PROBABILITY.astype(np.float64) * 0.98 + 0.01),
    "probabilities, NaN": lambda: tiff(np.where(PROBABILITY < 0.01, np.nan, PROBABILITY)),
    "percent": lambda: tiff(PROBABILITY * 100),
    "logits": lambda: tiff(PROBABILITY * 16 - 8),
    "one pixel between": lambda: encoded(
        Image.fromarray(np.where(DISC, 255, np.where(np.roll(DISC, 1, 1), 90, 0)).astype("u1")),
        "PNG",
    ),
}


@pytest.mark.parametrize("name", SOFT)
def test_a_soft_mask_is_decided_at_half(tmp_path: Path, name: str) -> None:
    found = object_in(read(tmp_path, SOFT[name]()), several=False)
    assert found.threshold is not None
    assert (found.mask & DISC).sum() / (found.mask | DISC).sum() > 0.95
    named = object_in(read(tmp_path, SOFT[name]()), 255 if name == "JPEG" else None)
    np.testing.assert_array_equal(named.mask, found.mask)


CLASSES: dict[str, tuple[bytes, str]] = {
    "ids": (encoded(Image.fromarray(TWO), "PNG"), "1, 2"),
    "ids far apart": (encoded(Image.fromarray(TWO * np.uint8(90)), "PNG"), "90, 180"),
    "an id and the void": (encoded(Image.fromarray(np.where(OTHER, 255, TWO)), "PNG"), "1, 255"),
    "palette": (encoded(palette(TWO, BLACK, RED, BLUE), "PNG"), "1, 2"),
    "16 bits": (encoded(Image.fromarray(TWO.astype(np.uint16) * 1000), "PNG"), "1000, 2000"),
    "colours": (
        encoded(Image.composite(colour(OTHER, BLUE), colour(DISC), grey(OTHER)), "PNG"),
        "#800000, #0000ff",
    ),
}


@pytest.mark.parametrize("name", CLASSES)
def test_several_classes_are_named_and_asked_for(tmp_path: Path, name: str) -> None:
    content, named = CLASSES[name]
    mask = read(tmp_path, content)
    with pytest.raises(
        PersamError, match=r"holds several classes.*: choose one with mask_value"
    ) as e:
        object_in(mask, where="the mask of a.png", several=False)
    assert str(e.value).startswith(f"the mask of a.png holds several classes, {named}: ")
    np.testing.assert_array_equal(object_in(mask).mask, DISC | OTHER)


def test_classes_have_their_names(tmp_path: Path) -> None:
    mask = mask_of_array(TWO)
    assert classes_in(mask, {1: "cup", 2: "spoon"}) == {1: "cup", 2: "spoon"}
    with pytest.raises(PersamError, match=r"several classes, 1 \(cup\), 2 \(spoon\): choose"):
        object_in(mask, targets={1: "cup", 2: "spoon"}, several=False)
    red = mask_of_array(np.asarray(colour(DISC, (255, 109, 4))))
    assert classes_in(red, {"#FF6D04": "cup"}) == {"#ff6d04": "cup"}
    assert classes_in(mask_of_array(PROBABILITY > 0.5)) == {1: "value 1"}


MANY = np.asarray(colour(DISC, (255, 109, 4))).copy()
MANY[OTHER] = BLUE
JPEG_COLOURS = np.asarray(Image.open(io.BytesIO(encoded(MANY, "JPEG", quality=95))))


@pytest.mark.parametrize(
    ("mask", "value", "targets", "wanted"),
    [
        (TWO, 2, None, OTHER),
        (TWO, np.int64(1), None, DISC),
        (TWO, "2", None, OTHER),
        (TWO, "spoon", {1: "cup", 2: "spoon"}, OTHER),
        (TWO, "Spoon", {1: "cup", 2: "spoon"}, OTHER),
        (TWO, "spoon", {"1": "cup", "2": "spoon"}, OTHER),
        (TWO.astype(float), 2, None, OTHER),
        (TWO[:, :, None], 2, None, OTHER),
        (TWO * np.uint8(90), "#5a5a5a", None, DISC),
        (TWO, 9, None, OTHER & False),
        (MANY, "#ff6d04", None, DISC),
        (MANY, "#FF6D04", None, DISC),
        (MANY, 0xFF6D04, None, DISC),
        (MANY, "cup", {"#FF6D04": "cup"}, DISC),
        (MANY, "cup", {"#ff6d04": "cup", "#0000ff": "spoon"}, DISC),
        (MANY, 0x0000FF, None, OTHER),
        (np.asarray(colour(DISC)), 128, None, DISC),
        (np.dstack([TWO, TWO * 0, TWO * 0]), 2, None, OTHER),  # ids in the red channel
        (np.dstack([MANY, np.full((H, W), 255, np.uint8)]), "#0000ff", None, OTHER),
    ],
)
def test_a_value_a_colour_or_a_class(mask: Array, value: Any, targets: Any, wanted: Array) -> None:
    np.testing.assert_array_equal(object_in(mask_of_array(mask), value, targets).mask, wanted)


def test_a_colour_that_compression_has_moved() -> None:
    found = object_in(mask_of_array(JPEG_COLOURS), "#ff6d04").mask
    assert (found & DISC).sum() / (found | DISC).sum() > 0.9


@pytest.mark.parametrize("value", [1, "#ff0000", "#FF0000", 0xFF0000, "cup", "1"])
def test_a_palette_s_value_is_its_id_and_its_colour(tmp_path: Path, value: Any) -> None:
    mask = read(tmp_path, encoded(palette(TWO, WHITE, RED, BLUE), "PNG"))
    np.testing.assert_array_equal(object_in(mask, value, {1: "cup"}).mask, DISC)


@pytest.mark.parametrize(
    ("value", "targets", "says"),
    [
        ("red", None, "mask_value 'red' is neither a class .* give an integer"),
        ("cupp", {1: "cup"}, "give one of cup, .*did you mean 'cup'"),
        ("#ff00", None, "nor a colour like"),
        ("#ff0000", None, "not a colour mask"),
    ],
)
def test_what_is_no_value(value: str, targets: Any, says: str) -> None:
    with pytest.raises(PersamError, match=says):
        object_in(mask_of_array(TWO), value, targets)


def test_text_becomes_a_plain_value() -> None:
    assert value_of_class("#FF6D04", None) == "#ff6d04" and value_of_class("7", None) == 7
    assert value_of_class("cup", {"#FF6D04": "cup"}) == "#ff6d04"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(9),
        np.zeros((0, 0)),
        np.zeros((0, 5), np.uint8),
        np.zeros((4, 4, 5)),
        np.zeros((1, 4, 4, 3)),
        np.full((4, 4), "a"),
        np.zeros((4, 4), complex),
        np.full((4, 4), None),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_that_are_no_masks(array: Array) -> None:
    with pytest.raises(PersamError, match=r"^the mask of x is ") as caught:
        mask_of_array(array, "the mask of x")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("array", [np.full((4, 4), np.nan), np.zeros((4, 4), bool)])
def test_nothing_is_nothing(array: Array) -> None:
    assert not object_in(mask_of_array(array)).mask.any()


@pytest.mark.parametrize(
    ("shape", "size", "fits"),
    [
        ((60, 90), (60, 90), "as it is"),
        ((61, 90), (60, 90), "with a warning"),
        ((58, 92), (60, 90), "with a warning"),
        ((57, 90), (60, 90), "no"),
        ((60, 93), (60, 90), "no"),
        ((90, 60), (60, 90), "no"),
        ((30, 45), (60, 90), "scaled"),
        ((120, 180), (60, 90), "scaled"),
    ],
)
def test_sizes(
    shape: tuple[int, int], size: tuple[int, int], fits: str, caplog: pytest.LogCaptureFixture
) -> None:
    mask = np.zeros(shape, np.bool_)
    mask[: shape[0] // 2] = True
    if fits == "scaled":
        assert fit_mask(mask, size, scaled=True).mean() == pytest.approx(0.5, abs=0.02)
    if fits in ("no", "scaled"):
        with pytest.raises(PersamError, match=f"is {shape[1]} x {shape[0]} pixels but its photo"):
            fit_mask(mask, size)
        return
    fitted = fit_mask(mask, size, "the mask of a.png")
    assert fitted.shape == size and fitted.mean() == pytest.approx(0.5, abs=0.02)
    assert bool(caplog.records) == (fits == "with a warning")
    assert not caplog.records or "the mask of a.png" in caplog.text


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mask_over_the_stored_pixels_is_turned(tmp_path: Path, orientation: int) -> None:
    turned = object_in(read(tmp_path, encoded(grey(DISC), "PNG", exif=exif(orientation)))).mask
    np.testing.assert_array_equal(fit_mask(DISC, (W, H), orientation=orientation), turned)


def test_the_limit_of_pixels_holds_for_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mask.png"
    grey(DISC).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(PhotoError, match=r"mask\.png has more than 2,000 pixels"):
        read_mask_file(path)
