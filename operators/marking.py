"""The part of a form in which an object is marked in a photo that has no label."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, refuse

# Percent of the photo's sides: where the box begins.
SIDES = {"left": 25, "top": 25, "right": 75, "bottom": 75}


def box_inputs(ctx: Context, inputs: Any, sample: Any) -> bool:
    """Four sliders and the photo with the box in it. False if the form cannot go on."""
    from fiftyone_persam.curation.forms.thumbnails import box_thumbnail
    from fiftyone_persam.errors import PersamError

    inputs.md(
        "**Put a box around your object**: move the four sides until it is in the box.",
        name="how_to_mark",
    )
    row = inputs.grid("mark", gap=1, columns=2, orientation="horizontal")
    for name, default in SIDES.items():
        row.int(
            name,
            default=default,
            min=0,
            max=100,
            label=f"{name.capitalize()} side (% of the photo)",
            view=types.SliderView(label_position="top", value_label_display="auto"),
        )
    box = relative_box(ctx)
    if not (box[0] < box[2] and box[1] < box[3]):
        refuse(inputs, "The box is empty.", "Left has to be before right, and top above bottom.")
        return False
    try:
        uri = box_thumbnail(sample.filepath, box)
    except PersamError as error:
        refuse(inputs, str(error), name="photo_problem")
        return False
    view = types.ImageView(alt="The photo and the box", height="160px")
    inputs.str("box_thumbnail", default=uri, label="What is in the box", view=view)
    return True


def relative_box(ctx: Context) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of the sliders, 0 to 1."""
    given = ctx.params.get("mark") or {}
    x0, y0, x1, y1 = (
        min(100.0, max(0.0, float(given.get(name, default)))) / 100
        for name, default in SIDES.items()
    )
    return x0, y0, x1, y1


def write_box(ctx: Context, sample: Any) -> tuple[str, str]:
    """Field and id of the label that the sliders stand for."""
    from fiftyone_persam.curation.labels.sizes import read_shown_size
    from fiftyone_persam.curation.segmentation.marking import FIELD, mark_reference

    height, width = read_shown_size(sample.filepath)
    x0, y0, x1, y1 = relative_box(ctx)
    box = (x0 * width, y0 * height, x1 * width, y1 * height)
    return FIELD, mark_reference(sample, box)
