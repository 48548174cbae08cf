"""What the user points at: one photo and the object in it as a mask, a box or points; or words."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadReferenceError
from ..sam import Contrast, Photo, PhotoSource, read_photo

PERSEG_VALUE = 128
MASK, BOX, POINTS, TEXT = "mask", "box", "points", "text"
VISUAL = (MASK, BOX, POINTS)
"""The kinds of reference that show the object in a photo."""
MOST_WORDS, MOST_CHARACTERS = 64, 512
"""Of a phrase: BEiT-3 was trained with texts of up to 64 tokens."""


class Reference:
    """One photo of the object, with exactly one of mask, box and points.

    Args:
        image: path, PIL image or array; see `fiftyone_persam.sam.load_photo`.
        mask: (H, W) at the photo's size, everything but 0 is the object; or (H, W, 3) as in
            PerSeg's colour masks.
        box: x0, y0, x1, y1 in pixels; SAM makes the mask from it (paper, table 6).
        points: (n, 2) x, y in pixels; SAM makes the mask from them.
        labels: (n,) 1 for points on the object, 0 for points beside it; all 1 if left out.
        contrast: which values of a photo of more than 8 bits become black and white: that of
            another reference to the same object, or the photo's own if None.

    Attributes:
        photo: (H, W, 3) uint8 RGB.
        contrast: the window of values that the photo was mapped by; None for 8 bits.
        mask: (H, W) bool or None.
        channel: (H, W) uint8, the mask's first channel as it was given, for bool masks 128 on the
            object as PerSeg has it; None without a mask. Only mode="reference" looks at it.
        box: (4,) float64 or None.
        points: (n, 2) float64 or None.
        labels: (n,) int64 or None.

    Raises:
        BadReferenceError: none or several of mask, box and points; empty or of another size than
            the photo; outside the photo.
        PhotoError: the photo cannot be read.
    """

    def __init__(
        self,
        image: PhotoSource,
        *,
        mask: npt.ArrayLike | None = None,
        box: npt.ArrayLike | None = None,
        points: npt.ArrayLike | None = None,
        labels: npt.ArrayLike | None = None,
        contrast: Contrast | None = None,
    ) -> None:
        given = [n for n, v in (("mask", mask), ("box", box), ("points", points)) if v is not None]
        if len(given) != 1:
            raise BadReferenceError(
                f"a reference has {' and '.join(given) or 'nothing marked'}: give exactly one of "
                "mask, box and points"
            )
        if labels is not None and points is None:
            raise BadReferenceError("labels belong to points: give points, or leave labels out")
        self.photo: Photo
        self.contrast: Contrast | None
        self.photo, self.contrast = read_photo(image, contrast)
        self.mask: npt.NDArray[np.bool_] | None = None
        self.channel: npt.NDArray[np.uint8] | None = None
        self.box: npt.NDArray[np.float64] | None = None
        self.points: npt.NDArray[np.float64] | None = None
        self.labels: npt.NDArray[np.int64] | None = None
        if mask is not None:
            self.mask, self.channel = _check_mask(_array(mask), self.size)
        elif box is not None:
            self.box = _check_box(_numbers(box, "box"), self.size)
        elif points is not None:
            self.points, self.labels = _check_points(points, labels, self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the photo."""
        return self.photo.shape[0], self.photo.shape[1]

    @property
    def kind(self) -> str:
        """How the object is marked: "mask", "box" or "points"."""
        return MASK if self.mask is not None else BOX if self.box is not None else POINTS

    def __repr__(self) -> str:
        return f"Reference({self.size[1]} x {self.size[0]} photo, {self.kind})"


class TextReference:
    """The object in words. A plain ``str`` means a sample id.

    Methods that take words find it in every photo by itself. For the others a model that takes
    phrases finds it in one photo, and they carry it to the rest: `segment` does that, and
    `find_phrase` for arrays.

    Args:
        text: a phrase such as "the blue mug"; "[semantic] " before it means all of that kind, where
            the model was trained for that.

    Attributes:
        text: the phrase, with single spaces.

    Raises:
        BadReferenceError: no text, an empty one, or one of more than 64 words or 512 characters.
    """

    kind = TEXT

    def __init__(self, text: str) -> None:
        if not isinstance(text, str):
            raise BadReferenceError(
                f"a text reference cannot be made from {type(text).__name__}: give a phrase such "
                "as 'the blue mug'"
            )
        words = text.split()
        if not words:
            raise BadReferenceError(
                "the text reference is empty: give a phrase such as 'the blue mug'"
            )
        if len(words) > MOST_WORDS:
            raise BadReferenceError(
                f"the text reference has {len(words)} words: give a phrase of at most {MOST_WORDS}"
            )
        self.text = " ".join(words)
        if len(self.text) > MOST_CHARACTERS:
            raise BadReferenceError(
                f"the text reference has {len(self.text)} characters: give a phrase of at most "
                f"{MOST_CHARACTERS}"
            )

    def __repr__(self) -> str:
        return f"TextReference({self.text!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextReference) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)


