"""The parts of :class:`~.segment.SegmentFromReference`'s form that follow the reference."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

import fiftyone as fo
import fiftyone.operators.types as types

from .base import Context, choose, counted, notice, refuse
from .method_form import chosen_method, takes_words
from .more_options import check_options, instances_input, more_inputs
from .phrase import PHRASE, chosen_text_model
from .reference import REFERENCE, ROLE, ChosenReference, group_references
from .scope import SEVERAL, TOGETHER
from .streaming import duration
from .targets import photos_to_segment
from .together import shown_together
from .video import has_videos

LABEL_TYPE_TEXTS = {
    "segmentation": "One mask per photo (Segmentation)",
    "detections": "Instances that can be edited in the App (Detections)",
    "both": "Both",
}


def group_inputs(ctx: Context, inputs: Any) -> bool:
    """How the photos are grouped, each object with its own reference. False: it cannot go on."""
    from fiftyone_persam.curation.forms.references import label_fields

    groups = list(ctx.dataset.get_field_schema(ftype=fo.StringField))
    groups = [g for g in groups if g not in ("filepath", ROLE)]
    default = "object" if "object" in groups else (groups[0] if groups else None)
    if default is None:
        refuse(
            inputs,
            "No text field says which object a photo shows.",
            "Choose 'The photo I selected' above: it is the reference for all photos.",
        )
        return False
    fields = label_fields(ctx.dataset)
    if not fields:
        refuse(
            inputs,
            "This dataset has no labels.",
            "Choose 'The photo I selected' above: then you mark the object in this form.",
        )
        return False
    choose(inputs, "group_by", groups, "Group photos by", default=default)
    field = "ground_truth" if "ground_truth" in fields else fields[0]
    choose(inputs, "label_field", fields, "Label field of the references", default=field)
    references = group_references(ctx.dataset)
    notice(
        inputs,
        "references",
        f"{counted(len(references))} with {ROLE} = {REFERENCE!r}, one for each object.",
    )
    group_by = ctx.params.get("group_by") or default
    check_references(ctx, inputs, references, ctx.params.get("label_field") or field, group_by)
    return True


def check_references(
    ctx: Context, inputs: Any, references: Any, label_field: str, group_by: str | None
) -> None:
    """Refuse references that cannot serve the photos that are meant."""
    from fiftyone_persam.curation.forms.photos import problem_with_photos
    from fiftyone_persam.curation.forms.references import problem_with_references

    photos = photos_to_segment(ctx)
    if problem_with_photos(photos):  # said by `announce`
        return
    if problem := problem_with_references(photos, references, label_field, group_by):
        refuse(inputs, problem, name="reference_problem")


def model_inputs(ctx: Context, inputs: Any) -> None:
    """The model; with its size, and whether to download it, where it is not on this machine."""
    import fiftyone_persam as fp

    models = {info.name: info for info in fp.list_models()}
    size = {name: f"{info.bytes / 1e6:.0f} MB" for name, info in models.items()}
    choose(
        inputs,
        "model",
        {
            name: f"{name} ({size[name]}{'' if info.available else ', not downloaded'})"
            for name, info in models.items()
        },
        "Model",
        default="sam_lite",
        description="sam_lite comes with the plugin; the larger ones are more exact and slower",
    )
    info = models.get(ctx.params.get("model", "sam_lite"))
    if info is not None and not info.available:
        inputs.bool(
            "download",
            default=False,
            label=f"Download {info.name} ({size[info.name]}) and go on",
            description=f"From {urlparse(info.source).hostname}, licence {info.license}; "
            "checked by its SHA-256",
            view=types.CheckboxView(),
        )
        if not ctx.params.get("download"):
            refuse(
                inputs,
                f"The checkpoint of {info.name} is not on this machine ({size[info.name]}).",
                "Tick the box above to download it, or choose sam_lite.",
                name="model_problem",
            )


def chosen_model(ctx: Context) -> str:
    """The model's name; the one that takes the words where the method needs them."""
    if takes_words(ctx) and not ctx.params.get("literal"):
        return chosen_text_model(ctx)
    return str(ctx.params.get("model", "sam_lite"))


def output_inputs(ctx: Context, inputs: Any, chosen: ChosenReference | None) -> None:
    """The run's name, and what it writes."""
    from fiftyone_persam.curation.forms.runs import existing_run, free_name, problem_with_name

    base = "persam"
    if chosen is not None:
        label = None if chosen.marked else chosen.sample[chosen.label_field]
        name = getattr(label, "label", None)
        base = str(name) if isinstance(name, str) and name else "my_object"
    elif ctx.params.get(PHRASE) or ctx.params.get("scope") == TOGETHER:
        base = "my_object"
    elif ctx.params.get("scope") == SEVERAL:
        base = "my_objects"
    name = ctx.params.get("out_field")
    prop = inputs.str(
        "out_field",
        default=free_name(ctx.dataset, base),
        required=True,
        label="Name of the run",
        description="The field for the masks; scores and errors go beside it",
    )
    settings = ("similarity", "prompts", "compare_photos")
    written = {key: bool(ctx.params.get(key)) for key in settings}
    default = "detections" if has_videos(ctx) else "segmentation"
    label_type = ctx.params.get("label_type") or default
    if name is not None and (
        problem := problem_with_name(ctx.dataset, name, label_type, **written)
    ):
        prop.invalid = True
        prop.error_message = problem
    there = existing_run(photos_to_segment(ctx), name)
    if there is not None:
        _go_on_inputs(ctx, inputs, there)
    else:
        instances_input(ctx, inputs)
        choose(inputs, "label_type", LABEL_TYPE_TEXTS, "Write masks as", default=default)
    inputs.bool("more", default=False, label="More options", view=types.SwitchView())
    if ctx.params.get("more"):
        more_inputs(ctx, inputs, new=there is None)
    check_options(ctx, inputs)


