"""What a FiftyOne label marks in its photo, in pixels: a mask, a box or points."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from PIL import Image

from ...errors import BadReferenceError, PersamError, did_you_mean
from ...sam.photos import load_photo
from .sizes import read_shown_size

BoolMask = npt.NDArray[np.bool_]

_LISTS = {
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
    """

    mask: BoolMask | None = None
    box: tuple[float, float, float, float] | None = None
    points: npt.NDArray[np.float64] | None = None
    labels: npt.NDArray[np.int64] | None = None

    @property
    def kind(self) -> str:
        """Which one is given."""
        return "mask" if self.mask is not None else "box" if self.box is not None else "points"

    def fingerprint(self) -> str:
        """Changes when the label does."""
        digest = hashlib.sha256(self.kind.encode())
        for part in (self.mask, self.box, self.points, self.labels):
            if part is not None:
                array = np.asarray(part)
                digest.update(repr(array.shape).encode())
                packed = np.packbits(array) if array.dtype == np.bool_ else array
                digest.update(packed.tobytes())
        return digest.hexdigest()


def label_prompt(
    sample: Any, label_field: str, label_id: str | None = None, mask_value: int | str | None = None
) -> tuple[LabelPrompt, Any]:
    """The shape that a sample's label stands for, and the label itself.

    A `fo.Segmentation` gives a mask, a `fo.Detection` its instance mask or else its box, a
    `fo.Polyline` the area it surrounds, a `fo.Keypoint` points; its ``sam_labels``, if it has any,
    say which of them are not on the object (0).

    Raises:
        BadReferenceError: see `resolve_references`.
        PhotoError: the photo cannot be read.
    """
    name = Path(sample.filepath).name
    label = _one_label(sample, label_field, label_id, name)
    where = f"the label of {name} in {label_field!r}"
    height, width = load_photo(sample.filepath).shape[:2]
    if isinstance(label, fo.Segmentation):
        mask = _segmentation_mask(label, (height, width), mask_value, where)
        return LabelPrompt(mask=mask), label
    if isinstance(label, fo.Detection):
        return _detection_prompt(label, (height, width), where), label
    if isinstance(label, fo.Polyline):
        return LabelPrompt(mask=_polyline_mask(label, (height, width), where)), label
    return _keypoint_prompt(label, (height, width), where), label


def label_mask(
    sample: Any,
    label: Any,
    where: str,
    value: int | str | None = None,
    size: tuple[int, ...] | None = None,
) -> BoolMask:
    """The (H, W) mask of everything a label covers; empty for no label.

    Args:
        sample: the label's photo.
        label: a Segmentation, Detection or Detections; boxes without a mask count as full.
        where: how a message calls the label.
        value: which value of a segmentation mask counts; all above 0 if None.
        size: (H, W) to scale the mask to; a segmentation keeps its own if None.

    Raises:
        PersamError: the mask cannot be read, or has other proportions than ``size``.
        PhotoError: the size is needed and the photo cannot be read.
    """
    try:
        return _label_mask(sample, label, where, value, size)
    except BadReferenceError as error:  # here it is no reference
        raise PersamError(str(error)) from error


# ----------------------------------------------------------------------------------------------


def _label_mask(
    sample: Any, label: Any, where: str, value: int | str | None, size: tuple[int, ...] | None
) -> BoolMask:
    raw = _read(label, where) if isinstance(label, fo.Segmentation) else None
    if raw is not None:
        mask = foreground_of(raw, value, where)
        return mask if size is None else fit_mask(mask, (size[0], size[1]), where)
    height, width = size if size is not None else read_shown_size(sample.filepath)
    mask = np.zeros((height, width), np.bool_)
    if isinstance(label, fo.Detection):
        label = fo.Detections(detections=[label])
    for instance in label.detections if isinstance(label, fo.Detections) else ():
        mask |= _instance_mask(instance, (height, width), where)
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
    kinds = (fo.Segmentation, fo.Detection, fo.Polyline, fo.Keypoint, *_LISTS)
    if not isinstance(label, kinds):
        raise BadReferenceError(
            f"{field!r} of reference {name} holds a {type(label).__name__}, which marks no object: "
            "use a Segmentation, Detection, Polyline or Keypoint"
        )
    attribute = _LISTS.get(type(label))
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
            "choose one with reference=(sample, label id)"
        )
    return instances[0]


def _segmentation_mask(
    label: Any, size: tuple[int, int], value: int | str | None, where: str
) -> BoolMask:
    raw = _read(label, where)
    if raw is None:
        raise BadReferenceError(f"{where} has no mask: draw one or choose another photo")
    mask = foreground_of(raw, value, where)
    if not mask.any():
        what = "is empty" if value is None else f"has no pixel of value {value!r}"
        raise BadReferenceError(f"{where} {what}: choose another label or photo")
    return fit_mask(mask, size, where)


def foreground_of(raw: npt.NDArray[Any], value: int | str | None, where: str) -> BoolMask:
    """The (H, W) foreground of a mask as FiftyOne has it, (H, W) or (H, W, 3).

    Args:
        raw: the mask.
        value: which value is foreground, "#rrggbb" in colour masks; all but 0 if None.
        where: how a message calls it.
    """
    if raw.ndim == 3:
        return _colour_mask(raw, value, where)
    if isinstance(value, str):
        raise BadReferenceError(f"{where} is no colour mask: mask_value is an integer, not a text")
    hit: BoolMask = np.asarray(raw > 0 if value is None else raw == value)
    return hit