def perseg_channel(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    """(H, W) bool -> the first channel of PerSeg's colour mask of it: 128 on the object."""
    return mask * np.uint8(PERSEG_VALUE)


def _check_mask(
    mask: npt.NDArray[Any], size: tuple[int, int]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
    if mask.ndim == 3 and mask.shape[2] == 1:
        mask = mask[:, :, 0]
    if mask.ndim not in (2, 3) or (mask.ndim == 3 and mask.shape[2] != 3):
        raise BadReferenceError(
            f"the mask is an array of shape {mask.shape}: give (H, W), or (H, W, 3) in colours"
        )
    if mask.shape[:2] != size:
        raise BadReferenceError(
            f"the mask is {mask.shape[1]} x {mask.shape[0]}, the photo {size[1]} x {size[0]}: "
            "give the mask at the photo's own size (after EXIF rotation)"
        )
    if mask.dtype.kind not in "biuf":
        raise BadReferenceError(f"a mask of type {mask.dtype} cannot be used: pass bool or uint8")
    if np.issubdtype(mask.dtype, np.floating) and not np.isfinite(mask).all():
        raise BadReferenceError("the mask holds NaN or infinity: pass bool or uint8")
    if mask.dtype.kind == "f" and (mask != np.floor(mask)).any():
        raise BadReferenceError(
            "the mask holds numbers between 0 and 1, which have no foreground: give mask > 0.5"
        )
    foreground = (mask != 0).any(axis=2) if mask.ndim == 3 else mask != 0
    if not foreground.any():
        raise BadReferenceError("the mask is empty: mark at least one pixel of the object")
    if mask.dtype == np.bool_:
        return foreground, perseg_channel(mask[:, :, 0] if mask.ndim == 3 else mask)
    first = mask[:, :, 0] if mask.ndim == 3 else mask
    return foreground, np.clip(first, 0, 255).astype(np.uint8)


def _check_box(box: npt.NDArray[np.float64], size: tuple[int, int]) -> npt.NDArray[np.float64]:
    if box.shape != (4,):
        raise BadReferenceError(
            f"the box is an array of shape {box.shape}: give x0, y0, x1, y1 in pixels"
        )
    x0, y0, x1, y1 = box
    if not (x0 < x1 and y0 < y1):
        raise BadReferenceError(
            f"box {box.tolist()} is empty: it needs x0 < x1 and y0 < y1 in pixels"
        )
    height, width = size
    clipped = np.clip(box, 0, [width, height, width, height])
    if not (clipped[0] < clipped[2] and clipped[1] < clipped[3]):
        raise BadReferenceError(
            f"box {box.tolist()} lies outside the photo of {width} x {height} pixels: "
            "give x0, y0, x1, y1 inside it"
        )
    if np.abs(clipped - box).max() > 1:
        raise BadReferenceError(
            f"box {box.tolist()} leaves the photo of {width} x {height} pixels: "
            "give x0, y0, x1, y1 in pixels inside it"
        )
    if box.max() <= 1 and max(size) > 2:
        raise BadReferenceError(
            f"box {box.tolist()} looks relative: multiply by the photo's width and height"
        )
    return clipped


def _check_points(
    points: npt.ArrayLike, labels: npt.ArrayLike | None, size: tuple[int, int]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    xy = _numbers(points, "points")
    if xy.ndim != 2 or xy.shape[1] != 2 or len(xy) == 0:
        raise BadReferenceError(
            f"the points are an array of shape {xy.shape}: give (n, 2) x, y in pixels"
        )
    height, width = size
    outside = (xy < 0).any(axis=1) | (xy[:, 0] >= width) | (xy[:, 1] >= height)
    if outside.any():
        raise BadReferenceError(
            f"point {xy[outside][0].tolist()} lies outside the photo of {width} x {height} "
            "pixels: give x, y inside it"
        )
    signs = np.ones(len(xy)) if labels is None else _numbers(labels, "labels")
    if signs.shape != (len(xy),) or not np.isin(signs, (0, 1)).all():
        raise BadReferenceError(
            f"labels {_short(signs.tolist())} do not fit {len(xy)} points: give each 1 for the "
            "object or 0 for the rest"
        )
    if not (signs == 1).any():
        raise BadReferenceError("no point is on the object: give at least one with label 1")
    return xy, signs.astype(np.int64)


def _numbers(values: npt.ArrayLike, name: str) -> npt.NDArray[np.float64]:
    try:
        array = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadReferenceError(f"{name} {_short(values)} cannot be read: give numbers") from None
    if not np.isfinite(array).all():
        raise BadReferenceError(f"{name} hold NaN or infinity: give pixels")
    return array


def _array(mask: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        return np.asarray(mask)
    except (TypeError, ValueError, RuntimeError):
        raise BadReferenceError("the mask is not an array of numbers: pass bool or uint8") from None


def _short(values: object) -> str:
    text = " ".join(repr(values).split())
    return text if len(text) <= 60 else f"{text[:57]}..."