def _go_on_inputs(ctx: Context, inputs: Any, there: Any) -> None:
    """A run that is there already: go on with it, or replace what it has in these photos."""
    inputs.bool(
        "skip_existing",
        default=True,
        label="Only photos that have no mask of this run yet",
        description="Off: the run's masks are replaced in the photos you chose",
    )
    fields = there.fields
    names = {"similarity": "similarity", "prompts": "prompts", "compare_photos": "presence alone"}
    beside = [text for name, text in names.items() if getattr(fields, name)]
    text = f"As the run began, it writes: {LABEL_TYPE_TEXTS[fields.label_type]}"
    notice(inputs, "label_type_kept", text + "".join(f", {name}" for name in beside))
    if skips_existing(ctx):
        return
    lost = [f"{there.masks} masks"]
    lost += [f"{there.decisions} review decisions"] if there.decisions else []
    lost += [f"corrections by hand in {there.corrections} photos"] if there.corrections else []
    listed = " and ".join([", ".join(lost[:-1]), lost[-1]] if len(lost) > 1 else lost)
    notice(inputs, "loss", f"This replaces {listed} of run {fields.run!r}.", warning=True)


def skips_existing(ctx: Context) -> bool:
    """Whether photos that have a mask are left alone; only asked where the run is there."""
    return bool(ctx.params.get("skip_existing", not ctx.params.get("literal")))


def evaluation_inputs(ctx: Context, inputs: Any, chosen: ChosenReference | None) -> None:
    """Whether to evaluate, where other photos have ground truth."""
    truth = truth_of(ctx, photos_to_segment(ctx), chosen)
    if truth is None:
        return
    what = f", of {truth.label!r} alone" if truth.label else ""
    text = f"{truth.count} of the photos have ground truth{what}: compute IoU and boundary IoU"
    inputs.bool(
        "evaluate",
        default=truth.doubt is None,
        label=f"Evaluate with {truth_field(ctx, chosen)!r}",
        description=text if truth.doubt is None else f"Off, because it may mislead. {truth.doubt}",
    )


def truth_field(ctx: Context, chosen: ChosenReference | None) -> str:
    """The field of the ground truth: that of the reference's label."""
    given = chosen.label_field if chosen else ctx.params.get("label_field")
    return str(given or "ground_truth")


def truth_of(ctx: Context, photos: Any, chosen: ChosenReference | None) -> Any:
    """What an evaluation can be made with, or None."""
    from fiftyone_persam.curation.forms.truth import ground_truth

    if chosen is None and ctx.params.get("scope") == TOGETHER:
        field, found = shown_together(ctx)
        if found:  # the first stands for all: what they show is one object
            (sample, label_id), *others = found
            chosen = ChosenReference(sample, field, label_id)
            photos = photos.exclude([one.id for one, _ in others if one.id != sample.id])
    return ground_truth(
        photos,
        truth_field(ctx, chosen),
        reference=chosen.sample if chosen else None,
        label_id=chosen.label_id if chosen else None,
        grouped=bool(ctx.params.get("group_by")) or ctx.params.get("scope") == SEVERAL,
    )


def announce(ctx: Context, inputs: Any) -> None:
    """How many photos will be segmented, and how long that will take."""
    from fiftyone_persam.curation.forms.films import amount
    from fiftyone_persam.curation.forms.photos import problem_with_photos
    from fiftyone_persam.curation.forms.runs import estimate, existing_run

    photos = photos_to_segment(ctx)
    count, of = len(photos), ""
    if not count:
        refuse(inputs, "There is no photo to segment: clear the filters.", name="nothing")
        return
    if problem := problem_with_photos(photos):
        refuse(inputs, problem, name="photos_problem")
        return
    if has_videos(ctx):
        count, films = amount(photos)
        of = f" of {films} videos" if films > 1 else " of 1 video"
    there = existing_run(photos, ctx.params.get("out_field"))
    beside = ""
    if there is not None and there.masks and skips_existing(ctx):
        count -= there.masks
        beside = f", {there.masks} have a mask of run {there.fields.run!r} already"
    what = f"{count or 'All'} frames{of}" if of else counted(count)
    text = f"{what} will be segmented{beside}"
    model, method = chosen_model(ctx), chosen_method(ctx)
    if found := estimate(ctx.dataset, model, method, count) if count else None:
        text += f", in about {duration(found.seconds)} on {found.device} (as in run {found.run!r})"
        if found.compiling:
            text += f", {duration(found.compiling)} of it to compile the image encoder"
    elif count:
        text += "; how long it takes is known after the first run on this dataset"
    notice(inputs, "amount", text + ".", warning=not count and not of)
