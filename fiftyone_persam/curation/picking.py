"""Choosing a reference: which labels a photo offers, what is wrong with a choice, how it looks."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..errors import PersamError, problem_of
from ..sam.photos import load_photo
from .checks import LONGEST_NAME
from .fields import RunFields
from .label_masks import photo_size, shown_mask
from .label_shapes import LabelPrompt, label_prompt
from .runs import check_free, check_name, check_rename, list_runs, run_names

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
    """The values above zero in a photo's segmentation mask, with their names where known.

    Empty for other labels, for colour masks, and for masks that cannot be read.
    """
    label = sample[field] if sample.has_field(field) else None
    if not isinstance(label, fo.Segmentation) or problem_with(sample, field):
        return {}
    mask = np.asarray(label.get_mask())
    if mask.ndim != 2 or mask.dtype.kind == "b":
        return {}
    dataset = sample._dataset._root_dataset
    targets = dataset.mask_targets.get(field) or dataset.default_mask_targets or {}
    values = [int(v) for v in np.unique(mask) if v > 0]
    return {v: str(targets.get(v) or f"value {v}") for v in values}


def learnt_value(dataset: Any, run: str, field: str) -> int | str | None:
    """The value of a field's masks from which a run has learnt its object, if it was one value."""
    if run not in run_names(dataset):
        return None
    references = dataset.get_run_info(run).config.references
    values = {one["mask_value"] for one in references if one["label_field"] == field}
    return values.pop() if len(values) == 1 else None


def problem_with(
    sample: Any, field: str, label_id: str | None = None, mask_value: int | str | None = None
) -> str | None:
    """What keeps a label from being a reference, in one line, or None if nothing does."""
    if not Path(sample.filepath).is_file():
        return f"the photo {Path(sample.filepath).name} is not on the disk: choose another one"
    try:
        label_prompt(sample, field, label_id, mask_value)
    except PersamError as error:
        return str(error)
    return None


def free_name(dataset: Any, base: str = "object") -> str:
    """A field name made of ``base`` that a run can have, whatever it writes beside its masks."""
    stem = re.sub(r"[^a-z0-9_]+", "_", base.strip().lower()).strip("_") or "object"
    if stem[0].isdigit():
        stem = f"object_{stem}"
    stem = stem[: LONGEST_NAME - 10]
    name, number = stem, 1
    while name in run_names(dataset) or problem_with_name(
        dataset, name, label_type="both", similarity=True, prompts=True
    ):
        number += 1
        name = f"{stem}_{number}"
    return name


def problem_with_name(
    dataset: Any,
    name: Any,
    label_type: str = "segmentation",
    similarity: bool = False,
    prompts: bool = False,
) -> str | None:
    """What keeps ``name`` from being that of a run, in one line, or None.

    A run that is there can be gone on with; a new one needs all its fields, see `segment`.
    """
    try:
        check_name(name)
        if name not in run_names(dataset):
            check_free(dataset, RunFields(name, label_type, similarity, prompts))
    except PersamError as error:
        return str(error)
    return None


def problem_with_new_name(dataset: Any, run: str, new_name: Any) -> str | None:
    """What keeps a run from being renamed, in one line, or None."""
    return problem_of(check_rename, dataset, run, new_name)


@dataclass(frozen=True)
class Estimate:
    """How long a run will take, judged by an earlier one on this machine."""

    seconds: float
    photos_per_second: float
    device: str
    run: str


def estimate(dataset: Any, model: str, method: str, photos: int) -> Estimate | None:
    """How long ``photos`` photos will take, from the newest run of the same model.

    A run of the same method is preferred. Runs that found photos in a cache of embeddings do not
    count: they say little about photos that nobody has encoded. None where no such run has ended.
    """
    ended = [
        run for run in list_runs(dataset) if run.config.model == model and _all_encoded(run.timings)
    ]
    same = [run for run in ended if run.config.method == method]
    if not ended:
        return None
    run = (same or ended)[-1]
    rate = float(run.timings["photos_per_second"])
    return Estimate(photos / rate, rate, str(run.config.device), run.name)


def reference_thumbnail(
    sample: Any,
    field: str,
    label_id: str | None = None,
    mask_value: int | str | None = None,
    side: int = 220,
) -> str:
    """The photo with its label tinted, beside the labelled object alone, as a ``data:`` URI.

    Args:
        sample: the photo
        field: its label field
        label_id: which instance, where there are several
        mask_value: which value of a segmentation mask; default: all above 0
        side: length of the photo's longer side in the picture, in pixels

    Raises:
        BadReferenceError: the label is no reference, see :func:`problem_with`
        PhotoError: the photo cannot be read
    """
    prompt, _ = label_prompt(sample, field, label_id, mask_value)
    return thumbnail(load_photo(sample.filepath), _drawn(prompt, sample.filepath), side)


def mask_thumbnail(sample: Any, field: str, side: int = 220) -> str:
    """The same for whatever a run has written into a photo, however many instances that is.

    Raises:
        PersamError: the field holds no masks
        PhotoError: the photo or its mask cannot be read
    """
    return thumbnail(load_photo(sample.filepath), shown_mask(sample, field), side)


def thumbnail(photo: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], side: int) -> str:
    """(H, W, 3) photo and (H, W) mask, drawn as :func:`reference_thumbnail` says."""
    whole = Image.fromarray(photo)
    scale = side / max(whole.size)
    size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    small = whole.resize(size)
    inside = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(size)
    tinted = Image.composite(Image.new("RGB", size, COLOUR), small, inside.point(_half))
    alone = Image.composite(small, Image.new("RGB", size, (24, 24, 24)), inside)
    canvas = Image.new("RGB", (2 * size[0] + 8, size[1]), (38, 38, 38))
    canvas.paste(tinted, (0, 0))
    canvas.paste(alone, (size[0] + 8, 0))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


# ----------------------------------------------------------------------------------------------


def _all_encoded(timings: dict[str, Any]) -> bool:
    photos = timings.get("photos") or 0
    encoded = timings.get("photos_encoded", photos)
    # Photos that could not be read are not encoded either: a few of them are no cache.
    return bool(timings.get("photos_per_second")) and encoded >= 0.9 * photos


def _half(value: int) -> int:
    return value // 2


def _instances(label: Any) -> list[Any]:
    for kind, attribute in INSTANCES.items():
        if isinstance(label, kind):
            return list(getattr(label, attribute))
    return [label]


def _drawn(prompt: LabelPrompt, filepath: str) -> npt.NDArray[np.bool_]:
    """(H, W) of the photo: the mask, the box, or a dot for each point on the object."""
    if prompt.mask is not None:
        return prompt.mask
    height, width = photo_size(filepath)
    canvas = Image.new("1", (width, height))
    draw = ImageDraw.Draw(canvas)
    if prompt.box is not None:
        draw.rectangle(prompt.box, fill=1)
    elif prompt.points is not None and prompt.labels is not None:
        radius = max(3.0, max(width, height) / 60)
        for x, y in prompt.points[prompt.labels == 1]:
            draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=1)
    drawn: npt.NDArray[np.bool_] = np.asarray(canvas, dtype=np.bool_)
    return drawn
