"""Choosing a reference: which labels a photo offers, what is wrong with a choice, how it looks."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..errors import PersamError, PhotoError
from .label_masks import union_mask

LABEL_TYPES = (
    fo.Segmentation,
    fo.Detections,
    fo.Detection,
    fo.Polylines,
    fo.Polyline,
    fo.Keypoints,
    fo.Keypoint,
)
INSTANCES = {fo.Detections: "detections", fo.Polylines: "polylines", fo.Keypoints: "keypoints"}
COLOUR = (255, 109, 4)


def label_fields(collection: Any) -> list[str]:
    """The fields of a collection whose labels can be a reference."""
    names = []
    for name, field in collection.get_field_schema(embedded_doc_type=LABEL_TYPES).items():
        if field.document_type is not None:
            names.append(name)
    return names


def labels_of(sample: Any, field: str) -> dict[str, str]:
    """The instances a photo has in a field: label id and what to call it. Empty for none.

    A segmentation counts as one instance; its ids are those of FiftyOne's labels.
    """
    label = sample[field] if sample.has_field(field) else None
    if label is None:
        return {}
    instances = _instances(label)
    if len(instances) == 1 and not isinstance(label, tuple(INSTANCES)):
        return {instances[0].id: getattr(label, "label", None) or field}
    names = [getattr(one, "label", None) or "object" for one in instances]
    return {
        one.id: name if names.count(name) == 1 else f"{name} ({i + 1} of {len(names)})"
        for i, (one, name) in enumerate(zip(instances, names, strict=True))
    }


def mask_values(sample: Any, field: str) -> dict[int, str]:
    """The values above zero in a photo's segmentation mask, with their names where known."""
    label = sample[field] if sample.has_field(field) else None
    if not isinstance(label, fo.Segmentation):
        return {}
    mask = _mask_of(sample, label, field)
    if mask.ndim != 2 or mask.dtype.kind == "b":
        return {}
    dataset = sample._dataset
    targets = dataset.mask_targets.get(field) or dataset.default_mask_targets or {}
    values = [int(v) for v in np.unique(mask) if v > 0]
    return {v: str(targets.get(v) or targets.get(str(v)) or f"value {v}") for v in values}


def problem_with(
    sample: Any, field: str, label_id: str | None = None, mask_value: int | None = None
) -> str | None:
    """What keeps a label from being a reference, in one line, or None if nothing does."""
    name = Path(sample.filepath).name
    if not sample.has_field(field):
        return f"This dataset has no field {field!r}: choose another."
    if not Path(sample.filepath).is_file():
        return f"The photo {name} is not on the disk: choose another reference."
    label = sample[field]
    instances = [] if label is None else _instances(label)
    if not instances:
        return f"{name} has no label in {field!r}: label the object there or choose another photo."
    if label_id is not None:
        instances = [one for one in instances if one.id == label_id]
        if not instances:
            return f"{name} has no label with id {label_id} in {field!r}: choose one of its labels."
    elif len(instances) > 1:
        return f"{name} has {len(instances)} labels in {field!r}: choose one of them."
    try:
        return _problem_with_shape(sample, instances[0], field, mask_value)
    except PersamError as error:
        return str(error)


def _problem_with_shape(sample: Any, one: Any, field: str, mask_value: int | None) -> str | None:
    name = Path(sample.filepath).name
    if isinstance(one, fo.Segmentation):
        mask = _mask_of(sample, one, field)
        hit = mask > 0 if mask_value is None else mask == mask_value
        if not hit.any():
            what = "is empty" if mask_value is None else f"has no pixel of value {mask_value}"
            return f"The mask of {name} in {field!r} {what}: choose another photo."
    elif isinstance(one, fo.Detection):
        width, height = one.bounding_box[2:]
        if width <= 0 or height <= 0:
            return f"The box of {name} in {field!r} has no area: choose another label."
        if one.has_mask and not _mask_of(sample, one, field).any():
            return f"The mask of {name} in {field!r} is empty: choose another label."
    elif not getattr(one, "points", None):
        return f"The label of {name} in {field!r} has no points: choose another label."
    return None


