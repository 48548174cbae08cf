"""The photo under review in the panel: its mask, the reference beside it, and the decision."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, counted
from .panel_layout import HALVES, flowing_row

SIDE = 420
AHEAD = 100
"""Photos of the queue that the panel keeps."""


def read(ctx: Context, run: str, counts: Any) -> dict[str, Any]:
    """The most doubtful photo that nobody has looked at and that was not passed over.

    Args:
        ctx: the panel's
        run: the run
        counts: its `ReviewCounts`
    """
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.runs import queries

    current = following(ctx, run)
    names = [f"{run}_score", f"{run}_presence"]
    chosen = queries.some([current] if current else [])
    facts = queries.columns(photos_of(ctx.dataset), names, chosen)
    score, presence = (_number(value[0]) if len(value) else None for value in facts.values.values())
    return {
        "current": current,
        "current_left": counts.todo,
        "current_score": score,
        "current_presence": presence,
        "review_now.current_preview": preview(ctx, run, current, False) if current else None,
        "review_now.reference_preview": _reference(ctx, run, current) if current else None,
    }


def following(ctx: Context, run: str, after: str | None = None) -> str | None:
    """The most doubtful photo to do, without those passed over; they come again in the end.

    The next photos are kept with the panel: only when they are through, or decided about by
    somebody else, the whole run is looked at again.

    Args:
        ctx: the panel's
        run: the run
        after: a photo that the next one follows, where there is one; it is never the next itself
    """
    from fiftyone_persam.curation.review.table import states_of

    passed = set(ctx.panel.state.passed or [])
    for again in (False, True):
        upcoming = queue_ahead(ctx, run) if again else list(ctx.panel.state.upcoming or [])
        states = states_of(ctx.dataset, run, upcoming)
        todo = [i for i in upcoming if states.get(i) == "todo"]
        place = upcoming.index(after) + 1 if after is not None and after in upcoming else 0
        later = [i for i in upcoming[place:] if i in set(todo)]
        for photos in (later, todo):
            left = [i for i in photos if i != after and i not in passed]
            if left:
                return left[0]
    return next((i for i in todo if i != after), None)


def queue_ahead(ctx: Context, run: str, table: Any = None) -> list[str]:
    """Look at a whole run, and keep its next photos with the panel.

    Args:
        ctx: the panel's
        run: the run
        table: its `ReviewTable` if that is read already
    """
    from fiftyone_persam.curation.review.table import review_table

    table = review_table(ctx.dataset, run) if table is None else table
    passed = set(ctx.panel.state.passed or [])
    queue = table.queue("todo", limit=AHEAD + len(passed))
    # Those that were passed over come last, and there must be others before them.
    upcoming = [i for i in queue if i not in passed][:AHEAD] or queue[:AHEAD]
    ctx.panel.set_state("upcoming", upcoming)
    return upcoming


def current(panel: Any, owner: Any, state: Any) -> None:
    """The photo, the reference, and what can be decided."""
    if not state.current:
        if (state.counts or {}).get("accepted"):
            panel.md(
                "**Nothing is left to review.** Promote or export what is accepted.", name="done"
            )
        return
    left = state.current_left or 0
    facts = [f"**{counted(left)} to review**, most doubtful first"]
    for name in ("score", "presence"):
        value = state.get(f"current_{name}")
        if value is not None:
            facts.append(f"{name} {value:.2f}")
    panel.md(" · ".join(facts), name="current_facts")
    row = flowing_row(panel, "decide_now")
    for name, icon, decide in (
        ("accept", "thumb_up", owner.accept_current),
        ("reject", "thumb_down", owner.reject_current),
    ):
        row.btn(
            f"{name}_current",
            label=name.capitalize(),
            icon=icon,
            on_click=decide,
            variant="contained",
        )
    row.btn("next_current", label="Next", icon="skip_next", on_click=owner.pass_current)
    row.btn("open_current", label="Open", icon="open_in_full", on_click=owner.open_current)
    pair = panel.grid(
        "review_now", gap=1, orientation="horizontal", componentsProps={"grid": {"sx": HALVES}}
    )
    for name, text in (("current_preview", "This photo"), ("reference_preview", "Reference")):
        view = types.ImageView(alt=f"{text} and its mask", width="100%")
        pair.str(name, label=text, view=view)


def preview(ctx: Context, run: str, sample_id: str, cut_out: bool = True) -> str | None:
    """A photo with the mask that counts: what somebody has drawn, else the run's.

    Args:
        ctx: the panel's
        run: the run
        sample_id: the photo
        cut_out: whether the object is beside it, cut out
    """
    from fiftyone_persam.curation.forms.thumbnails import run_thumbnail
    from fiftyone_persam.curation.review.editing import corrected_fields, latest_field
    from fiftyone_persam.errors import PersamError

    sample = ctx.dataset[sample_id]
    field = latest_field(sample, run, corrected_fields(ctx.dataset, run))
    if not sample.has_field(field) or sample[field] is None:
        return None
    try:
        return run_thumbnail(ctx.dataset, run, sample, field, SIDE, cut_out)
    except PersamError:
        return None


def _reference(ctx: Context, run: str, sample_id: str) -> str | None:
    from fiftyone_persam.curation.forms.thumbnails import run_reference_thumbnail

    sample = ctx.dataset[sample_id]
    return run_reference_thumbnail(ctx.dataset, run, sample, SIDE, cut_out=False)


def _number(value: float) -> float | None:
    return float(value) if value == value else None  # NaN: there is none
