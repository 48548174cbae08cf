"""The part of a form that says what the object is not."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, counted
from .method_form import chosen_method, chosen_options
from .reference import ChosenReference, candidates

SELECTED, REJECTED = "negatives_selected", "use_rejected"


def negative_inputs(ctx: Context, inputs: Any, chosen: ChosenReference | None) -> None:
    """Whether the other selected photos, and masks that were rejected, show something else."""
    from fiftyone_persam.curation.forms.references import rejected_count
    from fiftyone_persam.curation.segmentation.negatives import takes_negatives

    if chosen is None or not takes_negatives(chosen_method(ctx), chosen_options(ctx)):
        return
    if others := _others(ctx, chosen):
        inputs.bool(
            SELECTED,
            default=False,
            label="The other labels I selected show what it is not",
            description=f"{counted(len(others))} beside the reference, such as of its twin",
            view=types.CheckboxView(),
        )
    rejected_inputs(inputs, rejected_count(ctx.dataset, chosen.sample.id))


def rejected_inputs(inputs: Any, count: int) -> None:
    """Whether to learn from rejected masks, where there are some."""
    if count:
        inputs.bool(
            REJECTED,
            default=True,
            label=f"Learn from {count} rejected mask{'' if count == 1 else 's'} what it is not",
            description="Those that look like your object, badly cut, are left out",
            view=types.CheckboxView(),
        )


def negative_arguments(ctx: Context, chosen: ChosenReference | None) -> dict[str, Any]:
    """The form's values as arguments of `segment`."""
    given = ctx.params
    arguments: dict[str, Any] = {"use_rejected": bool(given.get(REJECTED, True))}
    if given.get("negatives"):  # of a call in Python
        pieces = [(one, label) if label else one for one, label in given["negatives"]]
        arguments |= {"negatives": pieces, "negatives_field": given.get("negatives_field")}
    elif given.get(SELECTED) and chosen is not None:
        arguments["negatives"] = _others(ctx, chosen)
    return arguments


def _others(ctx: Context, chosen: ChosenReference) -> list[Any]:
    """What is selected beside the reference, and labelled in the same field."""
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.forms.references import labels_of

    if chosen.marked:
        return []
    field = chosen.label_field
    labels = [one for one in ctx.selected_labels or [] if one["field"] == field]
    if labels:
        own = (chosen.sample.id, chosen.label_id)
        pairs = [(one["sample_id"], one["label_id"]) for one in labels]
        return [pair for pair in pairs if pair != own]
    ids = [one for one in candidates(ctx) if one != chosen.sample.id]
    if not ids:
        return []
    found: list[Any] = []
    for sample in photos_of(ctx.dataset).select(ids, ordered=True):
        found += [(sample.id, label) for label in labels_of(sample, field)]
    return found
