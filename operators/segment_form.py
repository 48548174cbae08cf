"""The parts of :class:`~.segment.SegmentFromReference`'s form that follow the reference."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

import fiftyone as fo
import fiftyone.operators.types as types

from .base import Context, choose, notice, refuse
from .reference import REFERENCE, ROLE, Picked, group_references
from .streaming import duration

METHODS = {
    "persam_f": "PerSAM-F: tunes two numbers to the reference, most accurate",
    "persam": "PerSAM: no tuning at all",
}
LABEL_TYPES = {
    "segmentation": "One mask per photo (Segmentation)",
    "detections": "Instances that can be edited in the App (Detections)",
    "both": "Both",
}
BACKENDS = {
    "local": "In the App's own process",
    "devices": "On all CUDA devices of this machine",
    "ray": "On the Ray cluster",
}


def keeps_embeddings() -> bool:
    """Whether the user has chosen before to keep embeddings: then runs go on with it."""
    from fiftyone_persam.engine.disk_cache import default_cache_dir

    return default_cache_dir().is_dir()


def group_inputs(ctx: Context, inputs: Any) -> None:
    """How the photos are grouped, each group with its own reference."""
    from fiftyone_persam.curation.picking import label_fields

    groups = list(ctx.dataset.get_field_schema(ftype=fo.StringField))
    groups = [g for g in groups if g not in ("filepath", ROLE)]
    default = "object" if "object" in groups else (groups[0] if groups else None)
    if default is None:
        refuse(inputs, "No text field says which object a photo shows: select one photo instead.")
        return
    choose(inputs, "group_by", groups, "Group photos by", default=default)
    fields = label_fields(ctx.dataset)
    field = "ground_truth" if "ground_truth" in fields else (fields[0] if fields else None)
    choose(inputs, "label_field", fields, "Label field of the references", default=field)
    count = len(group_references(ctx.dataset))
    notice(inputs, "references", f"{count} photos have {ROLE} = {REFERENCE!r}, one per group.")


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
            description=f"From {urlparse(info.source).hostname}; checked by its SHA-256",
            view=types.CheckboxView(),
        )
        if not ctx.params.get("download"):
            refuse(
                inputs,
                f"The checkpoint of {info.name} is not on this machine ({size[info.name]}).",
                "Tick the box above to download it, or choose sam_lite.",
                name="model_problem",
            )


def output_inputs(ctx: Context, inputs: Any, picked: Picked | None) -> None:
    """The run's name, and what it writes."""
    from fiftyone_persam.curation.picking import free_name, problem_with_name
    from fiftyone_persam.engine import available_backends

    base = "persam"
    if picked is not None:
        name = getattr(picked.sample[picked.label_field], "label", None)
        base = str(name) if isinstance(name, str) and name else "my_object"
    name = ctx.params.get("out_field")
    prop = inputs.str(
        "out_field",
        default=free_name(ctx.dataset, base),
        required=True,
        label="Name of the run",
        description="The field for the masks; scores and errors go beside it",
    )
    if name is not None and (problem := problem_with_name(ctx.dataset, name)):
        prop.invalid = True
        prop.error_message = problem
    if isinstance(name, str) and name in ctx.dataset.list_runs():
        inputs.bool(
            "skip_existing",
            default=True,
            label="Only photos that have no mask of this run yet",
            description="Off: the run's masks are replaced in the photos you chose",
        )
    choose(inputs, "label_type", LABEL_TYPES, "Write masks as", default="segmentation")
    inputs.bool("more", default=False, label="More options", view=types.SwitchView())
    if ctx.params.get("more"):
        inputs.bool(
            "similarity",
            default=False,
            label="Similarity maps",
            description="How much each place looks like the object, as a heatmap field",
        )
        inputs.bool(
            "prompts",
            default=False,
            label="Prompt points",
            description="The points SAM was given, as a keypoints field",
        )
        inputs.bool(
            "cache",
            default=keeps_embeddings(),
            label="Keep what the model saw in each photo",
            description="Other runs on these photos are many times faster then; at most 10 GB",
        )
        backends = available_backends()
        if len(backends) > 1:
            named = {name: BACKENDS[name] for name in backends}
            choose(inputs, "backend", named, "Where the work is done", default=backends[0])
        inputs.bool("open_review", default=True, label="Open the review panel")


def evaluation_inputs(ctx: Context, inputs: Any, picked: Picked | None) -> None:
    """Whether to evaluate, where other photos have ground truth."""
    field = picked.label_field if picked else ctx.params.get("label_field", "ground_truth")
    if not ctx.dataset.has_field(field):
        return
    others = ctx.target_view().exists(field)
    if picked is not None:
        others = others.exclude(picked.sample.id)
    count = len(others)
    if count:
        inputs.bool(
            "evaluate",
            default=True,
            label=f"Evaluate with {field!r}",
            description=f"{count} of the photos have ground truth: compute IoU and boundary IoU",
        )


def announce(ctx: Context, inputs: Any) -> None:
    """How many photos will be segmented, and how long that will take."""
    from fiftyone_persam.curation.picking import estimate

    count = len(ctx.target_view())
    text = f"{count} photos will be segmented"
    model, method = ctx.params.get("model", "sam_lite"), ctx.params.get("method", "persam_f")
    if found := estimate(ctx.dataset, model, method, count):
        text += f", in about {duration(found.seconds)} on {found.device} (as in run {found.run!r})"
    else:
        text += "; how long it takes is known after the first run on this machine"
    notice(inputs, "amount", text + ".")
    if not count:
        refuse(inputs, "There is no photo to segment: clear the filters.", name="nothing")
