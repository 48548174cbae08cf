from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fiftyone_persam.errors import BadReferenceError, PhotoError
from fiftyone_persam.personalize import Reference

H, W = 20, 30
PHOTO = np.zeros((H, W, 3), np.uint8)
MASK = np.zeros((H, W), bool)
MASK[5:10, 5:15] = True
NAN = float("nan")
INF = float("inf")


@pytest.mark.parametrize(
    ("given", "largest"),
    [
        (MASK, 128),
        (MASK.astype(np.uint8), 1),
        (MASK.astype(np.uint8) * 255, 255),
        (MASK.astype(float), 1),
        (MASK.astype(np.int64) * 1000, 255),
        (MASK[:, :, None], 128),
        (np.stack([MASK * 128, MASK * 0, MASK * 0], 2).astype(np.uint8), 128),
        (np.stack([MASK * 0, MASK * 7, MASK * 0], 2).astype(np.uint8), 0),
        (MASK.tolist(), 128),
    ],
    ids=["bool", "0/1", "0/255", "float", "int64", "one channel", "PerSeg", "green", "list"],
)
def test_mask_of_any_kind(given: Any, largest: int) -> None:
    reference = Reference(PHOTO, mask=given)
    assert reference.mask is not None and reference.mask.dtype == np.bool_
    np.testing.assert_array_equal(reference.mask, MASK)
    assert reference.channel is not None and reference.channel.dtype == np.uint8
    np.testing.assert_array_equal(reference.channel, MASK * np.uint8(largest))
    assert reference.box is None and reference.points is None and reference.labels is None
    assert reference.size == (H, W)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((1, 2, 10, 12), (1, 2, 10, 12)),
        ([0, 0, W, H], (0, 0, W, H)),
        ((-0.5, 0, W + 0.5, H), (0, 0, W, H)),  # rounding at the photo's edge
        (np.array([1.5, 2.5, 3.5, 4.5]), (1.5, 2.5, 3.5, 4.5)),
    ],
)
def test_box(box: Any, kept: tuple[float, ...]) -> None:
    reference = Reference(PHOTO, box=box)
    assert reference.box is not None
    np.testing.assert_array_equal(reference.box, kept)


@pytest.mark.parametrize(
    ("points", "labels", "kept"),
    [
        ([[3, 4]], None, [1]),
        ([[3, 4], [0, 0]], [1, 0], [1, 0]),
        ([[W - 1, H - 1], [5, 5]], [True, True], [1, 1]),
        (np.array([[1.5, 2.5]]), np.array([1.0]), [1]),
    ],
)
def test_points(points: Any, labels: Any, kept: list[int]) -> None:
    reference = Reference(PHOTO, points=points, labels=labels)
    assert reference.points is not None and reference.labels is not None
    np.testing.assert_array_equal(reference.points, points)
    assert reference.labels.tolist() == kept


