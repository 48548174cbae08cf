"""The part of a form in which the object is shown in a photo that has no label: a click is enough.

What is picked becomes a label in a field of its own when the operator runs; the form writes
nothing. Each way is one entry of `WAYS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Any

import fiftyone.operators.types as types

from .base import Context, ask, choose, refuse
from .phrase import can_say, phrase_inputs, words_notice, write_phrase

WAY, PICK, SCALE, PAGE, POINT = "way", "pick", "scale", "page", "point"
REFERENCE = "reference"
SAY = "say"
PICTURE = "picture_"
PICTURE_ROWS = ("offered", "scales", "photos_offered")
# Percent of the photo's sides: where the box begins, and the point.
SIDES = {"left": 25, "top": 25, "right": 75, "bottom": 75}
CENTER = {"x": 50, "y": 50}
SCALES = ("Part", "Larger part", "Whole")


def mark_inputs(ctx: Context, inputs: Any, sample: Any) -> bool:
    """How the object is shown, and what that needs. False if the form cannot go on."""
    from fiftyone_persam.curation.forms.picking import check_photo
    from fiftyone_persam.errors import PersamError

    offered = {way: text for way, (text, _, _) in WAYS.items() if way != SAY or can_say()}
    choose(inputs, WAY, offered, "Show me your object", default=_way(ctx), radio=True)
    words_notice(inputs)
    try:
        check_photo(sample.filepath)
        return WAYS[_way(ctx)][1](ctx, inputs, sample)
    except PersamError as error:
        refuse(inputs, str(error), name="photo_problem")
        return False


def write_mark(ctx: Context, sample: Any) -> tuple[str, str]:
    """Field and id of the label for what the form marks; the label is written now."""
    from fiftyone_persam.curation.forms.picking import check_photo

    check_photo(sample.filepath)
    return WAYS[_way(ctx)][2](ctx, sample)


def _way(ctx: Context) -> str:
    given = ctx.params.get(WAY)
    return given if given in WAYS else next(iter(WAYS))


# Proposals ----------------------------------------------------------------------------------------


def proposal_inputs(ctx: Context, inputs: Any, sample: Any) -> bool:
    """The photo with numbers on what is in it, and each of that to click."""
    from fiftyone_persam.curation.forms import picking

    path = sample.filepath
    proposals = picking.offered(path)
    if not proposals:
        refuse(
            inputs,
            "Nothing was found in this photo.",
            "Choose 'A point' or 'A box' above, or another photo.",
            name="nothing_found",
        )
        return False
    pick = _number(ctx.params.get(PICK))
    if pick is None:
        ask(inputs, "Click your object: one of the small pictures.", name="pick_asked")
    else:
        _scale_inputs(ctx, inputs, path, picking.scales_at(path, pick=pick), proposal=True)
    pages = -(-len(proposals) // picking.PAGE)
    page = min(_number(ctx.params.get(PAGE)) or 0, pages - 1)
    first = page * picking.PAGE + 1
    shown = proposals[first - 1 : first - 1 + picking.PAGE]
    picture(inputs, "numbered", picking.numbered(path, shown, first), "The photo, with numbers")
    row = inputs.grid("offered", gap=1, columns=4, orientation="horizontal")
    for number, one in enumerate(shown, first):
        uri = picking.cut_out(path, one, number)
        clickable(ctx, row, "offered", uri, f"Pick {number}", {PICK: str(number)})
    if pages > 1:
        numbers = {
            str(k): f"{k * picking.PAGE + 1} to {min((k + 1) * picking.PAGE, len(proposals))}"
            for k in range(pages)
        }
        choose(inputs, PAGE, numbers, "More", default=str(page), required=False)
    listed = [str(number) for number in range(1, len(proposals) + 1)]
    choose(inputs, PICK, listed, "Or by its number", default=ctx.params.get(PICK), required=False)
    return pick is not None


def write_proposal(ctx: Context, sample: Any) -> tuple[str, str]:
    """See `write_mark`."""
    from fiftyone_persam.curation.forms.picking import picked

    chosen = picked(
        sample.filepath, pick=_number(ctx.params.get(PICK)), scale=_number(ctx.params.get(SCALE))
    )
    return _write(ctx, sample, chosen)


# A point ------------------------------------------------------------------------------------------


def point_inputs(ctx: Context, inputs: Any, sample: Any) -> bool:
    """Two sliders, the photo with the point, and what is there at three scales."""
    from fiftyone_persam.curation.forms import picking

    inputs.md("**Put the point on your object.**", name="how_to_point")
    row = inputs.grid(POINT, gap=1, columns=2, orientation="horizontal")
    for name, default in CENTER.items():
        far = "left" if name == "x" else "top"
        row.float(
            name,
            default=default,
            min=0,
            max=100,
            label=f"From the {far} (% of the photo)",
            view=types.SliderView(label_position="top", value_label_display="auto"),
        )
    point = relative_point(ctx)
    picture(inputs, "pointed", picking.pointed(sample.filepath, point), "The photo and the point")
    found = picking.scales_at(sample.filepath, point=point)
    if not found:
        refuse(inputs, "There is nothing to segment at this point.", name="pick_problem")
        return False
    return _scale_inputs(ctx, inputs, sample.filepath, found)


def relative_point(ctx: Context) -> tuple[float, float]:
    """x, y of the sliders or of a click in the panel, 0 to 1."""
    given = ctx.params.get(POINT) or {}
    x, y = (_share(given.get(name, default)) for name, default in CENTER.items())
    return x, y


def write_point(ctx: Context, sample: Any) -> tuple[str, str]:
    """See `write_mark`."""
    from fiftyone_persam.curation.forms.picking import picked

    scale = _number(ctx.params.get(SCALE))
    return _write(ctx, sample, picked(sample.filepath, point=relative_point(ctx), scale=scale))


# A box --------------------------------------------------------------------------------------------


def box_inputs(ctx: Context, inputs: Any, sample: Any) -> bool:
    """Four sliders and the photo with the box in it. False if the form cannot go on."""
    from fiftyone_persam.curation.forms.thumbnails import box_thumbnail

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
    uri = box_thumbnail(sample.filepath, box)
    view = types.ImageView(alt="The photo and the box", height="160px")
    inputs.str("box_thumbnail", default=uri, label="What is in the box", view=view)
    return True


def relative_box(ctx: Context) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 of the sliders, 0 to 1."""
    given = ctx.params.get("mark") or {}
    x0, y0, x1, y1 = (_share(given.get(name, default)) for name, default in SIDES.items())
    return x0, y0, x1, y1