def free_name(dataset: Any, base: str = "object") -> str:
    """A field name made of ``base`` that no field or run of the dataset has yet."""
    stem = re.sub(r"\W+", "_", base.strip().lower()).strip("_") or "object"
    if stem[0].isdigit():
        stem = f"object_{stem}"
    taken = {*dataset.get_field_schema(), *dataset.list_runs()}
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def problem_with_name(dataset: Any, name: Any) -> str | None:
    """What keeps ``name`` from being the field of a new run, in one line, or None."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-zA-Z][a-zA-Z0-9_]*", name):
        return "Use letters, digits and underscores, beginning with a letter."
    if name in dataset.list_runs():
        return None
    if name in dataset.get_field_schema():
        return f"The dataset has a field {name!r} that no run has written: choose another name."
    return None


def reference_thumbnail(
    sample: Any,
    field: str,
    label_id: str | None = None,
    mask_value: int | None = None,
    side: int = 220,
) -> str:
    """The reference photo with its label drawn in, beside the object alone, as a ``data:`` URI.

    Args:
        sample: the reference
        field: its label field
        label_id: which instance; default: all
        mask_value: which value of a segmentation mask; default: all above 0
        side: height of the picture, in pixels

    Raises:
        PhotoError: if the photo cannot be read
    """
    from ..sam.photos import load_photo

    photo = Image.fromarray(load_photo(sample.filepath))
    scale = side / max(photo.size)
    small = photo.resize((max(1, round(photo.width * scale)), max(1, round(photo.height * scale))))
    label = sample[field]
    chosen = [one for one in _instances(label) if label_id in (None, one.id)]
    mask = _drawn_mask(sample, chosen, field, mask_value, photo.size).resize(small.size)

    tinted = Image.composite(Image.new("RGB", small.size, COLOUR), small, mask.point(_half))
    alone = Image.composite(small, Image.new("RGB", small.size, (24, 24, 24)), mask)
    canvas = Image.new("RGB", (2 * small.width + 8, small.height), (38, 38, 38))
    canvas.paste(tinted, (0, 0))
    canvas.paste(alone, (small.width + 8, 0))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


# ----------------------------------------------------------------------------------------------


def _half(value: int) -> int:
    return value // 2


def _instances(label: Any) -> list[Any]:
    for kind, attribute in INSTANCES.items():
        if isinstance(label, kind):
            return list(getattr(label, attribute))
    return [label]


def _mask_of(sample: Any, label: Any, field: str) -> npt.NDArray[Any]:
    try:
        mask = label.get_mask()
    except Exception as error:
        raise PhotoError(
            f"The mask file of {Path(sample.filepath).name} in {field!r} cannot be read ({error})."
        ) from error
    if mask is None:
        raise PhotoError(f"The label of {Path(sample.filepath).name} in {field!r} has no mask.")
    return np.asarray(mask)


def _drawn_mask(
    sample: Any, chosen: list[Any], field: str, mask_value: int | None, size: tuple[int, int]
) -> Image.Image:
    """An "L" image of the photo's size with the label's shape in white."""
    width, height = size
    canvas = Image.new("L", size)
    draw = ImageDraw.Draw(canvas)
    for one in chosen:
        if isinstance(one, fo.Segmentation):
            mask = _mask_of(sample, one, field)
            hit = mask > 0 if mask_value is None else mask == mask_value
            if hit.ndim == 3:
                hit = hit.any(axis=2)
            canvas = Image.fromarray(np.where(hit, 255, 0).astype(np.uint8)).resize(size)
        elif isinstance(one, fo.Detection):
            union = union_mask(one, (height, width))
            canvas = Image.fromarray(np.where(union, 255, 0).astype(np.uint8))
        elif isinstance(one, fo.Polyline):
            for shape in one.points:
                corners = [(x * width, y * height) for x, y in shape]
                if one.filled or one.closed:
                    draw.polygon(corners, fill=255)
                else:
                    draw.line(corners, fill=255, width=max(2, width // 100))
        else:
            radius = max(3, max(size) / 60)
            for x, y in one.points:
                if x == x and y == y:  # missing keypoints are NaN
                    cx, cy = x * width, y * height
                    draw.ellipse((cx - radius, cy - radius, cx + radius, cy + radius), fill=255)
    return canvas
