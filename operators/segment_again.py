"""``segment_again``: one more reference, and another try at what is not accepted yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fiftyone.operators.types as types

from .base import (
    Context,
    PersamOperator,
    ask,
    choose,
    counted,
    from_app,
    mask_value_text,
    notice,
    refuse,
    show_fields,
)
from .given_references import negative_params
from .more_options import keeps_embeddings
from .negatives import again_inputs, negative_arguments
from .outcome import run_facts
from .reference import chosen_reference, reference_inputs
from .runs import choose_run
from .streaming import Progress
from .targets import photos_to_segment

OBJECT = "object"


class SegmentAgain(PersamOperator):
    """Form around :func:`fiftyone_persam.curation.again.segment_again`."""

    operator = "segment_again"
    label = "Run again with another reference"
    description = "Add a reference to a run and segment again what is not accepted"
    icon = "add_photo_alternate"
    delegable = True
    generator = True
    view_target = True
    submit = "Run again"

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run, the new reference, and what will be done again."""
        from fiftyone_persam.curation.review.editing import corrected_fields
        from fiftyone_persam.curation.review.table import review_counts, review_view
        from fiftyone_persam.curation.runs.naming import edit_field
        from fiftyone_persam.curation.segmentation.again import NOT_ACCEPTED

        run = choose_run(ctx, inputs)
        if run is None:
            return
        if problem := _problem_with(ctx, run):
            refuse(inputs, problem, "Segment the photos of one object alone to add another one.")
            return
        chosen = reference_inputs(ctx, inputs, [*corrected_fields(ctx.dataset, run), run])
        if chosen is None:
            return
        if objects := _objects(ctx, run):
            choose(inputs, OBJECT, objects, "Which object it shows", required=False)
            if ctx.params.get(OBJECT) not in objects:
                ask(inputs, "Choose which of the run's objects the new reference shows.")
        inputs.bool(
            "keep",
            default=True,
            label="Keep the earlier references too",
            description="Off: only the new reference says what the object looks like",
            view=types.CheckboxView(),
        )
        again_inputs(ctx, inputs, run, chosen)
        samples = photos_to_segment(ctx)
        counts = review_counts(samples, run)
        count = counts.total - counts.accepted
        notice(
            inputs,
            "amount",
            f"{counted(count)} will be segmented again; {counts.accepted} accepted "
            f"one{'' if counts.accepted == 1 else 's'} stay{'s' * (counts.accepted == 1)}.",
        )
        edited = edit_field(run)
        if ctx.dataset.has_field(edited):
            lost = review_view(samples, run, *NOT_ACCEPTED).exists(edited).count()
            if lost:
                text = f"{lost} of them were opened for correction: accept those you want to keep."
                notice(inputs, "corrected", text)
        if not count:
            refuse(inputs, f"Every photo of run {run!r} is accepted already.", name="nothing")
        # What is selected is the reference.
        inputs.view_target(
            ctx,
            action_description="Run again",
            default_target="CURRENT_VIEW",
            allow_selected_samples=False,
        )

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Segment what is not accepted."""
        from fiftyone_persam.curation.segmentation.again import segment_again

        name, chosen, samples = ctx.params["run"], chosen_reference(ctx), photos_to_segment(ctx)
        pair: Any = (chosen.sample, chosen.label_id) if chosen.label_id else chosen.sample
        others = negative_arguments(ctx, chosen)
        if _objects(ctx, name):
            pair = {ctx.params[OBJECT]: pair}
            if isinstance(others.get("negatives"), list):
                others["negatives"] = {ctx.params[OBJECT]: others["negatives"]}

        def work() -> dict[str, Any]:
            run = segment_again(
                samples,
                name,
                reference=pair,
                label_field=chosen.label_field,
                mask_value=chosen.mask_value,
                keep_references=bool(ctx.params.get("keep", True)),
                cache=keeps_embeddings(),
                progress=progress,
                **others,
            )
            return {"run": name, "fields": [name], **run_facts(run)}

        return progress.published(ctx.dataset, name, work)

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the new masks."""
        result = result or {}
        return [
            ctx.ops.clear_selected_samples(),
            ctx.ops.reload_dataset(),
            show_fields(ctx, *result["fields"]),
            ctx.ops.notify(result["summary"], variant="success"),
        ]

    def in_panel(self, ctx: Context) -> bool:
        """In the App."""
        return from_app(ctx)

    def resolve_run_name(self, ctx: Context) -> str:
        """The name in the list of delegated operations."""
        return f"Run {ctx.params.get('run')} again"

    def __call__(
        self,
        sample_collection: Any,
        run: str,
        reference: Any,
        label_field: str = "ground_truth",
        label_id: str | None = None,
        mask_value: int | str | None = None,
        keep: bool = True,
        use_rejected: bool = True,
        negatives: Any = None,
        negatives_field: str | None = None,
        negatives_mask_value: int | str | None = None,
        delegate: bool = False,
    ) -> Any:
        """Segment what is not accepted in ``run`` again, with one more reference.

        Of a run of several objects ``reference`` is ``{name: reference}``, of one of them.
        """
        shown = None
        if isinstance(reference, Mapping) and len(reference) == 1:
            ((shown, reference),) = reference.items()
        if isinstance(reference, tuple):
            reference, label_id = reference
        return self.call(
            sample_collection,
            delegate=delegate,
            run=run,
            reference=str(getattr(reference, "id", reference)),
            label_field=label_field,
            label_id=label_id,
            mask_value=mask_value_text(sample_collection, label_field, mask_value),
            keep=keep,
            use_rejected=use_rejected,
            negatives=negative_params(negatives),
            negatives_field=negatives_field,
            negatives_mask_value=negatives_mask_value,
            object=shown,
        )


def _problem_with(ctx: Context, run: str) -> str | None:
    """Why a run cannot get another reference."""
    from fiftyone_persam.curation.runs.record import read_record

    grouped = any(one.group for one in read_record(ctx.dataset, run).references)
    if grouped and not _objects(ctx, run):
        return f"Run {run!r} has one reference per object."
    return None


def _objects(ctx: Context, run: str) -> list[str]:
    """The objects of a run where a photo may have several."""
    from fiftyone_persam.curation.runs.record import read_record

    return list(read_record(ctx.dataset, run).parameters.objects)
