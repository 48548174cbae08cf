"""The part of a form that says what the object is not."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, choose, counted, mask_value_of, refuse
from .method_form import chosen_method, chosen_options
from .reference import ChosenReference, candidates, group_references
from .scope import GROUPED, SAID, SEVERAL, TOGETHER
from .several import chosen_objects, negative_objects
from .together import shown_together

SELECTED, REJECTED = "negatives_selected", "use_rejected"
VALUE = "negatives_mask_value"


def negative_inputs(
    ctx: Context, inputs: Any, scope: str, chosen: ChosenReference | None = None
) -> None:
    """Whether the other selected photos, and masks that were rejected, show something else.

    Args:
        ctx: the operator's
        inputs: the form
        scope: where the references are from
        chosen: the reference, where there is one
    """
    from fiftyone_persam.curation.forms.references import rejected_count
    from fiftyone_persam.curation.segmentation.negatives import takes_negatives

    if scope == SAID or not takes_negatives(chosen_method(ctx), chosen_options(ctx)):
        return
    if chosen is not None:
        _selected_inputs(ctx, inputs, chosen)
    ids = [chosen.sample.id] if chosen is not None else _learnt_from(ctx, scope)
    rejected_inputs(inputs, rejected_count(ctx.dataset, ids, str(ctx.params.get("out_field"))))


def again_inputs(ctx: Context, inputs: Any, run: str, chosen: ChosenReference) -> None:
    """Like `negative_inputs`, for a run that is made again with one more reference."""
    from fiftyone_persam.curation.forms.references import rejected_count
    from fiftyone_persam.curation.runs.record import read_record
    from fiftyone_persam.curation.segmentation.negatives import takes_negatives
    from fiftyone_persam.personalize import METHODS

    record = read_record(ctx.dataset, run)
    if record.method not in METHODS:  # `segment_again` says so
        return
    if takes_negatives(record.method, record.parameters.options):
        _selected_inputs(ctx, inputs, chosen)
        learnt_from = [one.sample_id for one in record.references]
        rejected_inputs(inputs, rejected_count(ctx.dataset, learnt_from, run))


def _selected_inputs(ctx: Context, inputs: Any, chosen: ChosenReference) -> None:
    if others := _others(ctx, chosen):
        inputs.bool(
            SELECTED,
            default=False,
            label="The other labels I selected show what it is not",
            description=f"{counted(len(others), 'label')} beside it, such as of its twin",
            view=types.CheckboxView(),
        )
        if ctx.params.get(SELECTED):
            _value_input(ctx, inputs, chosen, others)


def _value_input(
    ctx: Context, inputs: Any, chosen: ChosenReference, others: list[tuple[str, str]]
) -> None:
    """Which class of the other photos' masks, where they have several."""
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.forms.references import mask_values, problem_with

    samples = list(photos_of(ctx.dataset).select([sample_id for sample_id, _ in others]))
    values: dict[int, str] = {}
    for sample in samples:
        found = mask_values(sample, chosen.label_field)
        values |= found if len(found) > 1 else {}
    if values:
        named = {str(value): values[value] for value in sorted(values)}
        choose(inputs, VALUE, named, "Which mask value it is not", required=False)
    value = _value(ctx) if values else None
    by_id = {sample.id: sample for sample in samples}
    for sample_id, label_id in others:
        sample = by_id[sample_id]
        if problem := problem_with(sample, chosen.label_field, label_id, value):
            refuse(inputs, problem, name="negatives_problem")
            return


def _value(ctx: Context) -> int | str | None:
    return mask_value_of(ctx.params.get(VALUE))


def _learnt_from(ctx: Context, scope: str) -> list[str]:
    """The ids of the photos that several references are in."""
    if scope == SEVERAL:
        pieces = [one for some in chosen_objects(ctx)[1].values() for one in some]
        samples = [one[0] if isinstance(one, tuple) else one for one in pieces]
        return [str(getattr(one, "id", one)) for one in samples]
    if scope == TOGETHER:
        return [sample.id for sample, _ in shown_together(ctx)[1]]
    return list(group_references(ctx.dataset).values("id")) if scope == GROUPED else []


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
    if negatives := given.get("negatives"):  # of a call in Python
        by_name = dict(negatives) if isinstance(negatives, dict) else {"": negatives}
        pieces = {
            name: [(one, label) if label else one for one, label in some]
            for name, some in by_name.items()
        }
        arguments |= {
            "negatives": pieces if isinstance(negatives, dict) else pieces[""],
            "negatives_field": given.get("negatives_field"),
            VALUE: _value(ctx),
        }
    elif given.get("scope") == SEVERAL and (named := negative_objects(ctx)):
        arguments["negatives"] = named
    elif given.get(SELECTED) and chosen is not None:
        arguments |= {"negatives": _others(ctx, chosen), VALUE: _value(ctx)}
    return arguments


def _others(ctx: Context, chosen: ChosenReference) -> list[tuple[str, str]]:
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
