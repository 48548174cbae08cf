"""The evaluation page of the review panel: numbers per object, and photos behind the numbers."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import PLUGIN, Context, narrow_table, show_fields
from .panel_layout import flowing_row, histogram_state, histograms
from .panel_parts import EVALUATION, header

COLUMNS = {
    "object": "Object",
    "photos": "Photos",
    "iou": "IoU",
    "boundary_iou": "bIoU",
    "accuracy": "Accuracy",
}
PLOTS = {"iou": "IoU", "boundary_iou": "Boundary IoU"}


class EvaluationPage:
    """The events of the page; the panel that has it gives ``_read``, ``_show_bar``, ``refresh``."""

    _read: Any
    _show_bar: Any
    refresh: Any

    def evaluation_page(self, ctx: Context) -> None:
        """Show the numbers of the run's evaluation."""
        ctx.panel.state.page = EVALUATION
        self._read(ctx)

    def review_page(self, ctx: Context) -> None:
        """Back to the review."""
        ctx.panel.state.page = None
        self._read(ctx)

    def change_evaluation(self, ctx: Context) -> None:
        """Another evaluation of the run was chosen."""
        value = ctx.params.get("value")
        if value and value != ctx.panel.state.evaluation:
            ctx.panel.state.evaluation = value
            self._read(ctx)

    def evaluate(self, ctx: Context) -> None:
        """Evaluate the run."""
        params = {"pred_field": ctx.panel.state.run}
        ctx.prompt(f"{PLUGIN}/evaluate", params=params, on_success=self.refresh)

    def open_evaluation(self, ctx: Context) -> None:
        """FiftyOne's own panel has confusion matrices, and compares two evaluations."""
        ctx.ops.open_panel("model_evaluation_panel_builtin")

    def show_object(self, ctx: Context) -> None:
        """The photos of a row of the table, worst first."""
        from fiftyone_persam.curation.evaluation.scores import worst_first

        rows, index = ctx.panel.state.scores or [], int(ctx.params.get("row", 0))
        last = index + 1 >= len(rows)  # the mean over all objects
        name = None if last else rows[index]["object"]
        ctx.ops.set_view(worst_first(ctx.dataset, ctx.panel.state.evaluation, name))
        show_fields(ctx, ctx.panel.state.run)

    def show_iou(self, ctx: Context) -> None:
        """A bar of the IoU histogram was clicked."""
        self._show_bar(ctx, "iou", ctx.panel.state.evaluation)

    def show_boundary_iou(self, ctx: Context) -> None:
        """A bar of the boundary IoU histogram was clicked."""
        self._show_bar(ctx, "boundary_iou", ctx.panel.state.evaluation)


def read(ctx: Context, run: str, wanted: str | None) -> dict[str, Any]:
    """The page's state: the run's evaluations, and the numbers of one of them."""
    import numpy as np

    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.evaluation.histograms import histogram_of
    from fiftyone_persam.curation.evaluation.scores import evaluations_of, object_table
    from fiftyone_persam.curation.runs.colours import colour_of

    keys = evaluations_of(ctx.dataset, run)
    key = wanted if wanted in keys else (keys[-1] if keys else None)
    state: dict[str, Any] = {"evaluations": keys, "evaluation": key}
    if key is None:
        return state
    table = object_table(ctx.dataset, key)
    state["scores"] = [
        {name: f"{v:.3f}" if isinstance(v := row[name], float) else v for name in COLUMNS}
        for row in table
    ]
    state["eval_header.eval_choice"] = key
    for what in PLOTS:
        evaluated = photos_of(ctx.dataset).exists(f"{key}_{what}")
        values = np.array(evaluated.values(f"{key}_{what}"), np.float64)
        histogram = histogram_of(values)
        colour = colour_of(ctx.dataset, run)
        state |= histogram_state("eval_plots", what, histogram, colour, PLOTS[what])
    return state


def evaluation(panel: Any, owner: Any, state: Any) -> None:
    """The page: which evaluation, its table, its plots."""
    header(panel, owner, state)
    if not state.evaluation:
        panel.md("This run has not been evaluated yet: compare it with ground truth.", name="none")
        panel.btn(
            "evaluate",
            label="Evaluate",
            icon="assessment",
            on_click=owner.evaluate,
            variant="contained",
        )
        return
    row = flowing_row(panel, "eval_header")
    view = types.DropdownView()
    for key in state.evaluations or []:
        view.add_choice(key, label=key)
    row.enum(
        "eval_choice",
        view.values(),
        default=state.evaluation,
        label="Evaluation",
        view=view,
        on_change=owner.change_evaluation,
    )
    row.btn("evaluate", label="Evaluate again", icon="assessment", on_click=owner.evaluate)
    row.btn(
        "open_evaluation",
        label="All metrics",
        icon="open_in_new",
        on_click=owner.open_evaluation,
    )
    _table(panel, owner)
    handlers = {"iou": owner.show_iou, "boundary_iou": owner.show_boundary_iou}
    plots = {what: (title, handlers[what]) for what, title in PLOTS.items()}
    histograms(panel, "eval_plots", plots, state)


def _table(panel: Any, owner: Any) -> None:
    view = narrow_table()
    rows = types.Object()
    for name, label in COLUMNS.items():
        rows.str(name, label=label)
        view.add_column(name, label=label)
    view.add_row_action(
        "show", owner.show_object, icon="grid_on", tooltip="Show these photos, worst first"
    )
    panel.list("scores", rows, view=view, label="Per object")
