"""``segment_from_reference``: one labelled photo in, masks of the object in all the others out."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, PersamOperator, from_app, mask_value_text, show_fields
from .given_references import negative_params, reference_params
from .method_form import OPTION, check_kind, method_inputs, takes_words
from .negatives import negative_inputs
from .outcome import evaluated, run_facts
from .phrase import PHRASE, phrase_inputs
from .reference import ChosenReference, candidates, reference_inputs
from .scope import GROUPED, ONE, SAID, SEVERAL, TOGETHER, scope_input
from .segment_arguments import given_references, segment_arguments
from .segment_form import (
    announce,
    check_references,
    evaluation_inputs,
    group_inputs,
    model_inputs,
    output_inputs,
)
from .several import several_inputs
from .streaming import Progress
from .targets import photos_to_segment
from .together import together_inputs
from .video import EVERY, has_videos, video_inputs


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
        chosen: ChosenReference | None
        if has_videos(ctx):
            chosen, given = None, ctx.params.get("literal") and ctx.params.get("objects")
            if given or (chosen := video_inputs(ctx, inputs)) is not None:
                self._photos(ctx, inputs, several=True)
                method_inputs(ctx, inputs)
                check_kind(ctx, inputs, chosen if chosen and chosen.label_id != EVERY else None)
                model_inputs(ctx, inputs)
                output_inputs(ctx, inputs, chosen)
            return
        chosen = None
        scope = scope_input(ctx, inputs)
        said = bool(ctx.params.get("literal") and ctx.params.get(PHRASE))  # judged by `segment`
        if scope == SAID:
            if not said and not phrase_inputs(ctx, inputs):
                return
        elif scope == ONE and said and not takes_words(ctx):
            pass  # the phrase stands for the label
        elif scope == ONE:
            chosen = reference_inputs(ctx, inputs)
            if chosen is None:
                return
        elif scope == SEVERAL:
            if not ctx.params.get("literal") and not several_inputs(ctx, inputs):
                return
        elif scope == TOGETHER:
            if not together_inputs(ctx, inputs):
                return
        elif scope == GROUPED:
            if not group_inputs(ctx, inputs):
                return
        else:
            field = ctx.params.get("label_field", "ground_truth")
            group_by = ctx.params.get("group_by")
            check_references(ctx, inputs, given_references(ctx), field, group_by)
        self._photos(ctx, inputs, several=len(candidates(ctx)) > 1)
        method_inputs(ctx, inputs)
        check_kind(ctx, inputs, chosen)
        negative_inputs(ctx, inputs, scope, chosen)
        if said or not takes_words(ctx):
            model_inputs(ctx, inputs)
        elif scope != SAID and not phrase_inputs(ctx, inputs):
            return
        output_inputs(ctx, inputs, chosen)
        evaluation_inputs(ctx, inputs, chosen)

    @staticmethod
    def _photos(ctx: Context, inputs: Any, several: bool) -> None:
        target = inputs.view_target(
            ctx,
            action_description="Segment",
            allow_selected_samples=several,
            default_target="CURRENT_VIEW",
        )
        if target.default == "SELECTED_SAMPLES":  # what is selected says what to look for
            target.default = target.type.values[0]
        announce(ctx, inputs)

    def resolve_placement(self, ctx: Context) -> Any:
        """A button over the grid."""
        return _button(types.Places.SAMPLES_GRID_SECONDARY_ACTIONS)

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Segment, and evaluate where asked for."""
        import fiftyone_persam as fp

        view, name = photos_to_segment(ctx), ctx.params["out_field"]
        if ctx.params.get("download"):
            fp.load_sam(ctx.params.get("model", "sam_lite"), download=True)

        def work() -> dict[str, Any]:
            run = fp.segment(view, progress=progress, **segment_arguments(ctx))
            shown = f"frames.{name}" if has_videos(ctx) else name
            result: dict[str, Any] = {"run": name, "fields": [shown], **run_facts(run)}
            if ctx.params.get("evaluate"):
                progress.stage = "Evaluating"
                result = evaluated(ctx, view, result)
            return result

        return progress.published(ctx.dataset, name, work)

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the new masks and say what happened."""
        result = result or {}
        return [
            ctx.ops.clear_selected_samples(),
            ctx.ops.reload_dataset(),
            show_fields(ctx, *result["fields"]),
            ctx.ops.notify(
                result["summary"], variant="warning" if "warning" in result else "success"
            ),
        ]

    def in_panel(self, ctx: Context) -> bool:
        """In the App, unless the user does not want the panel."""
        wanted = bool(ctx.params.get("open_review", True)) and not has_videos(ctx)
        return from_app(ctx) and wanted

    def resolve_run_name(self, ctx: Context) -> str:
        """The name in the list of delegated operations."""
        return f"Segment into {ctx.params.get('out_field')}"

    def __call__(
        self,
        sample_collection: Any,
        reference: Any,
        label_field: str = "ground_truth",
        label_id: str | None = None,
        mask_value: int | str | None = None,
        method: str = "persam_f",
        model: str = "sam_lite",
        out_field: str = "object_masks",
        label_type: str | None = None,
        evaluate: bool = False,
        group_by: str | None = None,
        skip_existing: bool = False,
        similarity: bool = False,
        prompts: bool = False,
        compare_photos: bool = False,
        cache: bool = False,
        backend: str | None = None,
        features: str | None = None,
        delegate: bool = False,
        overwrite: bool = False,
        negatives: Any = None,
        negatives_field: str | None = None,
        negatives_mask_value: int | str | None = None,
        use_rejected: bool = True,
        **options: Any,
    ) -> Any:
        """Segment the object of ``reference`` in every photo of a dataset or view.

        Args:
            sample_collection: a dataset or view
            reference: a sample, its id, or a (sample, label id) pair; of a video (sample, frame
                number) or (sample, frame number, label id); or several of one object, or
                one per object of ``group_by``: a view of samples, or a list of these; or a
                ``TextReference``, alone, in a (sample, ``TextReference``) pair, or in a list; or a
                mapping of names to references, for several objects at once
            label_field: the field of the reference's label
            label_id: which of its labels, where there are several
            mask_value: which value of a segmentation mask
            method: see :func:`fiftyone_persam.list_methods`
            model: see :func:`fiftyone_persam.list_models`
            out_field: the run's name and field
            label_type: ``"segmentation"``, ``"detections"`` or ``"both"``; by default the second
                for videos, the first for photos
            evaluate: compare with ``label_field`` afterwards
            group_by: field that names each photo's object: several references need one per value;
                one reference leaves it to the evaluation
            skip_existing: segment only photos that have no mask of this run yet
            similarity: write similarity maps, too
            prompts: write the prompt points, too
            compare_photos: in the end, a photo whose match is far behind the best ones loses
                presence
            cache: keep embeddings for other runs on these photos
            backend: ``"local"``, ``"devices"`` or ``"ray"``
            features: another backbone that finds the object: ``"timm/<model>"``
            delegate: queue it for ``fiftyone delegated launch``
            overwrite: do these photos of a run of this name again
            negatives: what the object is not: as ``reference``, without words
            negatives_field: the label field of the negatives; ``label_field`` if None
            negatives_mask_value: which value or class of the negatives' masks
            use_rejected: learn from masks that reviews have rejected
            options: of the method, see :func:`fiftyone_persam.list_methods`
        """
        return self.call(
            sample_collection,
            delegate=delegate,
            **reference_params(reference, label_id),
            label_field=label_field,
            mask_value=mask_value_text(sample_collection, label_field, mask_value),
            method=method,
            model=model,
            out_field=out_field,
            label_type=label_type or _label_type(sample_collection),
            evaluate=evaluate,
            group_by=group_by,
            skip_existing=skip_existing,
            overwrite=overwrite,
            literal=True,
            negatives=negative_params(negatives),
            negatives_field=negatives_field,
            negatives_mask_value=negatives_mask_value,
            use_rejected=use_rejected,
            similarity=similarity,
            prompts=prompts,
            compare_photos=compare_photos,
            cache=cache,
            backend=backend,
            features=features,
            **{f"{OPTION}{name}": value for name, value in options.items()},
        )


class SegmentFromOpened(SegmentFromReference):
    """The same form, for the button over an opened photo."""

    operator = "segment_from_opened"
    unlisted = True

    def resolve_placement(self, ctx: Context) -> Any:
        """A button over an opened photo."""
        return _button(types.Places.SAMPLES_VIEWER_ACTIONS)


def _label_type(collection: Any) -> str:
    from fiftyone_persam.curation.forms.films import has_videos

    return "detections" if has_videos(collection) else "segmentation"


def _button(place: Any) -> Any:
    button = types.Button(
        label=SegmentFromReference.label, icon=SegmentFromReference.icon, prompt=True
    )
    return types.Placement(place, button)
