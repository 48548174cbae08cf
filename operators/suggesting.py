"""``suggest_reference``: which photo, labelled, would serve the others best."""

from __future__ import annotations

from typing import Any

from .base import PLUGIN, Context, PersamOperator, choose, counted, notice, refuse
from .segment_form import model_inputs
from .streaming import Progress
from .targets import photos_to_segment

WHOLE = "whole"  # photos, whatever is labelled in them
SHOWN = 8


class SuggestReference(PersamOperator):
    """Form around :func:`fiftyone_persam.suggest_reference`."""

    operator = "suggest_reference"
    label = "Suggest a reference"
    description = "Rank photos by how well each, labelled, would serve the others as a reference"
    icon = "recommend"
    view_target = True
    generator = True
    submit = "Suggest"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Photos, what of them is compared, and what to do then."""
        from fiftyone_persam.personalize.registries import CRITERIA, SEPARATION

        inputs.view_target(
            ctx,
            action_description="Compare",
            allow_selected_samples=len(ctx.selected or []) > 1,
            default_target="CURRENT_VIEW",
        )
        photos = photos_to_segment(ctx)
        count = len(photos)
        if count < 2:
            refuse(inputs, "There are fewer than two photos to compare: clear the filters.")
            return
        offered = {WHOLE: "The photos themselves, which need no label"}
        offered |= {name: f"What is labelled in {name!r}" for name in mask_fields(ctx.dataset)}
        choose(inputs, "label_field", offered, "Compare", default=WHOLE)
        choose(
            inputs,
            "by",
            {name: sentence[0].upper() + sentence[1:] for name, sentence in CRITERIA.items()},
            "Rank by",
            default=SEPARATION,
        )
        inputs.int(
            "count",
            default=SHOWN,
            min=1,
            required=True,
            label="Photos to show, at most",
            description="The best one first; it is selected",
        )
        inputs.bool(
            "go_on",
            default=True,
            label="Go on to 'Segment my object' with the best one",
        )
        model_inputs(ctx, inputs)
        notice(inputs, "amount", f"{counted(count)} will be encoded and compared.")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Rank."""
        import fiftyone_persam as fp
        from fiftyone_persam.personalize.registries import SEPARATION

        from .more_options import keeps_embeddings

        field = ctx.params.get("label_field", WHOLE)
        if ctx.params.get("download"):
            fp.load_sam(ctx.params["model"], download=True)
        found = fp.suggest_reference(
            photos_to_segment(ctx),
            label_field=None if field == WHOLE else field,
            model=ctx.params.get("model") or "sam_lite",
            by=ctx.params.get("by", SEPARATION),
            cache=keeps_embeddings(),
        )
        count = int(ctx.params.get("count") or SHOWN)
        return {
            "ids": list(found.ids[:count]),
            "scores": list(found.scores[:count]),
            "compared": len(found.ids),
            "label_field": found.field,
        }

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the best photos in their order, select the first, and go on where asked for."""
        result = result or {}
        ids = result["ids"]
        best = photos_to_segment(ctx).select(ids, ordered=True)
        steps = [
            ctx.ops.set_view(view=best),
            ctx.ops.set_selected_samples(ids[:1]),
            ctx.ops.notify(
                f"The best of {result['compared']} photos come first; the first is selected",
                variant="success",
            ),
        ]
        if ctx.params.get("go_on", True):
            params: dict[str, Any] = {"reference": ids[0]}
            if result["label_field"]:
                params["label_field"] = result["label_field"]
            steps.append(ctx.prompt(f"{PLUGIN}/segment_from_reference", params=params))
        return steps

    def __call__(
        self,
        sample_collection: Any,
        label_field: str | None = None,
        count: int = SHOWN,
        model: str = "sam_lite",
        by: str = "separation",
    ) -> Any:
        """Rank the photos of a dataset or view; see :func:`fiftyone_persam.suggest_reference`."""
        return self.call(
            sample_collection,
            label_field=WHOLE if label_field is None else label_field,
            count=count,
            model=model,
            by=by,
            go_on=False,
        )


def mask_fields(dataset: Any) -> list[str]:
    """The fields whose labels mark regions."""
    from fiftyone_persam.curation.checks import MASKS

    schema = dataset.get_field_schema()
    return [n for n, field in schema.items() if getattr(field, "document_type", None) in MASKS]
