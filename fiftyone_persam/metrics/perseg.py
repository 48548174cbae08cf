"""Scores by the PerSeg protocol (PerSAM, section 4.1): pooled per object, then the mean.

The published numbers pool pixels within an object ("micro") and average over objects. How the
published boundary IoU was pooled is not known, so both that and the plain mean over photos are
computed, under different names.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ..errors import PersamError
from .boundary import DILATION_RATIO, boundary_distance, boundary_overlap
from .masks import as_mask_pair
from .overlap import coverage, ratio


@dataclass(frozen=True)
class PhotoCounts:
    """Pixel counts of one photo, all that its scores need.

    Attributes:
        intersection: pixels in prediction and ground truth.
        predicted: pixels in the prediction.
        truth: pixels in the ground truth.
        boundary_intersection: pixels in both contour bands.
        boundary_union: pixels in either contour band.
    """

    intersection: int
    predicted: int
    truth: int
    boundary_intersection: int
    boundary_union: int

    @property
    def union(self) -> int:
        """Pixels in prediction or ground truth."""
        return self.predicted + self.truth - self.intersection

    @property
    def iou(self) -> float:
        """Intersection over union, 0 to 1; 1 if both masks are empty."""
        return ratio(self.intersection, self.union)

    @property
    def boundary_iou(self) -> float:
        """Intersection over union of the contour bands, 0 to 1; 1 if both are empty."""
        return ratio(self.boundary_intersection, self.boundary_union)

    @property
    def accuracy(self) -> float:
        """Share of the ground truth that is covered, 0 to 1."""
        return coverage(self.intersection, self.truth, self.predicted)

    def __add__(self, other: PhotoCounts) -> PhotoCounts:
        """Pool the pixels of two photos."""
        return PhotoCounts(
            self.intersection + other.intersection,
            self.predicted + other.predicted,
            self.truth + other.truth,
            self.boundary_intersection + other.boundary_intersection,
            self.boundary_union + other.boundary_union,
        )


_NOTHING = PhotoCounts(0, 0, 0, 0, 0)


@dataclass(frozen=True)
class ObjectScores:
    """Scores of one object, each 0 to 1.

    Attributes:
        name: the object.
        photos: how many photos were scored.
        iou: sum of intersections over sum of unions.
        boundary_iou: the same for the contour bands.
        accuracy: sum of intersections over sum of ground-truth areas.
        photo_iou: plain mean of the photos' IoU.
        photo_boundary_iou: plain mean of the photos' boundary IoU.
        photo_accuracy: plain mean of the photos' accuracy.
    """

    name: str
    photos: int
    iou: float
    boundary_iou: float
    accuracy: float
    photo_iou: float
    photo_boundary_iou: float
    photo_accuracy: float


@dataclass(frozen=True)
class PerSegScores:
    """Scores of a whole album, each 0 to 1.

    Attributes:
        miou: mean over objects of the pooled IoU: the published "mIoU".
        mean_boundary_iou: mean over objects of the pooled boundary IoU ("bIoU").
        mean_accuracy: mean over objects of the pooled accuracy ("mAcc").
        photo_miou: plain mean of the IoU over all photos, whatever their object.
        photo_mean_boundary_iou: plain mean of the boundary IoU over all photos.
        photo_mean_accuracy: plain mean of the accuracy over all photos.
        photos: how many photos were scored.
        dilation_ratio: width of the contour band as a share of the photo's diagonal.
        objects: one row per object, sorted by name.
    """

    miou: float
    mean_boundary_iou: float
    mean_accuracy: float
    photo_miou: float
    photo_mean_boundary_iou: float
    photo_mean_accuracy: float
    photos: int
    dilation_ratio: float
    objects: tuple[ObjectScores, ...]

    def to_dict(self) -> dict[str, Any]:
        """The scores as plain numbers, strings and lists, ready for JSON."""
        return {**asdict(self), "objects": [asdict(row) for row in self.objects]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> PerSegScores:
        """The inverse of :meth:`to_dict`."""
        return cls(**{**data, "objects": tuple(ObjectScores(**row) for row in data["objects"])})


def count_photo(
    pred: ArrayLike, gt: ArrayLike, dilation_ratio: float = DILATION_RATIO
) -> PhotoCounts:
    """Count the pixels that one photo's scores need.

    Args:
        pred: (H, W) predicted mask.
        gt: (H, W) ground-truth mask of the same size.
        dilation_ratio: width of the contour band as a share of the photo's diagonal.

    Raises:
        PersamError: not a mask, sizes that differ, or a ratio that is not above 0.
    """
    predicted, truth = as_mask_pair(pred, gt, ("pred", "gt"))
    distance = boundary_distance(predicted.shape, dilation_ratio)
    band_intersection, band_union = boundary_overlap(predicted, truth, distance)
    return PhotoCounts(
        intersection=int(np.count_nonzero(predicted & truth)),
        predicted=int(np.count_nonzero(predicted)),
        truth=int(np.count_nonzero(truth)),
        boundary_intersection=band_intersection,
        boundary_union=band_union,
    )


class PerSegAccumulator:
    """Collects photos of several objects and scores them by the PerSeg protocol.

    Example::

        scores = PerSegAccumulator()
        for name, pred, gt in photos:
            scores.update(name, pred, gt)
        scores.compute().miou

    Args:
        dilation_ratio: width of the contour band as a share of the photo's diagonal.

    Raises:
        PersamError: a ratio that is not above 0.
    """

    def __init__(self, dilation_ratio: float = DILATION_RATIO) -> None:
        boundary_distance((1, 1), dilation_ratio)  # refuse a bad ratio here, not at a photo
        self.dilation_ratio = float(dilation_ratio)
        self._photos: dict[str, list[PhotoCounts]] = {}

    def __len__(self) -> int:
        """How many photos were added."""
        return sum(len(photos) for photos in self._photos.values())

    def update(self, group: str, pred: ArrayLike, gt: ArrayLike) -> PhotoCounts:
        """Add one photo.

        Args:
            group: the object's name.
            pred: (H, W) predicted mask.
            gt: (H, W) ground-truth mask of the same size.

        Returns:
            The photo's counts, with its own ``iou``, ``boundary_iou`` and ``accuracy``.

        Raises:
            PersamError: not a mask, or sizes that differ. Nothing is added then.
        """
        _check_group(group)
        counts = count_photo(pred, gt, self.dilation_ratio)
        self.update_counts(group, counts)
        return counts

    def update_counts(self, group: str, counts: PhotoCounts) -> None:
        """Add one photo that :func:`count_photo` counted elsewhere, such as in a worker.

        The caller answers for having counted with the same ``dilation_ratio``.
        """
        _check_group(group)
        if not isinstance(counts, PhotoCounts):
            raise PersamError(
                f"{type(counts).__name__} is not a PhotoCounts: give what count_photo() returned"
            )
        self._photos.setdefault(group, []).append(counts)

    def merge(self, other: PerSegAccumulator) -> PerSegAccumulator:
        """Add all photos of ``other``, for example of another worker.

        Returns:
            This accumulator. ``other`` stays as it was.

        Raises:
            PersamError: ``other`` measured boundaries with another ``dilation_ratio``.
        """
        if not isinstance(other, PerSegAccumulator):
            raise PersamError(
                f"{type(other).__name__} is not a PerSegAccumulator: give another worker's"
            )
        if other.dilation_ratio != self.dilation_ratio:
            raise PersamError(
                f"cannot merge scores with dilation_ratio {other.dilation_ratio} into scores "
                f"with {self.dilation_ratio}: compute both with one ratio"
            )
        # Copied first, so that merging an accumulator into itself ends.
        for group, photos in [(name, list(rows)) for name, rows in other._photos.items()]:
            self._photos.setdefault(group, []).extend(photos)
        return self

    def compute(self) -> PerSegScores:
        """Score everything added so far. The order of the photos makes no difference.

        Raises:
            PersamError: no photo was added.
        """
        if not self._photos:
            raise PersamError("there are no scores: add photos with update() before compute()")
        rows = tuple(_score_object(name, self._photos[name]) for name in sorted(self._photos))
        photos = [counts for rows_ in self._photos.values() for counts in rows_]
        return PerSegScores(
            miou=_mean(row.iou for row in rows),
            mean_boundary_iou=_mean(row.boundary_iou for row in rows),
            mean_accuracy=_mean(row.accuracy for row in rows),
            photo_miou=_mean_over(photos, lambda counts: counts.iou),
            photo_mean_boundary_iou=_mean_over(photos, lambda counts: counts.boundary_iou),
            photo_mean_accuracy=_mean_over(photos, lambda counts: counts.accuracy),
            photos=len(photos),
            dilation_ratio=self.dilation_ratio,
            objects=rows,
        )


def _score_object(name: str, photos: list[PhotoCounts]) -> ObjectScores:
    pooled = sum(photos, start=_NOTHING)
    return ObjectScores(
        name=name,
        photos=len(photos),
        iou=pooled.iou,
        boundary_iou=pooled.boundary_iou,
        accuracy=pooled.accuracy,
        photo_iou=_mean_over(photos, lambda counts: counts.iou),
        photo_boundary_iou=_mean_over(photos, lambda counts: counts.boundary_iou),
        photo_accuracy=_mean_over(photos, lambda counts: counts.accuracy),
    )


def _check_group(group: str) -> None:
    if not isinstance(group, str) or not group:
        raise PersamError(f"a photo's object is {group!r}: give the object's name, a text")


def _mean_over(photos: list[PhotoCounts], score: Callable[[PhotoCounts], float]) -> float:
    return _mean(score(counts) for counts in photos)


def _mean(values: Iterable[float]) -> float:
    # fsum is exact, so merged and sequential accumulators agree to the last bit.
    listed = list(values)
    return math.fsum(listed) / len(listed)
