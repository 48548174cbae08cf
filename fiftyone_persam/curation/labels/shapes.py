"""What a FiftyOne label marks in its photo, in pixels: a mask, a box or points."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import BadReferenceError, PersamError, did_you_mean
from ...sam.masks import fit_mask as fit_to_photo
from ...sam.masks import object_in
from ...sam.pasting import FARTHEST, paste_instance
from ..fiftyone_api import dataset_of_sample
from .pixels import found_object, mask_pixels, targets_of
from .sizes import read_shown_size
from .video_frames import LabelledFrame, pixels_of

BoolMask = npt.NDArray[np.bool_]


INSTANCES = {
    fo.Detections: "detections",
    fo.Polylines: "polylines",
    fo.Keypoints: "keypoints",
}


@dataclass(frozen=True, eq=False)
class LabelPrompt:
    """What a label stands for, in pixels of its upright photo; exactly one is given.

    Attributes:
        mask: (H, W) bool.
        box: x0, y0, x1, y1.
        points: (n, 2) x, y.
        labels: (n,) 1 or 0, with ``points``.
        threshold: value above which a pixel of a soft ``mask`` counts; None if it was not soft.
        channel: (H, W) uint8 first channel of a whole ``mask`` that is a picture; else None.
    """

    mask: BoolMask | None = None
    box: tuple[float, float, float, float] | None = None
    points: npt.NDArray[np.float64] | None = None
    labels: npt.NDArray[np.int64] | None = None
    threshold: float | None = None
    channel: npt.NDArray[np.uint8] | None = None

    @property
    def kind(self) -> str:
        """Which one is given."""
        return "mask" if self.mask is not None else "box" if self.box is not None else "points"

    def to_dict(self) -> dict[str, Any]:
        """A box or points as plain values."""
        parts = {"box": self.box, "points": self.points, "labels": self.labels}
        return {k: np.asarray(v).tolist() for k, v in parts.items() if v is not None}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> LabelPrompt:
        """What `to_dict` gave."""
        if "box" in values:
            x0, y0, x1, y1 = values["box"]
            return cls(box=(x0, y0, x1, y1))
        points, labels = np.array(values["points"], float), np.array(values["labels"], np.int64)
        return cls(points=points, labels=labels)

    def fingerprint(self) -> str:
        """Changes when the label does."""
        digest = hashlib.sha256(self.kind.encode())
        for part in (self.mask, self.box, self.points, self.labels, self.channel):
            if part is not None:
                array = np.asarray(part)
                digest.update(repr(array.shape).encode())
                packed = np.packbits(array) if array.dtype == np.bool_ else array
                digest.update(packed.tobytes())
        return digest.hexdigest()


def label_prompt(
    sample: Any,
    label_field: str,
    label_id: str | None = None,
    mask_value: int | str | None = None,
    several: bool = False,
) -> tuple[LabelPrompt, Any]:
    """The shape that a sample's label stands for, and the label itself.

    A `fo.Segmentation` gives a mask, a `fo.Detection` its instance mask or else its box, a
    `fo.Polyline` the area it surrounds, a `fo.Keypoint` points; its ``sam_labels``, if it has any,
    say which of them are not on the object (0). Several classes in a segmentation's mask are asked
    about unless ``mask_value`` chooses one, or ``several`` takes them all.

    Raises:
        BadReferenceError: see `resolve_references`.
        PhotoError: the photo cannot be read.
    """
    name = Path(sample.filepath).name
    label = _one_label(sample, label_field, label_id, name)
    where = f"the label of {name} in {label_field!r}"
    height, width = pixels_of(sample).shape[:2]
    size = (height, width)
    try:
        if isinstance(label, fo.Segmentation):
            targets = targets_of(dataset_of_sample(sample), label_field)
            return _segmentation_prompt(label, size, mask_value, targets, where, several), label
        if isinstance(label, fo.Detection):
            return _detection_prompt(label, size, where), label
        if isinstance(label, fo.Polyline):
            return LabelPrompt(mask=_polyline_mask(label, size, where)), label
        return _keypoint_prompt(label, size, where), label
    except BadReferenceError:
        raise
    except PersamError as error:
        raise BadReferenceError(str(error)) from None


def only_label(sample: Any, field: Any) -> str | None:
    """The id of the one label of a list that a sample shows; None if that is none or several."""
    label = sample[field] if isinstance(field, str) and sample.has_field(field) else None
    attribute = INSTANCES.get(type(label))
    shown = [] if attribute is None else list(getattr(label, attribute))
    return str(shown[0].id) if len(shown) == 1 else None


def label_mask(
    sample: Any,
    label: Any,
    where: str,
    value: int | str | None = None,
    size: tuple[int, ...] | None = None,
    field: str | None = None,
) -> BoolMask:
    """The (H, W) mask of everything a label covers; empty for no label.

    Args:
        sample: the label's photo.
        label: a Segmentation, Detection or Detections; boxes without a mask count as full.
        where: how a message calls the label.
        value: which value, colour or class of a segmentation mask counts; all but the background
            if None.
        size: (H, W) to scale the mask to; a segmentation keeps its own if None.
        field: the label's field, whose ``mask_targets`` name classes.

    Raises:
        PersamError: the mask cannot be read, or has other proportions than ``size``.
        PhotoError: the size is needed and the photo cannot be read.
    """
    try:
        return _label_mask(sample, label, where, value, size, field)
    except BadReferenceError as error:  # here it is not a reference
        raise PersamError(str(error)) from error


# ----------------------------------------------------------------------------------------------


def _label_mask(
    sample: Any,
    label: Any,
    where: str,
    value: int | str | None,
    size: tuple[int, ...] | None,
    field: str | None,
) -> BoolMask:
    if isinstance(label, fo.Segmentation):
        targets = None if field is None else targets_of(dataset_of_sample(sample), field)
        found = found_object(label, where, value, targets)
        if found is not None:
            return found.mask if size is None else fit_mask(found.mask, (size[0], size[1]), where)
    height, width = size if size is not None else read_shown_size(sample.filepath)
    mask = np.zeros((height, width), np.bool_)
    if isinstance(label, fo.Detection):
        label = fo.Detections(detections=[label])
    for instance in label.detections if isinstance(label, fo.Detections) else ():
        lay_instance(mask, instance, where)
    return mask


def _one_label(sample: Any, field: str, label_id: str | None, name: str) -> Any:
    if not isinstance(field, str) or not sample.has_field(field):
        raise BadReferenceError(
            f"reference {name} has no field {field!r}: label_field names the reference's label"
            f"{did_you_mean(field, sample.field_names)}"
        )
    label = sample[field]
    if label is None:
        raise BadReferenceError(f"reference {name} has no label in {field!r}: label the object")
    kinds = (fo.Segmentation, fo.Detection, fo.Polyline, fo.Keypoint, *INSTANCES)
    if not isinstance(label, kinds):
        raise BadReferenceError(
            f"{field!r} of reference {name} holds a {type(label).__name__}, which marks no object: "
            "use a Segmentation, Detection, Polyline or Keypoint"
        )
    attribute = INSTANCES.get(type(label))
    instances = [label] if attribute is None else list(getattr(label, attribute))
    if label_id is not None:
        instances = [one for one in instances if one.id == label_id]
        if not instances:
            raise BadReferenceError(
                f"reference {name} has no label with id {label_id!r} in {field!r}: "
                "give the id of one of its labels"
            )
    if not instances:
        raise BadReferenceError(f"reference {name} has no label in {field!r}: label the object")
    if len(instances) > 1:
        raise BadReferenceError(
            f"reference {name} has {len(instances)} labels in {field!r}: "
            f"choose one with reference=({_place(sample)}, label id)"
        )
    return instances[0]


def _place(sample: Any) -> str:
    return "sample, frame number" if isinstance(sample, LabelledFrame) else "sample"


def _segmentation_prompt(
    label: Any,
    size: tuple[int, int],
    value: int | str | None,
    targets: dict[Any, str],
    where: str,
    several: bool,
) -> LabelPrompt:
    pixels = mask_pixels(label, where)
    if pixels is None:
        raise BadReferenceError(f"{where} has no mask: draw one or choose another photo")
    found = object_in(pixels, value, targets, where, several)
    if not found.mask.any():
        what = "is empty" if value is None else f"has no pixel of value {value!r}"
        if found.threshold is not None:
            what = f"has no pixel above {found.threshold:g}"
        raise BadReferenceError(f"{where} {what}: choose another label or photo")
    mask = fit_mask(found.mask, size, where)
    # One class among several is not a picture of its own, and neither is an array of bool.
    whole = value is None and not several
    drawn = label.mask_path or pixels.values is None or pixels.values.dtype != np.bool_
    channel = pixels.first_channel() if whole and drawn else None
    if channel is not None and channel.shape != size:
        channel = np.asarray(Image.fromarray(channel).resize(size[::-1], Image.Resampling.NEAREST))
    return LabelPrompt(mask=mask, threshold=found.threshold, channel=channel)


def fit_mask(mask: BoolMask, size: tuple[int, int], where: str) -> BoolMask:
    """Scale a mask to (H, W) of its photo; FiftyOne lets masks be smaller than their photos.

    Raises:
        BadReferenceError: the mask has other proportions, so it belongs to another photo, or to
            this one before it was turned.
    """
    try:
        return fit_to_photo(mask, size, where, scaled=True)
    except PersamError as error:
        raise BadReferenceError(str(error)) from None


def _detection_prompt(label: Any, size: tuple[int, int], where: str) -> LabelPrompt:
    height, width = size
    box = _pixel_box(label, size, where)
    x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
    x1, y1 = min(box[2], float(width)), min(box[3], float(height))
    if not (x1 > x0 and y1 > y0):
        raise BadReferenceError(f"{where} has a box without area: draw it again")
    if not label.has_mask:
        return LabelPrompt(box=(x0, y0, x1, y1))
    mask = np.zeros(size, np.bool_)
    threshold = lay_instance(mask, label, where)
    if not mask.any():
        raise BadReferenceError(f"{where} has an empty mask: draw it again")
    return LabelPrompt(mask=mask, threshold=threshold)


def _pixel_box(label: Any, size: tuple[int, int], where: str) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = (float(value) for value in label.bounding_box)
    except (TypeError, ValueError):
        raise BadReferenceError(f"{where} has no box: draw one or choose another label") from None
    _check_relative((x, y, x + w, y + h), where, f"a box {list(label.bounding_box)}")
    return x * size[1], y * size[0], (x + w) * size[1], (y + h) * size[0]


def _check_relative(values: Any, where: str, what: str) -> None:
    """Raise unless these are shares of the photo's sides, give or take what lies beside it."""
    numbers = np.asarray(values, np.float64)
    if not np.isfinite(numbers).all():
        raise BadReferenceError(f"{where} has {what} with NaN or infinity: draw it again")
    if np.abs(numbers).max(initial=0) > FARTHEST:
        raise BadReferenceError(
            f"{where} has {what}, far outside of its photo: FiftyOne's coordinates are shares of "
            "the photo's width and height, so divide by them"
        )


