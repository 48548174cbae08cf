"""What the review panel shows: read from the database, then laid out."""

from __future__ import annotations

import time
from typing import Any

import fiftyone.operators.types as types

from . import panel_current
from .base import Context, counted
from .panel_layout import flowing_row, histogram_state, histograms, threshold_slider
from .reviewing import decisions_from_thumbs
from .streaming import ProgressStore

STATES = {
    "todo": "To do",
    "accepted": "Accepted",
    "rejected": "Rejected",
    "absent": "Absent",
    "failed": "Failed",
}
EVALUATION = "evaluation"


def read(ctx: Context, run: str) -> dict[str, Any]:
    """The panel's state for a run."""
    from fiftyone_persam.curation.evaluation.histograms import histogram_of
    from fiftyone_persam.curation.review.table import review_table
    from fiftyone_persam.curation.runs.colours import colour_of
    from fiftyone_persam.curation.runs.presence import presence_threshold

    table = review_table(ctx.dataset, run)
    threshold = presence_threshold(ctx.dataset, run)
    state: dict[str, Any] = {
        "threshold": threshold,
        "saved_threshold": threshold,
        "changes": 0,
        "colour": colour_of(ctx.dataset, run),
    }
    for what, values in (("score", table.score), ("presence", table.presence)):
        histogram = histogram_of(values)
        state |= histogram_state("plots", what, histogram, state["colour"])
    state["header.run_choice"] = run
    panel_current.queue_ahead(ctx, run, table)
    return {**state, **_decided(ctx, run, table.counts())}


def read_decided(ctx: Context, run: str) -> dict[str, Any]:
    """What a decision changes, or another photo that is opened: the whole run is not looked at."""
    from fiftyone_persam.curation.review.table import ReviewCounts, recount

    before = ReviewCounts(**ctx.panel.state.counts)
    return _decided(ctx, run, recount(ctx.dataset, run, before))


def _decided(ctx: Context, run: str, counts: Any) -> dict[str, Any]:
    from fiftyone_persam.curation.review.decisions import undo_steps

    thumbs = decisions_from_thumbs(ctx)
    state: dict[str, Any] = {
        "counts": {s: getattr(counts, s) for s in STATES},
        "total": counts.total,
        "undo": undo_steps(ctx.dataset, run),
        "up": len(thumbs["accepted"]),
        "down": len(thumbs["rejected"]),
        "photo": _photo(ctx, run),
    }
    if ctx.current_sample and state["photo"]:
        state["preview"] = panel_current.preview(ctx, run, ctx.current_sample)
    if not ctx.current_sample:
        state |= panel_current.read(ctx, run, counts)
    return state


def running(ctx: Context) -> dict[str, str]:
    """The runs in progress on the dataset, and how far they are."""
    return {run: entry["label"] for run, entry in ProgressStore(ctx.dataset).running().items()}


def resumable(ctx: Context, run: str) -> str | None:
    """Why a run can be resumed, in a few words; None where nothing is left to do."""
    from fiftyone_persam.curation.runs.loading import load_run
    from fiftyone_persam.curation.runs.record import RunState

    found = load_run(ctx.dataset, run)
    left = found.counts["remaining"]
    how = {RunState.FAILED: "Ended by an error", RunState.INTERRUPTED: "Stopped"}.get(found.state)
    if how is None and (found.state != RunState.DONE or ctx.dataset.has_field(run)):
        return None
    how = how or "Masks were deleted"
    return f"{how}: {counted(left)} left"


def empty(panel: Any, owner: Any, state: Any) -> None:
    """No run yet: how to begin."""
    progress(panel, owner, state)
    panel.md(
        "### No masks yet\n"
        "1. Select **one** photo that shows your object: click the tick in its corner.\n"
        "2. Press a button. If the object has no label there, you click it, here or in the form.\n"
        "3. Look through the masks that it finds in the other photos."
    )
    panel.btn(
        "begin",
        label="Segment my object",
        icon="center_focus_strong",
        on_click=owner.segment,
        variant="contained",
    )
    panel.btn("point", label="Point at it", icon="ads_click", on_click=owner.pick_object)
    panel.btn("refresh", label="Refresh", icon="refresh", on_click=owner.refresh)