def write_box(ctx: Context, sample: Any) -> tuple[str, str]:
    """See `write_mark`."""
    from fiftyone_persam.curation.labels.sizes import read_shown_size
    from fiftyone_persam.curation.segmentation.marking import mark_reference

    height, width = read_shown_size(sample.filepath)
    x0, y0, x1, y1 = relative_box(ctx)
    box = (x0 * width, y0 * height, x1 * width, y1 * height)
    field = _field(ctx)
    return field, mark_reference(sample, box, field=field)


# --------------------------------------------------------------------------------------------------

Ask = Callable[[Context, Any, Any], bool]
Write = Callable[[Context, Any], tuple[str, str]]
WAYS: dict[str, tuple[str, Ask, Write]] = {
    "propose": ("Click it", proposal_inputs, write_proposal),
    "point": ("A point", point_inputs, write_point),
    "box": ("A box", box_inputs, write_box),
    SAY: ("Say it", phrase_inputs, write_phrase),
}
"""Ways of showing the object: name -> text, what the form asks, and what writes the label."""


def _scale_inputs(
    ctx: Context, inputs: Any, path: str, found: Sequence[Any], proposal: bool = False
) -> bool:
    """What was picked, as a part or as a whole."""
    from fiftyone_persam.curation.forms import picking

    texts = ["As proposed"] if proposal else []
    scales = len(found) - len(texts)
    texts += list(SCALES[-scales:] if scales < 3 else SCALES) if scales else []
    scale = _number(ctx.params.get(SCALE))
    if scale is not None and scale >= len(found):
        scale = None
    default = 0 if proposal else max(range(len(found)), key=lambda k: found[k].score)
    chosen = default if scale is None else scale
    row = inputs.grid("scales", gap=1, columns=4, orientation="horizontal")
    for index, one in enumerate(found):
        uri = picking.cut_out(path, one)
        clickable(ctx, row, "scale", uri, texts[index], {SCALE: str(index)})
    named = {str(k): text for k, text in enumerate(texts)}
    choose(inputs, SCALE, named, "Part or whole", default=str(chosen), required=False, radio=True)
    picture(inputs, "picked", picking.numbered(path, [found[chosen]]), "Your object in the photo")
    return True


def picture(
    inputs: Any, name: str, uri: str, text: str, height: str = "220px", **more: Any
) -> None:
    """A picture in a form. Another picture has another name: the App keeps a value it has."""
    view = types.ImageView(alt=text, height=height, **more)
    inputs.str(f"{PICTURE}{name}_{zlib.crc32(uri.encode()):08x}", default=uri, view=view)


def clickable(
    ctx: Context, row: Any, name: str, uri: str, text: str, change: dict[str, Any]
) -> None:
    """A picture that opens this form again with changed values."""
    kept = {
        key: value
        for key, value in ctx.params.items()
        if not key.startswith((PICTURE, "panel_")) and key not in PICTURE_ROWS
    }
    if PICK in change or REFERENCE in change:
        kept.pop(SCALE, None)  # another thing has other parts
    if REFERENCE in change:
        kept.pop(PICK, None)
    params = {**kept, **change}
    picture(row, name, uri, text, "96px", operator=ctx.operator_uri, prompt=True, params=params)


def _write(ctx: Context, sample: Any, mask: Any) -> tuple[str, str]:
    from fiftyone_persam.curation.segmentation.marking import mark_mask

    field = _field(ctx)
    return field, mark_mask(sample, mask.mask, field=field)


def _field(ctx: Context) -> str:
    from fiftyone_persam.curation.segmentation.marking import reference_field

    return reference_field(ctx.params.get("out_field") or ctx.params["run"])


def _share(value: Any) -> float:
    return min(100.0, max(0.0, float(value))) / 100


def _number(value: Any) -> int | None:
    try:
        return None if value is None else int(value)
    except (TypeError, ValueError):
        return None
