"""``segment_from_reference``: one labelled photo in, masks of the object in all the others out."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, PersamOperator, choose, from_app, show_fields
from .reference import (
    candidates,
    group_references,
    has_group_references,
    picked_from,
    reference_inputs,
)
from .segment_form import (
    METHODS,
    announce,
    evaluation_inputs,
    group_inputs,
    keeps_embeddings,
    model_inputs,
    output_inputs,
)
from .streaming import DONE, ERROR, STOPPED, Board, Progress, StoppedError

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
            group_inputs(ctx, inputs)
        several = len(candidates(ctx)) > 1
        inputs.view_target(
            ctx,
            action_description="Segment",
            allow_selected_samples=several,
            default_target="CURRENT_VIEW",
        )
        announce(ctx, inputs)
        choose(inputs, "method", METHODS, "Method", default="persam_f", radio=True)
        model_inputs(ctx, inputs)
        output_inputs(ctx, inputs, picked)
        evaluation_inputs(ctx, inputs, picked)

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
        return [
            ctx.ops.clear_selected_samples(),
            ctx.ops.reload_dataset(),
            show_fields(ctx, *result["fields"]),
            ctx.ops.notify(result["summary"], variant="success"),
        ]

    def in_panel(self, ctx: Context) -> bool:
        """In the App, unless the user does not want the panel."""
        return from_app(ctx) and bool(ctx.params.get("open_review", True))

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
        similarity: bool = False,
        prompts: bool = False,
        cache: bool = False,
        backend: str | None = None,
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
            similarity: write similarity maps, too
            prompts: write the prompt points, too
            cache: keep embeddings for other runs on these photos
            backend: ``"local"``, ``"devices"`` or ``"ray"``
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
            similarity=similarity,
            prompts=prompts,
            cache=cache,
            backend=backend,
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
        "cache": bool(given.get("cache", keeps_embeddings())),
        "backend": given.get("backend"),
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
