"""``segment_everything``: masks of whatever is in the photos, as labels to look at or to pick."""

from __future__ import annotations

from typing import Any

from .base import Context, PersamOperator, choose, notice, show_fields
from .segment_form import model_inputs
from .streaming import Progress
from .targets import photos_to_segment

DEFAULT_COUNT = 30


class SegmentEverything(PersamOperator):
    """Form around :func:`fiftyone_persam.segment_everything`."""

    operator = "segment_everything"
    label = "Segment everything"
    description = "Mask whatever is in the photos, without a label: to look at, or to pick from"
    delegable = True
    generator = True
    view_target = True
    submit = "Segment"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Photos, model, how many masks, and the field."""
        from fiftyone_persam.sam import PROPOSERS
        from fiftyone_persam.sam.proposals import MAX_COUNT

        inputs.view_target(
            ctx,
            action_description="Segment",
            allow_selected_samples=bool(ctx.selected),
            default_target="CURRENT_VIEW",
        )
        count = len(photos_to_segment(ctx))
        notice(inputs, "amount", f"{count} photo{'' if count == 1 else 's'} will be segmented.")
        helps = {name: PROPOSERS[name].help for name in PROPOSERS}
        choose(inputs, "proposer", helps, "How things are found", default=next(iter(helps)))
        model_inputs(ctx, inputs)
        inputs.int(
            "max_proposals",
            default=DEFAULT_COUNT,
            min=1,
            max=MAX_COUNT,
            required=True,
            label="Masks in a photo, at most",
        )
        inputs.str("out_field", default="everything", required=True, label="Field for the masks")
        inputs.bool(
            "skip_existing",
            default=True,
            label="Only photos that have no masks there yet",
            description="Off: the masks there are replaced in the photos you chose",
        )

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Segment."""
        import fiftyone_persam as fp

        given = ctx.params
        skip = bool(given.get("skip_existing", not given.get("literal")))
        if given.get("download"):
            fp.load_sam(given.get("model", "sam_lite"), download=True)
        done = fp.segment_everything(
            photos_to_segment(ctx),
            model=given.get("model", "sam_lite"),
            out_field=given.get("out_field", "everything"),
            max_proposals=given.get("max_proposals", DEFAULT_COUNT),
            proposer=given.get("proposer", "discovery"),
            skip_existing=skip,
            overwrite=bool(given.get("overwrite")) if given.get("literal") else not skip,
            progress=progress,
        )
        made = [done.field] if ctx.dataset.has_field(done.field) else []
        return {"fields": made, "summary": str(done), "failed": len(done.errors)}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the masks and say what happened."""
        result = result or {}
        return [
            ctx.ops.reload_dataset(),
            show_fields(ctx, *result["fields"]),
            ctx.ops.notify(result["summary"], variant="warning" if result["failed"] else "success"),
        ]

    def __call__(
        self,
        sample_collection: Any,
        model: str = "sam_lite",
        out_field: str = "everything",
        max_proposals: int = DEFAULT_COUNT,
        proposer: str = "discovery",
        skip_existing: bool = False,
        overwrite: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Mask everything in a dataset or view; see :func:`fiftyone_persam.segment_everything`."""
        return self.call(
            sample_collection,
            delegate=delegate,
            model=model,
            out_field=out_field,
            max_proposals=max_proposals,
            proposer=proposer,
            skip_existing=skip_existing,
            overwrite=overwrite,
            literal=True,
        )
