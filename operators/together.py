"""Several references of one object in the form: what is labelled in the photos selected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone.operators.types as types

from .base import Context, choose, counted, notice, refuse
from .reference import candidates

SHOWN = 6
"""References that the form shows."""


def shown_together(ctx: Context) -> tuple[str, list[tuple[Any, str | None]]]:
    """The label field, and what is selected in it: photos with the ids of their labels.

    Labels that are selected themselves count alone. A label that is the only one of its photo is
    named by its photo.
    """
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.forms.references import label_fields, labels_of

    ids, fields = candidates(ctx), label_fields(ctx.dataset)
    if not ids or not fields:
        return "", []
    samples = list(photos_of(ctx.dataset).select(ids, ordered=True))
    labels = [one for one in ctx.selected_labels or [] if one["field"] in fields]
    field = ctx.params.get("label_field")
    if field not in fields:
        most = max(fields, key=lambda name: sum(s[name] is not None for s in samples))
        field = labels[0]["field"] if labels else most
    chosen = {one["label_id"] for one in labels if one["field"] == field}
    found: list[tuple[Any, str | None]] = []
    for sample in samples:
        there = list(labels_of(sample, field))
        wanted = [one for one in there if one in chosen] if chosen else there
        found += [(sample, one if len(there) > 1 else None) for one in wanted]
    return str(field), found


def can_be_together(ctx: Context) -> bool:
    """Whether two labels or more are selected."""
    return len(shown_together(ctx)[1]) > 1


def together_inputs(ctx: Context, inputs: Any) -> bool:
    """Which labels show the object. False: the form cannot go on."""
    from fiftyone_persam.curation.forms.references import label_fields, problem_with
    from fiftyone_persam.curation.forms.thumbnails import reference_thumbnail

    field, found = shown_together(ctx)
    if fields := label_fields(ctx.dataset):
        choose(inputs, "label_field", fields, "Label field", default=field)
    if len(found) < 2:
        refuse(
            inputs,
            "The selected photos have fewer than two labels in this field.",
            "Select labelled photos of the object, or choose 'The photo I selected' above.",
            name="no_references",
        )
        return False
    for sample, label_id in found:
        if problem := problem_with(sample, field, label_id):
            refuse(inputs, problem, name="reference_problem")
            return False
    names = [Path(sample.filepath).name for sample, _ in found]
    listed = ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
    photos = len({sample.id for sample, _ in found})
    row = inputs.grid("shown_together", gap=1, columns=3, orientation="horizontal")
    for number, (sample, label_id) in enumerate(found[:SHOWN], start=1):
        uri = reference_thumbnail(sample, field, label_id, None)
        view = types.ImageView(alt=f"Reference {number}", height="100px")
        row.str(f"reference_{number}", default=uri, label=names[number - 1], view=view)
    notice(
        inputs,
        "together",
        f"{len(found)} labels in {counted(photos)} show one object, all used together: {listed}.",
    )
    return True