def _colour_mask(raw: npt.NDArray[Any], value: int | str | None, where: str) -> BoolMask:
    colours = raw[..., :3].astype(np.int64)
    packed = (colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2]
    if value is None:
        return packed > 0
    if isinstance(value, str):
        try:
            value = int(value.removeprefix("#"), 16)
        except ValueError:
            raise BadReferenceError(
                f"{where} is a colour mask: mask_value {value!r} is no colour like '#ff0000'"
            ) from None
    return packed == value


def fit_mask(mask: BoolMask, size: tuple[int, int], where: str) -> BoolMask:
    """Scale a mask to (H, W) of its photo; FiftyOne lets masks be smaller than their photos.

    Raises:
        BadReferenceError: the mask has other proportions, so it belongs to another photo, or to
            this one before it was turned.
    """
    if mask.shape == size:
        return mask
    # Each side may be off by the rounding of one pixel of the smaller picture.
    scale_y, scale_x = mask.shape[0] / size[0], mask.shape[1] / size[1]
    slack = 1 / min(*mask.shape, *size)
    if abs(scale_y / scale_x - 1) > slack:
        raise BadReferenceError(
            f"{where} is {mask.shape[1]} x {mask.shape[0]} pixels but its photo is "
            f"{size[1]} x {size[0]} as it is shown: make both one size"
        )
    resized = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
    fitted: BoolMask = np.asarray(resized, dtype=np.bool_)
    return fitted


def _detection_prompt(label: Any, size: tuple[int, int], where: str) -> LabelPrompt:
    height, width = size
    box = _pixel_box(label, size, where)
    x0, y0 = max(box[0], 0.0), max(box[1], 0.0)
    x1, y1 = min(box[2], float(width)), min(box[3], float(height))
    if not (x1 > x0 and y1 > y0 and np.isfinite(box).all()):
        raise BadReferenceError(f"{where} has a box without area: draw it again")
    if not label.has_mask:
        return LabelPrompt(box=(x0, y0, x1, y1))
    mask = _instance_mask(label, size, where)
    if not mask.any():
        raise BadReferenceError(f"{where} has an empty mask: draw it again")
    return LabelPrompt(mask=mask)


def _pixel_box(label: Any, size: tuple[int, int], where: str) -> tuple[float, float, float, float]:
    try:
        x, y, w, h = (float(value) for value in label.bounding_box)
    except (TypeError, ValueError):
        raise BadReferenceError(f"{where} has no box: draw one or choose another label") from None
    return x * size[1], y * size[0], (x + w) * size[1], (y + h) * size[0]


def _instance_mask(label: Any, size: tuple[int, int], where: str) -> BoolMask:
    mask = np.zeros(size, np.bool_)
    box = _pixel_box(label, size, where)
    crop = _read(label, where) if label.has_mask else np.ones((1, 1), np.bool_)
    if crop is not None and crop.size:
        paste_instance(mask, np.asarray(crop.any(axis=2) if crop.ndim == 3 else crop > 0), box)
    return mask


def paste_instance(mask: BoolMask, crop: BoolMask, box: tuple[float, float, float, float]) -> None:
    """Lay an instance mask over ``box`` (x0, y0, x1, y1 in pixels) of a (H, W) mask, in place."""
    left, top = round(box[0]), round(box[1])
    width, height = max(1, round(box[2]) - left), max(1, round(box[3]) - top)
    # A mask cropped at whole pixels may differ from its box by a rounding: keep its pixels.
    if abs(crop.shape[0] - height) > 1 or abs(crop.shape[1] - width) > 1:
        scaled = Image.fromarray(crop).resize((width, height), Image.Resampling.NEAREST)
        crop = np.asarray(scaled, dtype=np.bool_)
    crop = crop[max(0, -top) :, max(0, -left) :]
    top, left = max(0, top), max(0, left)
    crop = crop[: max(0, mask.shape[0] - top), : max(0, mask.shape[1] - left)]
    mask[top : top + crop.shape[0], left : left + crop.shape[1]] |= crop


def _polyline_mask(label: Any, size: tuple[int, int], where: str) -> BoolMask:
    outline = label.copy()
    outline.points = [shape for shape in label.points or [] if len(shape) >= 3]
    if not outline.points:
        raise BadReferenceError(f"{where} surrounds no area: an outline has three points or more")
    outline.filled = outline.closed = True
    drawn = outline.to_segmentation(frame_size=(size[1], size[0]), target=255)
    mask: BoolMask = np.asarray(drawn.mask) > 0
    if not mask.any():
        raise BadReferenceError(f"{where} lies outside its photo: draw it again")
    return mask


def _keypoint_prompt(label: Any, size: tuple[int, int], where: str) -> LabelPrompt:
    relative = np.asarray(label.points or [], np.float64).reshape(-1, 2)
    signs = label["sam_labels"] if label.has_field("sam_labels") else None
    labels = np.ones(len(relative), np.int64) if signs is None else np.asarray(signs, np.int64)
    if labels.shape != (len(relative),) or not np.isin(labels, (0, 1)).all():
        raise BadReferenceError(f"{where} needs one sam_labels entry, 0 or 1, for each point")
    known = np.isfinite(relative).all(axis=1)  # FiftyOne's missing keypoints are NaN
    points = (relative * [size[1], size[0]])[known]
    labels = labels[known]
    if not (labels == 1).any():
        raise BadReferenceError(f"{where} has no point on the object: set one")
    if (points < 0).any() or (points >= (size[1], size[0])).any():
        raise BadReferenceError(f"{where} has a point outside of its photo: move it")
    return LabelPrompt(points=points, labels=labels)


def _read(label: Any, where: str) -> npt.NDArray[Any] | None:
    try:
        mask = label.get_mask()
    except Exception as error:  # OpenCV, storage and zlib each raise their own
        raise BadReferenceError(
            f"{where} cannot be read ({' '.join(str(error).split())}): check its file"
        ) from None
    return None if mask is None else np.asarray(mask)
