"""The review panel "Personal masks", in the grid and beside an opened photo."""

from __future__ import annotations

from typing import Any

import fiftyone.operators as foo
import fiftyone.operators.types as types

from . import panel_current, panel_evaluation, panel_forms, panel_picking, panel_thumbs
from . import panel_parts as parts
from .base import ICON, Context, missing_packages, show_fields
from .reviewing import decisions_from_thumbs
from .runs import run_names
from .video import has_videos

NAME = "review_masks"
TODO = "todo"
SHOWN = 2000
"""Photos that are shown in the queue's order at once: the App sends the view with each request."""
# Events that look for themselves which runs there are, or need none.
CHOOSING = (
    None,
    "on_startup",
    "on_load",
    "on_unload",
    "on_change_dataset",
    "change_run",
    "pick_back",
    "pick_click",
    "pick_more",
    "pick_next",
    "pick_object",
    "pick_proposal",
    "pick_scale",
    "refresh",
    "renamed",
    "segment",
    "stop",
    "tick",
)

HELP = """
**Personal masks** leads through the masks of a run.

1. *Start reviewing* sorts the photos, most doubtful first, and turns the tick in their
   corner into a thumb: click it for yes, Alt+click for no. *Save* goes on to the others.
2. Or open a photo: *Accept* and *Reject* go on to the next doubtful one.
3. *Promote* copies what you accepted into a label field of its own.

Everything is stored at once, each thumb too; *Undo* takes the last step back, also
tomorrow. The thumbs given until *Save* are one step.
"""


