"""``segment_from_reference``: one labelled photo in, masks of the object in all the others out."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlparse

import fiftyone as fo
import fiftyone.operators.types as types

from .base import Context, PersamOperator, choose, notice, refuse, show_fields
from .reference import (
    REFERENCE,
    ROLE,
    Picked,
    candidates,
    group_references,
    has_group_references,
    picked_from,
    reference_inputs,
)
from .streaming import DONE, ERROR, STOPPED, Board, Progress, StoppedError, duration

METHODS = {
    "persam_f": "PerSAM-F: tunes two numbers to the reference, most accurate",
    "persam": "PerSAM: no tuning at all",
}
LABEL_TYPES = {
    "segmentation": "One mask per photo (Segmentation)",
    "detections": "Instances that can be edited in the App (Detections)",
    "both": "Both",
}
ONE, GROUPS = "one", "groups"


class SegmentFromReference(PersamOperator):
    """Form around :func:`fiftyone_persam.segment`."""

    operator = "segment_from_reference"
    label = "Segment my object"
    description = "Find the object of one labelled photo in all the others and mask it (PerSAM)"
    delegable = True
    generator = True
    view_target = True
    submit = "Segment"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Reference, photos, method, output, evaluation."""
        picked = None
        if self._scope(ctx, inputs) == ONE:
            picked = reference_inputs(ctx, inputs)
            if picked is None:
                return
        else:
            _group_inputs(ctx, inputs)
        several = len(candidates(ctx)) > 1
        inputs.view_target(
            ctx,
            action_description="Segment",
            allow_selected_samples=several,
            default_target="CURRENT_VIEW",
        )
        _announce(ctx, inputs)
        choose(inputs, "method", METHODS, "Method", default="persam_f", radio=True)
        _model_inputs(ctx, inputs)
        _output_inputs(ctx, inputs, picked)
        _evaluation_inputs(ctx, inputs, picked)

    def resolve_placement(self, ctx: Context) -> Any:
        """A button over the grid."""
        return _button(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS)

    def _scope(self, ctx: Context, inputs: Any) -> str:
        if not has_group_references(ctx.dataset):
            return ONE
        default = ONE if candidates(ctx) else GROUPS
        choose(
            inputs,
            "scope",
            {
                ONE: "The photo I selected",
                GROUPS: "Each group's own reference photo",
            },
            "Reference",
            default=default,
            radio=True,
        )
        return ctx.params.get("scope") or default

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Segment, and evaluate where asked for."""
        import fiftyone_persam as fp

        view, name = ctx.target_view(require_flat=True), ctx.params["out_field"]
        if ctx.params.get("download"):
            fp.load_sam(ctx.params.get("model", "sam_lite"), download=True)
        progress.track(Board(ctx.dataset), name)
        try:
            run = fp.segment(view, progress=progress, **segment_arguments(ctx))
            result: dict[str, Any] = {"run": name, "fields": [name], **run_facts(run)}
            if ctx.params.get("evaluate"):
                progress.stage = "Evaluating"
                result |= evaluate_run(ctx, view, name)
                result["summary"] += f", mIoU {result['metrics']['mIoU']:.3f}"
        except StoppedError as stopped:
            progress.finish(STOPPED, str(stopped))
            raise
        except BaseException as error:
            progress.finish(ERROR, str(error))
            raise
        progress.finish(DONE, result["summary"])
        return result

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the new masks and say what happened."""
        result = result or {}
        triggers = [
            ctx.ops.clear_selected_samples(),
            ctx.ops.reload_dataset(),
            show_fields(ctx, *result["fields"]),
            ctx.ops.notify(result["summary"], variant="success"),
        ]
        if ctx.params.get("open_review", True):
            triggers.append(ctx.ops.open_panel("review_masks", layout="horizontal"))
        return triggers

    def resolve_run_name(self, ctx: Context) -> str:
        """The name in the list of delegated operations."""
        return f"Segment into {ctx.params.get('out_field')}"

    def __call__(
        self,
        sample_collection: Any,
        reference: Any,
        label_field: str = "ground_truth",
        label_id: str | None = None,
        mask_value: int | None = None,
        method: str = "persam_f",
        model: str = "sam_lite",
        out_field: str = "object_masks",
        label_type: str = "segmentation",
        evaluate: bool = False,
        group_by: str | None = None,
        skip_existing: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Segment the object of ``reference`` in every photo of a dataset or view.

        Args:
            sample_collection: a dataset or view
            reference: a sample, its id, or a (sample, label id) pair
            label_field: the field of the reference's label
            label_id: which of its labels, where there are several
            mask_value: which value of a segmentation mask
            method: ``"persam"`` or ``"persam_f"``
            model: see :func:`fiftyone_persam.list_models`
            out_field: the run's name and field
            label_type: ``"segmentation"``, ``"detections"`` or ``"both"``
            evaluate: compare with ``label_field`` afterwards
            group_by: field that names each photo's object, for the evaluation
            skip_existing: segment only photos that have no mask of this run yet
            delegate: queue it for ``fiftyone delegated launch``
        """
        if isinstance(reference, tuple):
            reference, label_id = reference
        return self.call(
            sample_collection,
            delegate=delegate,
            reference=getattr(reference, "id", reference),
            label_field=label_field,
            label_id=label_id,
            mask_value=None if mask_value is None else str(mask_value),
            scope=ONE,
            method=method,
            model=model,
            out_field=out_field,
            label_type=label_type,
            evaluate=evaluate,
            group_by=group_by,
            skip_existing=skip_existing,
        )


class SegmentFromOpened(SegmentFromReference):
    """The same form, for the button over an opened photo."""

    operator = "segment_from_opened"
    unlisted = True

    def resolve_placement(self, ctx: Context) -> Any:
        """A button over an opened photo."""
        return _button(types.Places.SAMPLES_VIEWER_ACTIONS)


def _button(place: Any) -> Any:
    button = types.Button(
        label=SegmentFromReference.label, icon=SegmentFromReference.icon, prompt=True
    )
    return types.Placement(place, button)


def segment_arguments(ctx: Context) -> dict[str, Any]:
    """The form's values as arguments of :func:`fiftyone_persam.segment`."""
    given = ctx.params
    arguments: dict[str, Any] = {
        "method": given.get("method", "persam_f"),
        "model": given.get("model", "sam_lite"),
        "out_field": given["out_field"],
        "label_type": given.get("label_type", "segmentation"),
        "skip_existing": bool(given.get("skip_existing")),
        "overwrite": bool(given.get("overwrite")),
        "similarity": bool(given.get("similarity")),
        "prompts": bool(given.get("prompts")),
    }
    if given.get("scope") == GROUPS:
        return arguments | {
            "reference": group_references(ctx.dataset),
            "label_field": given.get("label_field", "ground_truth"),
            "group_by": given["group_by"],
        }
    picked = picked_from(ctx)
    pair = (picked.sample, picked.label_id) if picked.label_id else picked.sample
    return arguments | {
        "reference": pair,
        "label_field": picked.label_field,
        "mask_value": picked.mask_value,
    }


def run_facts(run: Any) -> dict[str, Any]:
    """What the App says about a finished run."""
    return {"summary": str(run), "counts": dict(run.counts)}


def evaluate_run(ctx: Context, view: Any, name: str) -> dict[str, Any]:
    """Evaluate a run's masks, in the same operation."""
    import fiftyone_persam as fp

    results = fp.evaluate(
        view,
        name,
        gt_field=ctx.params.get("gt_field") or ctx.params.get("label_field", "ground_truth"),
        eval_key=f"{name}_eval",
        group_by=ctx.params.get("group_by"),
    )
    return {"eval_key": f"{name}_eval", "metrics": plain_metrics(results)}


def plain_metrics(results: Any) -> dict[str, float]:
    """An evaluation's numbers, as numbers that JSON knows."""
    return {name: float(value) for name, value in results.metrics().items() if value is not None}


def _group_inputs(ctx: Context, inputs: Any) -> None:
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


def _model_inputs(ctx: Context, inputs: Any) -> None:
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


def _output_inputs(ctx: Context, inputs: Any, picked: Picked | None) -> None:
    from fiftyone_persam.curation.picking import free_name, problem_with_name

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
        inputs.bool("open_review", default=True, label="Open the review panel afterwards")


def _evaluation_inputs(ctx: Context, inputs: Any, picked: Picked | None) -> None:
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


def _announce(ctx: Context, inputs: Any) -> None:
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