def overview(panel: Any, owner: Any, state: Any) -> None:
    """The panel beside the grid."""
    header(panel, owner, state)
    counts = state.counts or {}
    row = flowing_row(panel, "states")
    for name, text in STATES.items():
        row.btn(
            f"show_{name}",
            label=f"{text} {counts.get(name, 0)}",
            on_click=owner.show_state,
            params={"state": name},
            disabled=not counts.get(name, 0),
            variant="contained" if state.shown == name else "outlined",
        )
    row.btn("show_all", label="All", on_click=owner.show_all)

    row = flowing_row(panel, "review")
    row.btn(
        "start",
        label="Start reviewing",
        icon="playlist_play",
        on_click=owner.start,
        variant="contained",
        disabled=not counts.get("todo", 0),
    )
    up, down = state.up or 0, state.down or 0
    row.btn(
        "save",
        label=f"Save {up} accepted, {down} rejected" if up + down else "Save thumbs",
        icon="save",
        on_click=owner.save_thumbs,
        variant="contained",
        disabled=not up + down,
    )
    _undo(row, owner, state)

    panel_current.current(panel, owner, state)
    plots = {"score": ("Score", owner.show_score), "presence": ("Presence", owner.show_presence)}
    histograms(panel, "plots", plots, state)
    _threshold(panel, owner, state)
    _next_steps(panel, owner, counts)


def photo(panel: Any, owner: Any, state: Any) -> None:
    """The panel beside an opened photo."""
    header(panel, owner, state)
    facts = state.photo or {}
    if not facts:
        panel.md("This run has no result for this photo.", name="facts")
        return
    lines = [f"**{STATES[facts['state']]}**"]
    if facts.get("score") is not None:
        lines.append(f"score {facts['score']:.3f}")
    if facts.get("presence") is not None:
        lines.append(f"presence {facts['presence']:.3f}")
    panel.md(" · ".join(lines), name="facts")
    if facts.get("error"):
        panel.md(f"This photo failed: {facts['error']}", name="error")
    row = flowing_row(panel, "decide")
    if not facts.get("error"):  # else there is no mask to be right or wrong
        for name, icon, decide in (
            ("accept", "thumb_up", owner.accept),
            ("reject", "thumb_down", owner.reject),
        ):
            label = name.capitalize()
            row.btn(name, label=label, icon=icon, on_click=decide, variant="contained")
    row.btn("next", label="Next", icon="skip_next", on_click=owner.next_photo)
    _undo(row, owner, state)
    row = flowing_row(panel, "correct")
    row.btn("edit", label="Edit this mask", icon="draw", on_click=owner.edit_this)
    row.btn(
        "again",
        label="Use as another reference",
        icon="add_photo_alternate",
        on_click=owner.another_reference,
    )
    if state.preview:
        panel.str("preview", view=types.ImageView(alt="The photo and its mask", width="100%"))
    counts = state.counts or {}
    panel.md(
        " · ".join(f"{text} {counts.get(name, 0)}" for name, text in STATES.items()), name="left"
    )


def header(panel: Any, owner: Any, state: Any) -> None:
    """Which run, which page, and what is running."""
    row = flowing_row(panel, "header")
    view = types.DropdownView()
    for name in state.runs or []:
        view.add_choice(name, label=name)
    row.enum(
        "run_choice",
        view.values(),
        default=state.run,
        label="Run",
        view=view,
        on_change=owner.change_run,
    )
    row.btn("refresh", label="Refresh", icon="refresh", on_click=owner.refresh)
    if state.page == EVALUATION:
        row.btn("review_page", label="Review", icon="rule", on_click=owner.review_page)
    elif not state.photo:
        row.btn(
            "evaluation_page",
            label="Evaluation",
            icon="assessment",
            on_click=owner.evaluation_page,
        )
    progress(panel, owner, state)
    if state.resumable and state.run not in (state.running or {}):
        row = flowing_row(panel, "stopped")
        row.md(state.resumable, name="why")
        row.btn(
            "resume", label="Resume", icon="play_arrow", on_click=owner.resume, variant="contained"
        )


