"""Several objects in the form: labels whose names say what they are, in the photos selected."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, choose, refuse
from .reference import candidates

OBJECT = "object_"
"""Begins the names of the inputs that take an object, by its place, or leave it out."""
MOST = 24


def named_objects(ctx: Context) -> tuple[str, dict[str, list[Any]]]:
    """The label field, and the objects that the selected photos' labels name.

    Labels that are selected themselves count alone.
    """
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.forms.references import label_fields
    from fiftyone_persam.curation.labels.objects import objects_in
    from fiftyone_persam.errors import PersamError

    ids = candidates(ctx)
    fields = label_fields(ctx.dataset)
    if not ids or not fields:
        return "", {}
    labels = [one for one in ctx.selected_labels or [] if one["field"] in fields]
    field = ctx.params.get("label_field")
    samples = list(photos_of(ctx.dataset).select(ids, ordered=True))
    if field not in fields:
        filled = [one for one in fields if any(s[one] is not None for s in samples)]
        field = labels[0]["field"] if labels else next(iter(filled or fields))
    try:
        found = objects_in(samples, field)
    except PersamError:
        return field, {}
    if chosen := {one["label_id"] for one in labels if one["field"] == field}:
        found = {n: [p for p in some if _label_of(p) in chosen] for n, some in found.items()}
    return field, {name: some for name, some in found.items() if some}


def can_be_several(ctx: Context) -> bool:
    """Whether the selection names two objects or more."""
    return len(named_objects(ctx)[1]) > 1


def several_inputs(ctx: Context, inputs: Any) -> bool:
    """Which objects to look for. False: the form cannot go on."""
    from fiftyone_persam.curation.forms.references import label_fields

    field, found = named_objects(ctx)
    fields = label_fields(ctx.dataset)
    if fields:
        choose(inputs, "label_field", fields, "Label field", default=field)
    if not found:
        refuse(
            inputs,
            "The selected photos have no label with a name in this field.",
            "Select photos whose labels say what they are, such as 'mug' and 'cat'.",
            name="no_objects",
        )
        return False
    for place, (name, some) in enumerate(list(found.items())[:MOST]):
        count = len(some)
        inputs.bool(
            f"{OBJECT}{place}",
            default=True,
            label=f"{name} ({count} reference{'' if count == 1 else 's'})",
            view=types.CheckboxView(),
        )
    if not chosen_objects(ctx)[1]:
        refuse(inputs, "No object is chosen: tick one or more.", name="no_objects")
        return False
    return True


def chosen_objects(ctx: Context) -> tuple[str, dict[str, list[Any]]]:
    """The label field, and the references of the objects that are ticked."""
    field, found = named_objects(ctx)
    ticked = {
        name: some
        for place, (name, some) in enumerate(list(found.items())[:MOST])
        if ctx.params.get(f"{OBJECT}{place}", True)
    }
    return field, ticked


def _label_of(piece: Any) -> Any:
    return piece[1] if isinstance(piece, tuple) else None
