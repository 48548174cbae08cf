"""What the review panel opens a form for: another reference, editing, hand-over, the run itself."""

from __future__ import annotations

import time
from typing import Any

from .base import PLUGIN, Context, show_fields
from .runs import run_names

EXPECT = 120.0  # seconds in which a form that was opened will probably be executed


class PanelForms:
    """The events; the panel that has them gives ``_try``, ``_select_run`` and ``refresh``."""

    _try: Any
    _select_run: Any
    refresh: Any

    def another_reference(self, ctx: Context) -> None:
        """Segment what is not accepted again, with one more reference."""
        ids = [ctx.current_sample] if ctx.current_sample else list(ctx.selected or [])
        params = {"run": ctx.panel.state.run, **({"reference": ids[0]} if ids else {})}
        self._expect_run(ctx)
        ctx.prompt(f"{PLUGIN}/segment_again", params=params, on_success=self.refresh)

    def learn_from_rejected(self, ctx: Context) -> None:
        """Segment what is not accepted again, from the run's own reference."""
        from fiftyone_persam.curation.database import photos_of
        from fiftyone_persam.curation.runs.record import read_record

        run = ctx.panel.state.run
        first = next(iter(read_record(ctx.dataset, run).references), None)
        params: dict[str, Any] = {"run": run}
        shown = [first.sample_id] if first is not None and first.sample_id else []
        # One in another dataset cannot be chosen in the form.
        if first is not None and shown and len(photos_of(ctx.dataset).select(shown)):
            given = {
                "reference": first.sample_id,
                "label_field": first.label_field,
                "label_id": first.label_id,
                "mask_value": None if first.mask_value is None else str(first.mask_value),
                "object": first.group or None,
            }
            params |= {name: value for name, value in given.items() if value is not None}
        self._expect_run(ctx)
        ctx.prompt(f"{PLUGIN}/segment_again", params=params, on_success=self.refresh)

    def edit(self, ctx: Context) -> None:
        """Correct masks by hand."""
        self._prompt(ctx, "edit_masks")

    def edit_this(self, ctx: Context) -> None:
        """Correct the opened photo's mask by hand."""
        from fiftyone_persam.curation.review.editing import make_editable

        run, sample_id = ctx.panel.state.run, ctx.current_sample
        fields: list[str] = []
        if self._try(ctx, lambda: fields.append(make_editable(ctx.dataset, run, [sample_id]))):
            ctx.ops.reload_dataset()
            show_fields(ctx, *fields)
            # The App keeps a photo that it has opened, without the new label: only a fresh page
            # reads it again. The page comes back with this photo open.
            ctx.ops.notify(
                "Reload the page, choose Sample and Annotate, and click the mask.", variant="info"
            )

    def promote(self, ctx: Context) -> None:
        """Copy accepted masks into a label field."""
        self._prompt(ctx, "promote_masks")

    def export(self, ctx: Context) -> None:
        """Export accepted masks."""
        self._prompt(ctx, "export_masks")

    def failures(self, ctx: Context) -> None:
        """The failed photos with reasons."""
        self._prompt(ctx, "show_failures")

    def resume(self, ctx: Context) -> None:
        """Go on with the run."""
        self._expect_run(ctx)
        self._prompt(ctx, "resume_run")

    def rename(self, ctx: Context) -> None:
        """Give the run another name."""
        self._prompt(ctx, "rename_run", self.renamed)

    def renamed(self, ctx: Context) -> None:
        """Stay with the run under its new name."""
        known = ctx.panel.state.runs or []
        new = [name for name in run_names(ctx.dataset) if name not in known]
        self._select_run(ctx, new[-1] if new else ctx.panel.state.run)

    def delete(self, ctx: Context) -> None:
        """Delete the run."""
        self._prompt(ctx, "delete_run")

    def segment(self, ctx: Context) -> None:
        """Begin a new run."""
        self._expect_run(ctx)
        ctx.prompt(f"{PLUGIN}/segment_from_reference", on_success=self.refresh)

    def _expect_run(self, ctx: Context) -> None:
        # The panel is not told when a form begins to run: it looks by itself, for so long.
        ctx.panel.state.expecting = time.time() + EXPECT

    def _prompt(self, ctx: Context, operator: str, then: Any = None) -> None:
        params = {"run": ctx.panel.state.run}
        ctx.prompt(f"{PLUGIN}/{operator}", params=params, on_success=then or self.refresh)
