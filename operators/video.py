"""The parts of the form that videos need: a labelled frame, and which of its objects are meant."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .base import Context, choose, mask_value_of, notice, refuse
from .reference import ChosenReference, thumbnail_input

EVERY = "every"
"""In place of a label's id: each label of the frame is an object."""


def has_videos(ctx: Context) -> bool:
    """Whether the dataset is one of videos."""
    from fiftyone_persam.curation.forms.films import has_videos

    return ctx.dataset is not None and has_videos(ctx.dataset)


def is_frame(reference: Any) -> bool:
    """Whether this is (sample, frame number) or (sample, frame number, label id)."""
    from fiftyone_persam.curation.labels.video_frames import is_frame_choice

    return is_frame_choice(reference)


def video_inputs(ctx: Context, inputs: Any) -> ChosenReference | None:
    """Add the inputs for a labelled frame. None if the form cannot go on without a choice."""
    from fiftyone_persam.curation.forms import films
    from fiftyone_persam.curation.forms.references import labels_of, mask_values, problem_with

    given = ctx.params.get("label_field")
    known = films.labelled(ctx.dataset, given)
    if not known.frames:
        refuse(
            inputs,
            "No frame of these videos is labelled.",
            "Label your object in one frame of one video, in Python or by an import, and start "
            "this operator again.",
            name="no_reference",
        )
        return None
    field = given if given in known.fields else known.fields[0]
    choose(inputs, "label_field", known.fields, "Label field", default=field)
    names = {i: Path(ctx.dataset[i].filepath).name for i in list(known.frames)[: films.LISTED]}
    opened = [ctx.params.get("reference"), ctx.current_sample, *(ctx.selected or [])]
    film = next((i for i in opened if i in names), next(iter(names)))
    choose(inputs, "reference", names, "Video", default=film)
    numbers = [str(n) for n in known.frames[film][: films.LISTED]]
    number = str(ctx.params.get("frame"))
    number = number if number in numbers else numbers[0]
    choose(inputs, "frame", numbers, "Labelled frame", default=number)
    frame = films.frame_of(ctx.dataset, film, int(number))
    labels = labels_of(frame, field)
    label_id = ctx.params.get("label_id")
    if len(labels) > 1:
        offered = {EVERY: f"Each of the {len(labels)}", **labels}
        label_id = label_id if label_id in offered else EVERY
        choose(inputs, "label_id", offered, "Which object", default=label_id)
    else:
        label_id = next(iter(labels), None)
    value = ctx.params.get("mask_value")
    values = mask_values(frame, field)
    if len(values) > 1:
        named = {str(v): name for v, name in values.items()}
        choose(inputs, "mask_value", named, "Which mask value", required=False)
    value = mask_value_of(value)
    one = next(iter(labels), None) if label_id == EVERY else label_id
    if problem := problem_with(frame, field, one if len(labels) > 1 else None, value):
        refuse(inputs, problem, name="reference_problem")
        return None
    chosen = ChosenReference(frame, field, label_id, value)
    if label_id == EVERY:
        names_of = ", ".join(films.objects_of(frame, field))
        notice(inputs, "objects", f"Each is followed as an object of its own: {names_of}.")
    else:
        thumbnail_input(inputs, chosen)
    return chosen


def video_arguments(ctx: Context) -> dict[str, Any]:
    """The labelled frame of a form as arguments of :func:`fiftyone_persam.segment`."""
    from fiftyone_persam.curation.forms import films

    if named := ctx.params.get("objects"):
        objects = {name: [tuple(one) for one in some] for name, some in named}
        return {"reference": objects, "label_field": ctx.params.get("label_field", "ground_truth")}
    known = films.labelled(ctx.dataset, ctx.params.get("label_field"))
    field, film = ctx.params.get("label_field") or known.fields[0], ctx.params["reference"]
    number = int(ctx.params.get("frame") or known.frames[film][0])
    label_id, value = ctx.params.get("label_id"), ctx.params.get("mask_value")
    reference: Any = (film, number, label_id)
    if label_id == EVERY:
        reference = films.objects_of(films.frame_of(ctx.dataset, film, number), field)
    return {
        "reference": reference,
        "label_field": field,
        "mask_value": mask_value_of(value),
    }
