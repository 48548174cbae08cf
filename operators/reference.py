"""The part of a form in which the reference is chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone.operators.types as types
from bson import ObjectId
from fiftyone import ViewField as F

from fiftyone_persam.curation.fiftyone_api import is_patches

from .base import Context, ask, choose, mask_value_of, notice, refuse
from .marking import clickable, mark_inputs, write_mark

ROLE, REFERENCE = "role", "reference"
FIELD = ""  # of an object that the form marks: it is made when the operator runs
OFFERED = 8
"""Photos that are shown at once where none is selected."""
LOOKED_AT = 200
"""Photos that can be turned over in the form; others are selected in the grid."""


@dataclass(frozen=True)
class ChosenReference:
    """The reference that a form's values stand for."""

    sample: Any
    label_field: str
    label_id: str | None = None
    mask_value: int | str | None = None
    marked: bool = False
    """Whether the form marks the object: the label is written when the operator runs."""


def candidates(ctx: Context) -> list[str]:
    """Ids of the photos that may be meant: the selected label's, the opened one, selected ones."""
    ids = [label["sample_id"] for label in ctx.selected_labels or []]
    if ctx.current_sample:
        ids.append(ctx.current_sample)
    ids += ctx.selected or []
    photos = {patch: label["sample_id"] for patch, label in _patches(ctx).items()}
    return list(dict.fromkeys(photos.get(i, i) for i in ids))


def _patches(ctx: Context) -> dict[str, dict[str, str]]:
    """The selected and opened patches, by id, as the App describes selected labels."""
    view = ctx.view
    if not is_patches(view):
        return {}
    from fiftyone_persam.curation.forms.references import label_fields

    ids = [ctx.current_sample, *(ctx.selected or [])]
    rows = view.select([i for i in ids if i]).values(["id", "sample_id"])
    field = next(iter(label_fields(view)), "")
    # A patch has the id of its label.
    return {
        patch: {"sample_id": sample, "label_id": patch, "field": field}
        for patch, sample in zip(*rows, strict=True)
    }


def reference_inputs(
    ctx: Context, inputs: Any, preferred: Sequence[str] = ()
) -> ChosenReference | None:
    """Add the inputs for one reference photo. None if the form cannot go on without a choice.

    Args:
        ctx: the operator's
        inputs: the form
        preferred: label fields to take before others where the photo has a label in them
    """
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.forms.references import (
        label_fields,
        labels_of,
        mask_values,
        problem_with,
    )

    ids = [i for i in (ctx.params.get("reference"), *candidates(ctx)) if isinstance(i, str)]
    ids = list(dict.fromkeys(ids))
    ids = [i for i in ids if ObjectId.is_valid(i)]
    samples = {s.id: s for s in photos_of(ctx.dataset).select(ids)} if ids else {}
    ids = [i for i in ids if i in samples]
    given = ctx.params.get("reference")
    if given is not None and not (isinstance(given, str) and given in samples):
        refuse(inputs, f"This dataset has no photo {given!r}: select one.", name="no_reference")
        return None
    chosen = given if given in samples else next(iter(ids), None)
    if chosen is None or ctx.params.get("photo_page") is not None:
        offered = _photo_inputs(ctx, inputs)
        if chosen is None:
            chosen = offered[0].id if len(offered) == 1 else None
        samples |= {one.id: one for one in offered}
    if chosen is None:
        if offered:
            ask(
                inputs,
                "Click the photo that shows your object.",
                "Or select it in the grid and start this operator again.",
                name="no_reference",
            )
        return None
    choose(
        inputs,
        "reference",
        {i: Path(samples[i].filepath).name for i in dict.fromkeys([*ids, *samples])},
        "Reference photo",
        default=chosen,
        description="The photo that shows which object is meant",
    )
    sample = samples[chosen]

    fields = label_fields(ctx.dataset)
    if not fields and not ctx.params.get("literal"):
        notice(inputs, "no_labels", "This dataset has no labels: show your object here.")
        return _marked(ctx, inputs, sample)
    if not fields:
        refuse(inputs, "This dataset has no labels.", "Label the object in one photo first.")
        return None
    field = ctx.params.get("label_field")
    labels = [*(ctx.selected_labels or []), *_patches(ctx).values()]
    if field not in fields:
        shown = [one["field"] for one in labels if one["sample_id"] == sample.id]
        shown = [one for one in shown if one in fields]
        field = shown[0] if shown else _likely_field(ctx, sample, fields, preferred)
    choose(inputs, "label_field", fields, "Label field", default=field)

    selected = [
        label["label_id"]
        for label in labels
        if label["sample_id"] == sample.id and label["field"] == field
    ]
    label_id = ctx.params.get("label_id") or (selected[0] if len(selected) == 1 else None)
    instances = labels_of(sample, field)
    if len(instances) > 1:
        # Not required: the refusal below says more than FiftyOne's "Required property".
        choose(inputs, "label_id", instances, "Which object", default=label_id, required=False)
    value = ctx.params.get("mask_value")
    values = mask_values(sample, field)
    if len(values) > 1:
        # Not required either: the refusal below names the classes.
        named = {str(v): name for v, name in values.items()}
        choose(inputs, "mask_value", named, "Which mask value", required=False)
    problem = problem_with(sample, field, label_id, mask_value_of(value))
    if len(instances) > 1 and label_id not in instances:
        name = Path(sample.filepath).name
        problem = f"{name} has {len(instances)} labels in {field!r}: choose one above."
    if not ctx.params.get("literal"):
        # Nothing else can be meant in a photo that has no label.
        needed = bool(problem) and not instances
        inputs.bool(
            "mark_here",
            default=needed,
            label="Show the object in this photo" if needed else "Show another object in it",
            description=problem if needed else "By a click, a point or a box",
            view=types.CheckboxView(),
        )
        if ctx.params.get("mark_here", needed):
            return _marked(ctx, inputs, sample)
    if problem:
        refuse(inputs, problem, name="reference_problem")
        return None
    reference = ChosenReference(sample, field, label_id, mask_value_of(value))
    thumbnail_input(inputs, reference)
    return reference


