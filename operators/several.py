"""Several objects in the form: labels whose names say what they are, in the photos selected."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, choose, refuse
from .reference import candidates

OBJECT = "object_"
"""Begins the names of the inputs that take an object, by its place, or leave it out."""
BESIDE = "beside_"
"""Begins the names of the inputs that say what a name is that is not looked for, by its place."""
NOTHING, NONE_OF_THEM, NOT = "left out", "none of them", "not "
"""What a name is that is not looked for: nothing; what no object is; what the one named is not."""
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
    objects = chosen_objects(ctx)[1]
    for place, (name, some) in enumerate(list(found.items())[:MOST]):
        count = len(some)
        inputs.bool(
            f"{OBJECT}{place}",
            default=True,
            label=f"{name} ({count} reference{'' if count == 1 else 's'})",
            view=types.CheckboxView(),
        )
        if name not in objects and objects and _can_be_negative(ctx):
            _beside_input(inputs, f"{BESIDE}{place}", name, list(objects))
    if not objects:
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


def negative_objects(ctx: Context) -> dict[str, list[Any]]:
    """Object that is looked for -> labels of other names, which show what it is not.

    Raises:
        PersamError: one of them cannot be used.
    """
    from fiftyone_persam.curation.labels.resolving import resolve_references

    field, objects = chosen_objects(ctx)
    found: dict[str, list[Any]] = {}
    if not _can_be_negative(ctx):
        return found
    for place, (name, some) in enumerate(list(named_objects(ctx)[1].items())[:MOST]):
        said = str(ctx.params.get(f"{BESIDE}{place}") or NOTHING)
        if name in objects or said == NOTHING:
            continue
        # A mask's class is known by its name alone.
        some = [
            one
            for piece in some
            for one in (
                [piece]
                if isinstance(piece, tuple)
                else resolve_references(ctx.dataset, piece, field, None, name)
            )
        ]
        for own in objects:
            if said in (NONE_OF_THEM, f"{NOT}{own}"):
                found.setdefault(own, []).extend(some)
    return found


def _beside_input(inputs: Any, key: str, name: str, objects: list[str]) -> None:
    """What the labels of a name are that is not looked for."""
    offered = {NOTHING: "Leave it out"}
    if len(objects) > 1:
        offered[NONE_OF_THEM] = "It shows what none of the objects is"
    offered |= {f"{NOT}{own}": f"It shows what {own!r} is not" for own in objects}
    choose(inputs, key, offered, f"And {name!r}?", default=NOTHING, required=False)


def _can_be_negative(ctx: Context) -> bool:
    from fiftyone_persam.curation.segmentation.negatives import takes_negatives
    from fiftyone_persam.personalize import METHODS

    from .method_form import chosen_method, chosen_options  # which asks for the scope

    if chosen_method(ctx) not in METHODS:  # `segment` says so
        return False
    return takes_negatives(chosen_method(ctx), chosen_options(ctx))


def _label_of(piece: Any) -> Any:
    return piece[1] if isinstance(piece, tuple) else None