def lay_instance(mask: BoolMask, label: Any, where: str) -> float | None:
    """Lay a detection over a (H, W) mask, in place; without a mask of its own, all of its box.

    Returns:
        The threshold that its own mask had, if that was soft.

    Raises:
        PersamError: it has no box, an absurd one, or a mask that cannot be read.
    """
    box = _pixel_box(label, (mask.shape[0], mask.shape[1]), where)
    found = found_object(label, where)
    paste_instance(mask, np.ones((1, 1), np.bool_) if found is None else found.mask, box)
    return None if found is None else found.threshold


def _polyline_mask(label: Any, size: tuple[int, int], where: str) -> BoolMask:
    outline = label.copy()
    try:
        shapes = [np.asarray(shape, np.float64).reshape(-1, 2) for shape in label.points or []]
    except (TypeError, ValueError):
        raise BadReferenceError(f"{where} has points that are not x, y: draw it again") from None
    for shape in shapes:
        _check_relative(shape, where, "a point")
    outline.points = [shape.tolist() for shape in shapes if len(shape) >= 3]
    if not outline.points:
        raise BadReferenceError(f"{where} surrounds no area: an outline has three points or more")
    outline.filled = outline.closed = True
    drawn = outline.to_segmentation(frame_size=(size[1], size[0]), target=255)
    mask: BoolMask = np.asarray(drawn.mask) > 0
    if not mask.any():
        raise BadReferenceError(f"{where} lies outside its photo: draw it again")
    return mask


def _keypoint_prompt(label: Any, size: tuple[int, int], where: str) -> LabelPrompt:
    try:
        relative = np.asarray(label.points or [], np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise BadReferenceError(f"{where} has points that are not x, y: set them again") from None
    signs = label["sam_labels"] if label.has_field("sam_labels") else None
    try:
        labels = np.ones(len(relative), np.int64) if signs is None else np.asarray(signs, np.int64)
    except (TypeError, ValueError, OverflowError):
        labels = np.empty(0, np.int64)
    if labels.shape != (len(relative),) or not np.isin(labels, (0, 1)).all():
        raise BadReferenceError(
            f"{where} needs one sam_labels entry, 0 or 1, for each point: set them"
        )
    known = np.isfinite(relative).all(axis=1)  # FiftyOne's missing keypoints are NaN
    points = (relative * [size[1], size[0]])[known]
    labels = labels[known]
    if not (labels == 1).any():
        raise BadReferenceError(f"{where} has no point on the object: set one")
    if (points < 0).any() or (points >= (size[1], size[0])).any():
        raise BadReferenceError(f"{where} has a point outside of its photo: move it")
    return LabelPrompt(points=points, labels=labels)
