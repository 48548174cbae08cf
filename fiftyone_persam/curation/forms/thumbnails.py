"""Small pictures of references and masks, for forms and panels."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ...sam.photos import load_photo
from ..labels.masks import shown_mask
from ..labels.shapes import LabelPrompt, label_prompt
from ..labels.sizes import photo_size

COLOUR = (255, 109, 4)


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
    prompt, _ = label_prompt(sample, field, label_id, mask_value, several=True)
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


def _half(value: int) -> int:
    return value // 2


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