def chosen_reference(ctx: Context) -> ChosenReference:
    """The reference that was chosen, when the operator runs."""
    from fiftyone_persam.curation.forms.references import label_fields

    sample = ctx.dataset[ctx.params["reference"]]
    unlabelled = ctx.params.get("mark_here") or not label_fields(ctx.dataset)
    if unlabelled and not ctx.params.get("literal"):
        ctx.params["mark_here"] = True  # also when asked again: the mark is a label by then
        return ChosenReference(sample, *write_mark(ctx, sample))
    value = ctx.params.get("mask_value")
    return ChosenReference(
        sample,
        ctx.params.get("label_field", "ground_truth"),
        ctx.params.get("label_id"),
        mask_value_of(value),
    )


def _marked(ctx: Context, inputs: Any, sample: Any) -> ChosenReference | None:
    """The object that the form marks, or None where that is not finished."""
    return ChosenReference(sample, FIELD, marked=True) if mark_inputs(ctx, inputs, sample) else None


def _photo_inputs(ctx: Context, inputs: Any) -> list[Any]:
    """Photos to click where none is selected: those with labels first. The photos shown."""
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.forms.photos import photos_behind
    from fiftyone_persam.curation.forms.picking import photo_thumbnail
    from fiftyone_persam.curation.forms.references import label_fields
    from fiftyone_persam.errors import PersamError

    photos = photos_of(photos_behind(ctx.view))
    labelled = [photos.exists(field).limit(LOOKED_AT) for field in label_fields(ctx.dataset)]
    found = [i for view in (*labelled, photos.limit(LOOKED_AT)) for i in view.values("id")]
    ids = list(dict.fromkeys(found))[:LOOKED_AT]
    if len(ids) == 1:
        return list(photos)
    pages = -(-len(ids) // OFFERED)
    if not pages:
        refuse(inputs, "There is no photo here: clear the filters.", name="no_reference")
        return []
    page = ctx.params.get("photo_page")
    page = min(int(page), pages - 1) if str(page or "").isdigit() else 0
    shown = list(photos.select(ids[page * OFFERED : (page + 1) * OFFERED], ordered=True))
    row = inputs.grid("photos_offered", gap=1, columns=4, orientation="horizontal")
    for one in shown:
        name = Path(one.filepath).name
        try:
            uri = photo_thumbnail(one.filepath)
        except PersamError:
            continue  # it cannot be read, so it cannot be a reference
        clickable(ctx, row, "photo", uri, f"Choose {name}", {"reference": one.id})
    if pages > 1:
        named = {
            str(k): f"{k * OFFERED + 1} to {min((k + 1) * OFFERED, len(ids))}" for k in range(pages)
        }
        choose(inputs, "photo_page", named, "More photos", default=str(page), required=False)
    return shown


def has_group_references(dataset: Any) -> bool:
    """Whether photos say of themselves that they are references, as PerSeg's do."""
    return bool(dataset.has_field(ROLE)) and len(group_references(dataset)) > 0


def group_references(collection: Any) -> Any:
    """The photos that are references, as a view."""
    return collection.match(F(ROLE) == REFERENCE)


def _likely_field(ctx: Context, sample: Any, fields: list[str], preferred: Sequence[str]) -> str:
    """The field that is probably meant: a selected label's, one with labels that is shown, ..."""
    for label in ctx.selected_labels or []:
        if label["sample_id"] == sample.id and label["field"] in fields:
            return str(label["field"])
    filled = [f for f in fields if sample[f] is not None]
    shown = [f for f in filled if f in (ctx.active_fields or [])]
    first = [f for f in ("ground_truth", *preferred) if f in filled]
    ordered = first + shown + filled + fields
    return ordered[0]


def thumbnail_input(inputs: Any, chosen: ChosenReference) -> None:
    """Show the reference and its object, or say why that cannot be done."""
    from fiftyone_persam.curation.forms.thumbnails import reference_thumbnail
    from fiftyone_persam.errors import PersamError

    try:
        uri = reference_thumbnail(
            chosen.sample, chosen.label_field, chosen.label_id, chosen.mask_value
        )
    except PersamError as error:
        refuse(inputs, str(error), name="photo_problem")
        return
    view = types.ImageView(alt="The reference and the object in it", height="160px")
    inputs.str("thumbnail", default=uri, label="Reference and object", view=view)
