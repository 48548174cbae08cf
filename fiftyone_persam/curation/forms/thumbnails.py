"""Small pictures of references and masks, for forms and panels."""

from __future__ import annotations

import base64
import contextlib
import io
from collections.abc import Iterator, Sequence
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ...errors import PersamError
from ...sam.photos import load_photo
from ..fiftyone_api import dataset_id, dataset_name
from ..labels.masks import named_masks, shown_mask
from ..labels.shapes import LabelPrompt, label_prompt
from ..labels.sizes import read_shown_size
from ..labels.video_frames import LabelledFrame, pixels_of
from ..runs.colours import COLOURS, colour_of, object_colours, rgb
from ..runs.record import ReferenceRecord, read_record
from ..runs.several import values_of
from ..runs.suffixes import OBJECTS

COLOUR = rgb(COLOURS[0]) or (0, 0, 0)


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
        BadReferenceError: the label is not a reference, see :func:`problem_with`
        PhotoError: the photo cannot be read
    """
    prompt, _ = label_prompt(sample, field, label_id, mask_value, several=True)
    photo = pixels_of(sample)
    return thumbnail(photo, _drawn(prompt, photo.shape[:2]), side)


def box_thumbnail(filepath: str, box: tuple[float, float, float, float], side: int = 220) -> str:
    """A photo with a box tinted, beside what is in it, as a ``data:`` URI.

    Args:
        filepath: the photo
        box: x0, y0, x1, y1 from 0 to 1
        side: length of the photo's longer side in the picture, in pixels

    Raises:
        PhotoError: the photo cannot be read
    """
    height, width = read_shown_size(filepath)
    x0, y0, x1, y1 = box
    prompt = LabelPrompt(box=(x0 * width, y0 * height, x1 * width, y1 * height))
    return thumbnail(load_photo(filepath), _drawn(prompt, (height, width)), side)


def mask_thumbnail(
    sample: Any, field: str, side: int = 220, colour: str | None = None, cut_out: bool = True
) -> str:
    """The same for whatever a run has written into a photo, however many instances that is.

    Args:
        sample: the photo
        field: where its mask is
        side: length of the photo's longer side in the picture, in pixels
        colour: of the mask, "#rrggbb"; ours if None
        cut_out: whether the object is beside it, cut out

    Raises:
        PersamError: the field holds no masks
        PhotoError: the photo or its mask cannot be read
    """
    tint = rgb(colour) or COLOUR
    return thumbnail(load_photo(sample.filepath), shown_mask(sample, field), side, tint, cut_out)


def run_thumbnail(
    dataset: Any, run: str, sample: Any, field: str, side: int = 220, cut_out: bool = True
) -> str:
    """What a run shows in a photo, in its colour; of several objects each in its own.

    Args:
        dataset: the run's dataset
        run: its name
        sample: a photo of it
        field: the run's, or one of masks corrected by hand
        side: length of the photo's longer side in the picture, in pixels
        cut_out: whether the objects are beside it, cut out

    Raises:
        PersamError: the field holds no masks
        PhotoError: the photo or its mask cannot be read
    """
    objects = read_record(dataset, run).parameters.objects
    if not objects:
        return mask_thumbnail(sample, field, side, colour_of(dataset, run), cut_out)
    photo = load_photo(sample.filepath)
    each = named_masks(sample[field], photo.shape[:2], values_of(objects))
    colours = object_colours(dataset, run, objects)
    layers = [(mask, rgb(colours.get(name)) or COLOUR) for name, mask in each.items()]
    return thumbnail(photo, shown_mask(sample, field), side, cut_out=cut_out, layers=layers)


def run_reference_thumbnail(
    dataset: Any, run: str, sample: Any = None, side: int = 220, cut_out: bool = True
) -> str | None:
    """A run's reference in the run's colour, drawn as :func:`reference_thumbnail` says.

    Args:
        dataset: the run's dataset
        run: its name
        sample: a photo of it, where each object has references of its own: that of its object is
            shown, or of several in it that which is the least sure; default: the first one
        side: length of the photo's longer side in the picture, in pixels
        cut_out: whether the object is beside it, cut out

    Returns:
        None where the reference's photo or its label is gone.
    """
    record = read_record(dataset, run)
    field, known = record.parameters.group_by, list(record.references)
    if sample is not None and field and sample.has_field(field):
        known = [one for one in known if one.group == str(sample[field])] or known
    objects, colour = record.parameters.objects, colour_of(dataset, run)
    if objects and sample is not None and sample.has_field(f"{run}{OBJECTS}"):
        there = sample[f"{run}{OBJECTS}"]
        found = sorted(there.classifications if there else (), key=lambda one: one.confidence or 0)
        known = [one for one in known if found and one.group == found[0].label] or known
    for one in [one for one in known if one.sample_id][:1]:
        colour = object_colours(dataset, run, objects).get(one.group, colour)
        for home in _homes(dataset, one):
            with contextlib.suppress(KeyError, PersamError):
                photo = home[one.sample_id]
                if one.frame is not None:
                    photo = LabelledFrame(photo, one.frame)
                prompt, _ = label_prompt(photo, one.label_field, one.label_id, one.mask_value)
                pixels = pixels_of(photo)
                tint = rgb(colour) or COLOUR
                return thumbnail(pixels, _drawn(prompt, pixels.shape[:2]), side, tint, cut_out)
    return None


def _homes(dataset: Any, reference: ReferenceRecord) -> Iterator[Any]:
    """Where the photo of a run's reference may be: in its dataset, or in the run's own.

    A clone has its original's references.
    """
    if reference.dataset_id != str(dataset_id(dataset)):
        known = reference.dataset_id
        name = dataset_name(known) if known else reference.dataset
        if name and fo.dataset_exists(name):
            yield fo.load_dataset(name)
    yield dataset


def thumbnail(
    photo: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.bool_],
    side: int,
    colour: tuple[int, int, int] = COLOUR,
    cut_out: bool = True,
    layers: Sequence[tuple[npt.NDArray[np.bool_], tuple[int, int, int]]] = (),
) -> str:
    """(H, W, 3) photo and (H, W) mask, drawn as :func:`reference_thumbnail` says.

    Without ``cut_out`` there is the photo alone, with its mask over it. ``layers`` are masks with a
    colour each, to be drawn in place of ``mask`` in one colour.
    """
    whole = Image.fromarray(photo)
    scale = side / max(whole.size)
    size = (max(1, round(whole.width * scale)), max(1, round(whole.height * scale)))
    small = whole.resize(size)
    tinted = small
    for part, tint in layers or [(mask, colour)]:
        inside = Image.fromarray(np.where(part, 255, 0).astype(np.uint8)).resize(size)
        tinted = Image.composite(Image.new("RGB", size, tint), tinted, inside.point(_half))
    canvas = tinted
    if cut_out:
        inside = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).resize(size)
        alone = Image.composite(small, Image.new("RGB", size, (24, 24, 24)), inside)
        canvas = Image.new("RGB", (2 * size[0] + 8, size[1]), (38, 38, 38))
        canvas.paste(tinted, (0, 0))
        canvas.paste(alone, (size[0] + 8, 0))
    buffer = io.BytesIO()
    canvas.save(buffer, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _half(value: int) -> int:
    return value // 2


def _drawn(prompt: LabelPrompt, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """(H, W) of the photo: the mask, the box, or a dot for each point on the object."""
    if prompt.mask is not None:
        return prompt.mask
    height, width = size
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
