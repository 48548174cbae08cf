"""Operators of the review: accept, reject, undo, threshold, another reference, edit."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, PersamOperator, counted, notice, refuse, show_fields
from .runs import choose_run
from .streaming import Progress
from .targets import photos_to_read

THUMBS_DOWN = "alt"


class _Decide(PersamOperator):
    """Accept or reject: the opened photo, or those selected in the grid."""

    decision: str | None
    dynamic = False
    risk = types.RiskLevel.LOW

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run; what it is about is chosen in the grid."""
        from fiftyone_persam.curation.review.table import masks_in

        run = choose_run(ctx, inputs)
        if run is None:
            return
        ids = ctx.params.get("ids") or chosen_ids(ctx)
        if not ids:
            refuse(inputs, "Select photos in the grid, or open one, first.")
            return
        touched = masks_in(ctx.dataset, run, ids)
        if len(touched) == len(set(ids)) and not any(touched.values()):
            refuse(inputs, "The photos failed: there is no mask to be right or wrong.")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Write the decision."""
        from fiftyone_persam.curation.review.decisions import set_review
        from fiftyone_persam.curation.review.table import review_counts

        run, ids = ctx.params["run"], ctx.params.get("ids") or chosen_ids(ctx)
        changed = set_review(ctx.dataset, run, self.decision, ids)
        return {"changed": changed, "counts": str(review_counts(ctx.dataset, run))}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show it."""
        return [ctx.ops.clear_selected_samples(), ctx.ops.reload_dataset()]

    def __call__(self, sample_collection: Any, run: str, ids: list[str] | None = None) -> Any:
        """Decide about photos of a run; default: all of the given view."""
        from fiftyone_persam.curation.checks import list_of_ids

        chosen = list_of_ids(sample_collection if ids is None else ids)
        return self.call(sample_collection, run=run, ids=chosen)


class AcceptMasks(_Decide):
    """Mark masks of a run as right."""

    operator = "accept_masks"
    label = "Accept masks"
    description = "Mark the masks of the selected photos as right"
    icon = "thumb_up"
    decision = "accepted"


class RejectMasks(_Decide):
    """Mark masks of a run as wrong."""

    operator = "reject_masks"
    label = "Reject masks"
    description = "Mark the masks of the selected photos as wrong"
    icon = "thumb_down"
    decision = "rejected"


class UndoReview(PersamOperator):
    """Take the last step of the review back."""

    operator = "undo_review"
    label = "Undo the last review step"
    description = "Take back the last accept, reject or change of the presence threshold"
    icon = "undo"
    risk = types.RiskLevel.LOW

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run, and whether there is something to undo."""
        from fiftyone_persam.curation.review.decisions import undo_steps

        run = choose_run(ctx, inputs)
        if run is not None and not undo_steps(ctx.dataset, run):
            refuse(inputs, f"There is nothing to undo in run {run!r}.")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Undo one step."""
        from fiftyone_persam.curation.review.decisions import undo_review
        from fiftyone_persam.curation.review.table import review_counts

        run = ctx.params["run"]
        changed = undo_review(ctx.dataset, run)
        return {"changed": changed, "counts": str(review_counts(ctx.dataset, run))}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show it."""
        return [ctx.ops.reload_dataset()]

    def __call__(self, sample_collection: Any, run: str) -> Any:
        """Undo the last review step of ``run``."""
        return self.call(sample_collection, run=run)


class SetPresenceThreshold(PersamOperator):
    """Move the line below which an object counts as absent."""

    operator = "set_presence_threshold"
    label = "Set the presence threshold"
    description = "Count photos as not showing the object below this presence; masks are kept"
    icon = "tune"
    risk = types.RiskLevel.LOW

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run, the threshold, and what it changes."""
        from fiftyone_persam.curation.review.threshold import presence_changes
        from fiftyone_persam.curation.runs.presence import presence_threshold

        run = choose_run(ctx, inputs)
        if run is None:
            return
        now = presence_threshold(ctx.dataset, run)
        inputs.float(
            "threshold",
            default=now,
            min=0,
            max=1,
            required=True,
            label="Presence threshold",
            description="A probability, 0 to 1: the object counts as absent below it; 0 keeps all",
        )
        value = ctx.params.get("threshold")
        if isinstance(value, int | float) and 0 <= value <= 1:
            count = presence_changes(ctx.dataset, run, float(value))
            notice(inputs, "changes", f"{count} photos change between 'absent' and 'to do'.")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Set it."""
        from fiftyone_persam.curation.review.threshold import set_presence_threshold

        return {
            "changed": set_presence_threshold(
                ctx.dataset, ctx.params["run"], float(ctx.params["threshold"])
            )
        }

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the masks that have come or gone."""
        return [ctx.ops.reload_dataset()]

    def __call__(self, sample_collection: Any, run: str, threshold: float) -> Any:
        """Set the presence threshold of ``run``."""
        return self.call(sample_collection, run=run, threshold=threshold)


class EditMask(PersamOperator):
    """Hand a run's masks to the App's own annotation tools."""

    operator = "edit_masks"
    label = "Edit masks by hand"
    description = "Offer a run's masks to the App's Annotate tools, as Detections"
    icon = "draw"
    view_target = True

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run, the photos, and what will happen."""
        from fiftyone_persam.curation.review.table import review_counts

        run = choose_run(ctx, inputs)
        if run is not None:
            ids = ctx.params.get("ids")
            amount = len(ids) if ids else review_counts(photos_to_read(ctx), run).total
            notice(inputs, "amount", f"{counted(amount)}.")
            inputs.view_target(ctx, action_description="Edit", default_target="CURRENT_VIEW")
            notice(
                inputs,
                "how",
                "Then reload the page, open a photo, choose Annotate, click its mask, and use "
                "brush or pen. "
                "Runs written as one mask per photo are copied into a field of Detections first.",
            )

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Prepare the field."""
        from fiftyone_persam.curation.review.editing import make_editable

        run, ids = ctx.params["run"], ctx.params.get("ids")
        return {"field": make_editable(ctx.dataset if ids else photos_to_read(ctx), run, ids)}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the field that can be edited."""
        field = (result or {})["field"]
        return [
            ctx.ops.reload_dataset(),
            show_fields(ctx, field),
            ctx.ops.notify(
                f"Reload the page, open a photo, choose Annotate to edit {field!r}", variant="info"
            ),
        ]

    def __call__(self, sample_collection: Any, run: str) -> Any:
        """Make the masks of ``run`` editable in the App."""
        return self.call(sample_collection, run=run)


def chosen_ids(ctx: Context) -> list[str]:
    """The photos a decision is about: the opened one, else those selected."""
    if ctx.current_sample:
        return [ctx.current_sample]
    return list(ctx.selected or [])


def decisions_from_thumbs(ctx: Context) -> dict[str, list[str]]:
    """What was marked in the grid, where ticks have been turned into thumbs."""
    if ctx.sample_selection_style.get("default") != "thumbsup":
        return {"accepted": [], "rejected": []}
    up = [s["id"] for s in ctx.selected_samples if s.get("type") != THUMBS_DOWN]
    down = [s["id"] for s in ctx.selected_samples if s.get("type") == THUMBS_DOWN]
    return {"accepted": up, "rejected": down}