@pytest.mark.parametrize(
    ("image", "given", "error", "says"),
    [
        (PHOTO, {}, BadReferenceError, "exactly one"),
        (PHOTO, {"mask": MASK, "box": (1, 1, 5, 5)}, BadReferenceError, "exactly one"),
        (PHOTO, {"box": (1, 1, 5, 5), "points": [[1, 1]]}, BadReferenceError, "exactly one"),
        (PHOTO, {"mask": MASK, "points": [[1, 1]]}, BadReferenceError, "exactly one"),
        (PHOTO, {"mask": MASK, "labels": [1]}, BadReferenceError, "labels"),
        (PHOTO, {"box": (1, 1, 5, 5), "labels": [1]}, BadReferenceError, "labels"),
        (PHOTO, {"mask": np.zeros((H, W), bool)}, BadReferenceError, "empty"),
        (PHOTO, {"mask": MASK * 0.9 + 0.05}, BadReferenceError, "mask > 0.5"),
        (PHOTO, {"mask": MASK.T}, BadReferenceError, "20 x 30"),
        (PHOTO, {"mask": MASK[:-1]}, BadReferenceError, "own size"),
        (PHOTO, {"mask": np.ones(5)}, BadReferenceError, "(H, W)"),
        (PHOTO, {"mask": np.ones((H, W, 4))}, BadReferenceError, "(H, W)"),
        (PHOTO, {"mask": np.ones((1, H, W, 3))}, BadReferenceError, "(H, W)"),
        (PHOTO, {"mask": np.full((H, W), NAN)}, BadReferenceError, "NaN"),
        (PHOTO, {"mask": np.full((H, W), "a")}, BadReferenceError, "type"),
        (PHOTO, {"mask": "mask.png"}, BadReferenceError, "(H, W)"),
        (PHOTO, {"box": (1, 1, 5)}, BadReferenceError, "x0, y0, x1, y1"),
        (PHOTO, {"box": [(1, 1, 5, 5)]}, BadReferenceError, "x0, y0, x1, y1"),
        (PHOTO, {"box": (NAN, 1, 5, 5)}, BadReferenceError, "NaN"),
        (PHOTO, {"box": (0, 0, INF, 5)}, BadReferenceError, "infinity"),
        (PHOTO, {"box": (5, 5, 1, 9)}, BadReferenceError, "x0 < x1"),
        (PHOTO, {"box": (5, 5, 5, 9)}, BadReferenceError, "empty"),
        (PHOTO, {"box": (40, 40, 50, 50)}, BadReferenceError, "outside"),
        (PHOTO, {"box": (0, 0, W + 9, H)}, BadReferenceError, "leaves"),
        (PHOTO, {"box": (0.1, 0.1, 0.9, 0.9)}, BadReferenceError, "relative"),
        (PHOTO, {"box": "1 1 5 5"}, BadReferenceError, "numbers"),
        (PHOTO, {"points": []}, BadReferenceError, "(n, 2)"),
        (PHOTO, {"points": [1, 2]}, BadReferenceError, "(n, 2)"),
        (PHOTO, {"points": [[1, 2, 3]]}, BadReferenceError, "(n, 2)"),
        (PHOTO, {"points": [[1, NAN]]}, BadReferenceError, "NaN"),
        (PHOTO, {"points": [[W, 1]]}, BadReferenceError, "outside"),
        (PHOTO, {"points": [[1, -1]]}, BadReferenceError, "outside"),
        (PHOTO, {"points": [["a", 1]]}, BadReferenceError, "numbers"),
        (
            PHOTO,
            {"points": [[1, 1], [2, 2]], "labels": [1]},
            BadReferenceError,
            "do not fit 2 points",
        ),
        (PHOTO, {"points": [[1, 1]], "labels": [2]}, BadReferenceError, "1 for the object"),
        (PHOTO, {"points": [[1, 1]], "labels": [0]}, BadReferenceError, "no point"),
        ("missing.jpg", {"mask": MASK}, PhotoError, "missing.jpg"),
        (None, {"mask": MASK}, PhotoError, "NoneType"),
        (np.zeros((H, W, 2)), {"mask": MASK}, PhotoError, "shape"),
    ],
)
def test_bad_references(image: Any, given: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error) as caught:
        Reference(image, **given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mask_belongs_to_the_upright_photo(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    path = tmp_path / "turned.jpg"
    Image.fromarray(PHOTO).save(path, exif=exif)
    assert Reference(path, mask=MASK.T).size == (W, H)
    with pytest.raises(BadReferenceError, match="EXIF"):
        Reference(path, mask=MASK)


def test_repr_says_what_it_is() -> None:
    assert repr(Reference(PHOTO, mask=MASK)) == "Reference(30 x 20 photo, mask)"
    assert "box" in repr(Reference(PHOTO, box=(1, 1, 9, 9)))
    assert "points" in repr(Reference(PHOTO, points=[[1, 1]]))
