"""Crops, backgrounds and loss masks, against plain numpy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from fiftyone_persam.datasets import PhotoOptions, prepare_photo
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam.boxes import tight_box


def photo_of(height: int, width: int) -> np.ndarray:
    """Every pixel says where it is: red is its column, green its row."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([columns % 256, rows % 256, np.full_like(rows, 7)], axis=2).astype(np.uint8)


def block(size: tuple[int, int], x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_nothing_asked_for_changes_nothing() -> None:
    photo, mask = photo_of(40, 60), block((40, 60), 10, 5, 30, 25)
    made = prepare_photo(photo, mask)
    assert np.array_equal(made.image, photo)
    assert np.array_equal(made.mask, np.where(mask, 255, 0))
    assert made.box == (10, 5, 30, 25) and made.crop == (0, 0, 60, 40)


@pytest.mark.parametrize(
    ("mask", "crop", "padding", "expected"),
    [
        ((30, 10, 50, 20), "box", 0, (30, 10, 50, 20)),
        ((30, 10, 50, 20), "box", 0.2, (26, 6, 54, 24)),
        ((0, 0, 20, 10), "box", 0.2, (0, 0, 24, 14)),
        ((30, 10, 50, 20), "square", 0, (30, 5, 50, 25)),
        ((30, 10, 50, 20), "square", 0.2, (26, 1, 54, 29)),
        ((0, 0, 20, 10), "square", 0.2, (0, 0, 28, 28)),  # moved into the photo
        ((60, 30, 80, 40), "square", 0.2, (52, 12, 80, 40)),
        ((20, 10, 50, 20), "square", 0.5, (15, 0, 55, 40)),  # the photo limits the room
        ((10, 10, 60, 20), "square", 0, (10, -5, 60, 45)),  # but the object is never cut
    ],
)
def test_crop(mask, crop, padding, expected) -> None:
    photo = photo_of(40, 80)
    made = prepare_photo(photo, block((40, 80), *mask), PhotoOptions(crop=crop, padding=padding))
    assert made.crop == expected
    x0, y0, x1, y1 = expected
    rows = np.clip(np.arange(y0, y1), 0, 39)
    columns = np.clip(np.arange(x0, x1), 0, 79)
    assert np.array_equal(made.image, photo[rows][:, columns])
    inside = np.pad(block((40, 80), *mask), 40)[y0 + 40 : y1 + 40, x0 + 40 : x1 + 40]
    assert np.array_equal(made.mask, np.where(inside, 255, 0))
    assert made.box == tight_box(inside)


@pytest.mark.parametrize(
    ("crop", "resolution", "size"),
    [
        ("square", 64, (64, 64)),  # enlarged
        ("square", 16, (16, 16)),
        ("none", 20, (20, 40)),
        ("none", 500, (40, 80)),  # never enlarged
        ("box", 8, (8, 16)),
    ],
)
def test_resolution(crop, resolution, size) -> None:
    mask = block((40, 80), 20, 10, 60, 30)
    options = PhotoOptions(crop=crop, padding=0, resolution=resolution)
    made = prepare_photo(photo_of(40, 80), mask, options)
    assert made.mask.shape == made.image.shape[:2] == size
    assert set(np.unique(made.mask)) <= {0, 255}
    share = mask[: made.crop[3], : made.crop[2]].sum() / np.prod(
        [made.crop[3] - made.crop[1], made.crop[2] - made.crop[0]]
    )
    assert (made.mask > 0).mean() == pytest.approx(share, abs=0.03)


def test_a_thread_does_not_vanish_when_the_photo_shrinks() -> None:
    mask = block((400, 400), 200, 0, 201, 400)
    made = prepare_photo(photo_of(400, 400), mask, PhotoOptions(resolution=20))
    assert (made.mask > 0).sum(axis=1).tolist() == [1] * 20


@pytest.mark.parametrize(("dilate", "feather"), [(3, 0), (0, 6), (4, 5)])
def test_dilation_and_ramp_are_distances_to_the_object(dilate, feather) -> None:
    mask = block((60, 60), 20, 25, 35, 40)
    made = prepare_photo(photo_of(60, 60), mask, PhotoOptions(dilate=dilate, feather=feather))
    distance = ndimage.distance_transform_edt(~mask)
    if feather:
        expected = np.clip(1 - np.maximum(distance - dilate, 0) / feather, 0, 1) * 255
    else:
        expected = np.where(distance <= dilate, 255, 0)
    assert np.abs(made.mask - expected).max() <= 1
    assert (made.mask[mask] == 255).all()
    assert made.box == (20, 25, 35, 40)  # of the object, not of the mask


def test_stray_spots_neither_widen_the_crop_nor_grow() -> None:
    mask = block((100, 200), 20, 30, 50, 60)
    mask[90, 190] = True  # 1 pixel of 901
    options = PhotoOptions(dilate=3)
    made = prepare_photo(photo_of(100, 200), mask, options)
    grown = ndimage.distance_transform_edt(~block((100, 200), 20, 30, 50, 60)) <= 3
    assert np.array_equal(made.mask > 0, grown | mask) and made.box == (20, 30, 50, 60)
    cropped = prepare_photo(photo_of(100, 200), mask, PhotoOptions(crop="box", padding=0))
    assert cropped.crop == (20, 30, 50, 60)
    two = block((100, 200), 20, 30, 50, 60) | block((100, 200), 100, 30, 103, 33)
    pair = prepare_photo(photo_of(100, 200), two, PhotoOptions(crop="box", padding=0))
    assert pair.crop == (20, 30, 103, 60)  # 1 % of the object is a part of it


@pytest.mark.parametrize(("background", "value"), [("white", 255), ("gray", 128)])
def test_plain_backgrounds(background, value) -> None:
    photo, mask = photo_of(40, 60), block((40, 60), 10, 5, 30, 25)
    made = prepare_photo(photo, mask, PhotoOptions(background=background, feather=4))
    weight = made.mask[..., None] / 255
    expected = photo * weight + value * (1 - weight)
    assert np.abs(made.image - expected).max() <= 0.51
    assert (made.image[0, 50] == value).all() and np.array_equal(made.image[mask], photo[mask])


def test_a_blurred_background_has_nothing_of_the_object() -> None:
    mask = block((80, 80), 20, 20, 60, 60)
    photo = np.full((80, 80, 3), (0, 0, 200), np.uint8)
    photo[::2, ::2] = (0, 0, 100)
    photo[mask] = (255, 0, 0)
    made = prepare_photo(photo, mask, PhotoOptions(background="blur"))
    outside = made.image[~mask]
    assert np.array_equal(made.image[mask], photo[mask])
    assert (outside[:, 0] == 0).all()
    assert outside[:, 2].std() < 0.3 * photo[~mask][:, 2].std()
    whole = prepare_photo(photo, np.ones((80, 80), bool), PhotoOptions(background="blur"))
    assert np.array_equal(whole.image, photo)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"crop": "circle"}, "none, square, box"),
        ({"crop": None}, "crop None"),
        ({"background": "red"}, "background 'red'"),
        ({"padding": -0.1}, "padding -0.1"),
        ({"padding": float("nan")}, "padding nan"),
        ({"padding": "much"}, "padding 'much'"),
        ({"resolution": 0}, "resolution 0"),
        ({"resolution": "wide"}, "give a whole number from 8"),
        ({"resolution": -1}, "give a whole number from 8"),
        ({"resolution": 100.5}, "resolution 100.5"),
        ({"resolution": 10**6}, "resolution 1000000"),
        ({"dilate": -1}, "dilate -1"),
        ({"feather": True}, "feather True"),
    ],
)
def test_bad_options(options, named) -> None:
    with pytest.raises(PersamError, match=named) as raised:
        PhotoOptions(**options)
    assert "\n" not in str(raised.value)


def test_numbers_of_numpy_are_numbers() -> None:
    options = PhotoOptions(resolution=np.int64(64), padding=np.float32(0.5), dilate=np.int8(2))
    assert options == PhotoOptions(resolution=64, padding=0.5, dilate=2)


@pytest.mark.parametrize(
    ("mask", "named"), [(np.zeros((40, 60), bool), "absent"), (np.ones((4, 6), bool), "6 x 4")]
)
def test_masks_that_do_not_fit(mask, named) -> None:
    with pytest.raises(PersamError, match=named):
        prepare_photo(photo_of(40, 60), mask)