def progress(panel: Any, owner: Any, state: Any) -> None:
    """What is running now, with a way to stop it; looks again every second."""
    going: dict[str, str] = state.running or {}
    for run, text in going.items():
        row = flowing_row(panel, f"running_{run}")
        row.md(f"**{run}** · {text}", name="progress")
        row.btn("stop", label="Stop", icon="stop", on_click=owner.stop, params={"run": run})
    if going or (state.expecting or 0) > time.time():
        timer = types.TimerView(interval=1000, on_interval=owner.tick)
        panel.define_property("timer", types.Void(), view=timer)


def _undo(row: Any, owner: Any, state: Any) -> None:
    row.btn("undo", label="Undo", icon="undo", on_click=owner.undo, disabled=not state.undo)


def _threshold(panel: Any, owner: Any, state: Any) -> None:
    edges = state.presence_edges or []
    if not edges:
        return
    low, high = min(0.0, edges[0]), max(1.0, edges[-1])
    row = panel.h_stack("absence", gap=2, align_y="center")
    # Nothing here depends on where the slider stands: a changed schema would pull it from the hand.
    row.float(
        "threshold_slider",
        default=state.saved_threshold,
        min=low,
        max=high,
        label="Absent below this presence (probability)",
        view=threshold_slider(low, high),
        on_change=owner.move_threshold,
    )
    changed = state.threshold != state.saved_threshold
    value, count = state.threshold or 0.0, state.changes or 0
    effect = f"{counted(count)} change{'s' if count == 1 else ''}"
    row.btn(
        "save_threshold",
        label=f"Apply {value:.2f}: {effect}" if changed else f"Now {value:.2f}",
        on_click=owner.save_threshold,
        variant="outlined",
        disabled=not changed,
    )


def _next_steps(panel: Any, owner: Any, counts: dict[str, int]) -> None:
    accepted, rejected = counts.get("accepted", 0), counts.get("rejected", 0)
    if rejected:
        panel.md(
            f"{counted(rejected, 'rejected mask')} will teach the next run of this object what it "
            "is not, even when this run is deleted.",
            name="rejected",
        )
    row = flowing_row(panel, "next_steps")
    if rejected:
        row.btn("learn", label="Run again", icon="replay", on_click=owner.learn_from_rejected)
    row.btn(
        "again",
        label="Add reference",
        icon="add_photo_alternate",
        on_click=owner.another_reference,
    )
    row.btn("edit", label="Edit masks", icon="draw", on_click=owner.edit)
    row.btn(
        "promote",
        label="Promote",
        icon="verified",
        on_click=owner.promote,
        disabled=not accepted,
    )
    row.btn(
        "export",
        label="Export",
        icon="file_download",
        on_click=owner.export,
        disabled=not accepted,
    )
    row = flowing_row(panel, "manage")
    row.btn("point", label="Another object", icon="ads_click", on_click=owner.pick_object)
    row.btn("rename", label="Rename run", icon="edit", on_click=owner.rename)
    row.btn("delete", label="Delete run", icon="delete", on_click=owner.delete)
    if counts.get("failed"):
        row.btn("failures", label="Failures", icon="report_problem", on_click=owner.failures)


def _photo(ctx: Context, run: str) -> dict[str, Any] | None:
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.review.table import states_of
    from fiftyone_persam.curation.runs import queries

    if ctx.current_sample is None:
        return None
    state = states_of(ctx.dataset, run, [ctx.current_sample]).get(ctx.current_sample)
    if state is None:
        return None
    names = [f"{run}._cls", f"{run}_error", f"{run}_score", f"{run}_presence"]
    ((mask, error, score, presence),) = queries.rows(
        photos_of(ctx.dataset), names, queries.some([ctx.current_sample])
    ).values()
    return {
        "state": state,
        # Where somebody has drawn a mask by hand, the reason is out of date.
        "error": None if mask is not None else error,
        "score": score if score == score else None,  # NaN: there is none
        "presence": presence if presence == presence else None,
    }