class ReviewPanel(
    panel_evaluation.EvaluationPage, panel_picking.PickingPage, panel_forms.PanelForms, foo.Panel
):
    """Counts, queue, histograms, decisions and hand-over of one run."""

    @property
    def config(self) -> Any:
        """See ``foo.PanelConfig``."""
        return foo.PanelConfig(
            name=NAME,
            label="Personal masks",
            icon=ICON,
            surfaces="grid modal",
            help_markdown=HELP,
            category=foo.Categories.CURATE,
        )

    def execute(self, ctx: Context) -> Any:
        """Any event. The run may have been deleted elsewhere: then another one is shown."""
        if ctx.params.get("__method__") in CHOOSING or missing_packages():
            return super().execute(ctx)
        run = ctx.panel.state.run
        if ctx.dataset is None or run not in run_names(ctx.dataset):
            if run:
                ctx.ops.notify(f"Run {run!r} is not there any more.", variant="info")
            self._select_run(ctx, None)
            ctx.ops.show_panel_output(self.render(ctx))
            return None
        return super().execute(ctx)

    # What happens around the panel -------------------------------------------------------------

    def on_load(self, ctx: Context) -> None:
        """Begin with the newest run."""
        self._select_run(ctx, ctx.panel.state.run)

    def on_change_dataset(self, ctx: Context) -> None:
        """Another dataset has other runs."""
        self._select_run(ctx, None)

    def on_change_current_sample(self, ctx: Context) -> None:
        """Another photo was opened."""
        self._read_decided(ctx)

    def on_change_selected(self, ctx: Context) -> None:
        """Thumbs were given in the grid, or taken away by what another event has changed."""
        if ctx.panel.state.run and not ctx.current_sample:
            self._try(ctx, lambda: panel_thumbs.store(ctx))
        self._read_decided(ctx)

    def on_unload(self, ctx: Context) -> None:
        """Thumbs become ticks again."""
        if not ctx.current_sample:
            ctx.ops.clear_sample_selection_style()

    # Runs --------------------------------------------------------------------------------------

    def refresh(self, ctx: Context) -> None:
        """Read everything again."""
        self._select_run(ctx, ctx.panel.state.run)

    def change_run(self, ctx: Context) -> None:
        """Another run was chosen."""
        value = ctx.params.get("value")
        known = value == ctx.panel.state.run and value in run_names(ctx.dataset)
        if value and not known:
            self._select_run(ctx, value)

    def tick(self, ctx: Context) -> None:
        """A second has gone by while something is running."""
        before, now = dict(ctx.panel.state.running or {}), parts.running(ctx)
        ended = [run for run in before if run not in now]
        ctx.panel.set_state("running", now)
        if now:
            ctx.panel.state.expecting = 0
        if ended or set(now) - set(ctx.panel.state.runs or []):
            self._select_run(ctx, ended[-1] if ended else next(iter(now)))

    def stop(self, ctx: Context) -> None:
        """Stop what is running."""
        from fiftyone_persam.curation.runs.stopping import request_stop

        request_stop(ctx.dataset, ctx.params["run"])
        ctx.ops.notify("The run stops at its next photo.", variant="info")

    # Reviewing ---------------------------------------------------------------------------------

    def start(self, ctx: Context) -> None:
        """Sort the grid, most doubtful first, and turn ticks into thumbs."""
        from fiftyone_persam.curation.review.table import review_counts, review_queue

        run = ctx.panel.state.run
        if not review_counts(ctx.dataset, run).todo:
            ctx.ops.notify("Nothing is left to review in this run.", variant="success")
            return
        queue = review_queue(ctx.dataset, run, limit=SHOWN)
        ctx.panel.state.shown = TODO
        panel_thumbs.begin(ctx)
        ctx.ops.clear_selected_samples()
        ctx.ops.set_view(queue)
        ctx.ops.set_sample_selection_style(default="thumbsup", alt="thumbsdown")
        show_fields(ctx, run)

    def save_thumbs(self, ctx: Context) -> None:
        """Go on to the photos without a thumb."""
        if not any(decisions_from_thumbs(ctx).values()):
            ctx.ops.notify("Give photos a thumb first: click, or Alt+click for no.")
            return
        if not self._try(ctx, lambda: panel_thumbs.store(ctx)):
            return
        self._decided(ctx)
        self._end_sitting(ctx)

    def accept(self, ctx: Context) -> None:
        """The opened photo's mask is right."""
        self._decide(ctx, "accepted")

    def reject(self, ctx: Context) -> None:
        """The opened photo's mask is wrong."""
        self._decide(ctx, "rejected")

    def accept_current(self, ctx: Context) -> None:
        """The mask that the panel shows is right."""
        self._decide_current(ctx, "accepted")

    def reject_current(self, ctx: Context) -> None:
        """The mask that the panel shows is wrong."""
        self._decide_current(ctx, "rejected")

    def pass_current(self, ctx: Context) -> None:
        """Look at another photo first; this one comes again in the end."""
        passed = [*(ctx.panel.state.passed or []), ctx.panel.state.current]
        left = ctx.panel.state.current_left or 0
        ctx.panel.set_state("passed", passed if len(passed) < left else [])
        self._read_decided(ctx)

    def open_current(self, ctx: Context) -> None:
        """Open the photo that the panel shows."""
        if ctx.panel.state.current:
            ctx.ops.open_sample(id=ctx.panel.state.current)

    def undo(self, ctx: Context) -> None:
        """Take the last step back."""
        from fiftyone_persam.curation.review.decisions import undo_review

        changed = undo_review(ctx.dataset, ctx.panel.state.run)
        ctx.ops.notify(f"Undone: {changed} photos are as before.", variant="info")
        self._changed(ctx)
        if any(decisions_from_thumbs(ctx).values()):  # thumbs would say what holds no longer
            self._end_sitting(ctx)

    def next_photo(self, ctx: Context) -> None:
        """Open the most doubtful photo that nobody has looked at."""
        following = panel_current.following(ctx, ctx.panel.state.run, ctx.current_sample)
        if following is None:
            ctx.ops.notify("Nothing else is left to review in this run.", variant="success")
            return
        ctx.ops.open_sample(id=following)

    # Looking -----------------------------------------------------------------------------------

    def show_state(self, ctx: Context) -> None:
        """Show the photos of one state."""
        from fiftyone_persam.curation.review.table import review_queue

        state = ctx.params["state"]
        ctx.panel.state.shown = state
        run, counts = ctx.panel.state.run, ctx.panel.state.counts or {}
        ctx.ops.set_view(review_queue(ctx.dataset, run, states=[state], limit=SHOWN))
        if counts.get(state, 0) > SHOWN:
            ctx.ops.notify(f"These are the {SHOWN:,} most doubtful ones.", variant="info")

    def show_all(self, ctx: Context) -> None:
        """Show the whole dataset again."""
        ctx.panel.state.shown = None
        ctx.ops.clear_view()
        ctx.ops.clear_sample_selection_style()

    def show_score(self, ctx: Context) -> None:
        """A bar of the score histogram was clicked."""
        self._show_bar(ctx, "score", ctx.panel.state.run)

    def show_presence(self, ctx: Context) -> None:
        """A bar of the presence histogram was clicked."""
        self._show_bar(ctx, "presence", ctx.panel.state.run)

    def move_threshold(self, ctx: Context) -> None:
        """The slider was moved: say how many photos would change."""
        from fiftyone_persam.curation.review.threshold import presence_changes

        value = ctx.params.get("value")
        if value is None or value == ctx.panel.state.threshold:
            return
        ctx.panel.state.threshold = value
        ctx.panel.state.changes = presence_changes(ctx.dataset, ctx.panel.state.run, float(value))

    def save_threshold(self, ctx: Context) -> None:
        """Keep the slider's value."""
        from fiftyone_persam.curation.review.threshold import set_presence_threshold

        value = float(ctx.panel.state.threshold)
        self._try(ctx, lambda: set_presence_threshold(ctx.dataset, ctx.panel.state.run, value))
        self._changed(ctx)

    def render(self, ctx: Context) -> Any:
        """What the panel shows now."""
        panel = types.Object()
        if missing := missing_packages():
            panel.md(f"Install what is missing first: `pip install {' '.join(missing)}`")
        elif has_videos(ctx):
            panel.md(
                "**Videos** are looked at in the player: open one, and its masks are there. "
                "Start *Segment my object* over the grid; *List runs* says how runs stand."
            )
        elif ctx.panel.state.page == panel_picking.PICKING:
            panel_picking.picking_page(panel, self, ctx.panel.state)
        elif not ctx.panel.state.run:
            parts.empty(panel, self, ctx.panel.state)
        elif ctx.current_sample:
            parts.photo(panel, self, ctx.panel.state)
        elif ctx.panel.state.page == parts.EVALUATION:
            panel_evaluation.evaluation(panel, self, ctx.panel.state)
        else:
            parts.overview(panel, self, ctx.panel.state)
        view = types.GridView(
            align_x="left",
            orientation="vertical",
            gap=2,
            componentsProps={
                "container": {"sx": {"padding": "12px"}},
                # As wide as the panel, neither as its widest row nor wider than there is room.
                "grid": {"sx": {"gridTemplateColumns": "minmax(0, 1fr)"}},
            },
        )
        return types.Property(panel, view=view)

    # -------------------------------------------------------------------------------------------

    def _select_run(self, ctx: Context, wanted: str | None) -> None:
        names = run_names(ctx.dataset) if ctx.dataset is not None and not missing_packages() else []
        ctx.panel.state.runs = names
        run = wanted if wanted in names else (names[-1] if names else None)
        ctx.panel.state.run = run
        ctx.panel.state.shown = None
        ctx.panel.set_state("passed", [])
        ctx.panel.state.resumable = parts.resumable(ctx, run) if run else None
        self._read(ctx)

    def _read(self, ctx: Context) -> None:
        if ctx.dataset is not None and not missing_packages():
            ctx.panel.set_state("running", parts.running(ctx))
        if ctx.panel.state.run and not has_videos(ctx):  # see `render`
            run, state = ctx.panel.state.run, ctx.panel.state
            found = parts.read(ctx, run)
            if state.page == parts.EVALUATION:
                found |= panel_evaluation.read(ctx, run, state.evaluation)
            for key, value in found.items():
                ctx.panel.set_state(key, value)

    def _read_decided(self, ctx: Context) -> None:
        state = ctx.panel.state
        if state.page == parts.EVALUATION or not (state.run and state.counts and state.upcoming):
            self._read(ctx)
            return
        ctx.panel.set_state("running", parts.running(ctx))
        for key, value in parts.read_decided(ctx, state.run).items():
            ctx.panel.set_state(key, value)

    def _changed(self, ctx: Context) -> None:
        ctx.ops.reload_samples()
        self._read(ctx)

    def _decided(self, ctx: Context) -> None:
        ctx.ops.reload_samples()
        self._read_decided(ctx)

    def _end_sitting(self, ctx: Context) -> None:
        from fiftyone_persam.curation.review.table import review_queue

        panel_thumbs.begin(ctx)
        ctx.panel.state.up = ctx.panel.state.down = 0
        if ctx.panel.state.shown == TODO:
            ctx.ops.set_view(review_queue(ctx.dataset, ctx.panel.state.run, limit=SHOWN))
        ctx.ops.clear_selected_samples()

    def _decide(self, ctx: Context, decision: str) -> None:
        from fiftyone_persam.curation.review.decisions import set_review

        run, sample_id = ctx.panel.state.run, ctx.current_sample
        if not self._try(ctx, lambda: set_review(ctx.dataset, run, decision, [sample_id])):
            return
        self._decided(ctx)
        self.next_photo(ctx)

    def _decide_current(self, ctx: Context, decision: str) -> None:
        from fiftyone_persam.curation.review.decisions import set_review

        run, current = ctx.panel.state.run, ctx.panel.state.current
        if current and self._try(ctx, lambda: set_review(ctx.dataset, run, decision, [current])):
            self._decided(ctx)

    def _show_bar(self, ctx: Context, what: str, prefix: str) -> None:
        from fiftyone_persam.curation.evaluation.histograms import between

        index = int(ctx.params.get("idx", 0))
        edges = ctx.panel.state.get(f"{what}_edges") or []
        if index + 1 >= len(edges):
            return
        last = index + 2 == len(edges)
        view = between(ctx.dataset, f"{prefix}_{what}", edges[index], edges[index + 1], last=last)
        ctx.ops.set_view(view)

    def _try(self, ctx: Context, action: Any) -> bool:
        from fiftyone_persam.errors import PersamError

        try:
            action()
        except PersamError as error:
            ctx.ops.notify(str(error), variant="error")
            return False
        return True
