"""Thumbs in the grid: each is stored when it is given, so a browser that is closed loses none."""

from __future__ import annotations

import threading
import uuid
from typing import Any

from .base import Context
from .reviewing import decisions_from_thumbs

# The App sends the next click before the last one is answered.
_STORING = threading.Lock()


def begin(ctx: Context) -> None:
    """A new sitting: what is decided from now on is undone together, and alone."""
    ctx.panel.set_state("sitting", uuid.uuid4().hex)
    ctx.panel.set_state("thumbs", {})


def store(ctx: Context) -> bool:
    """Store the thumbs that are new, and take back those that were taken away one by one.

    Where all have gone at once, the App has cleared its selection: that decides nothing.

    Returns:
        whether a decision has changed

    Raises:
        PersamError: a photo has no result of the run
    """
    from fiftyone_persam.curation.review.decisions import set_reviews

    before: dict[str, str] = ctx.panel.state.thumbs or {}
    now = {i: d for d, ids in decisions_from_thumbs(ctx).items() for i in ids}
    wanted: dict[str | None, Any] = {}
    for sample_id, decision in now.items():
        if before.get(sample_id) != decision:
            wanted.setdefault(decision, []).append(sample_id)
    gone = [sample_id for sample_id in before if sample_id not in now]
    if gone and now:
        wanted[None] = gone
    elif gone:
        ctx.ops.notify("What you decided is stored; Undo takes it back.", variant="info")
    changed = 0
    if wanted:
        if not ctx.panel.state.sitting:
            begin(ctx)
        with _STORING:
            changed = set_reviews(
                ctx.dataset, ctx.panel.state.run, wanted, sitting=ctx.panel.state.sitting
            )
    ctx.panel.set_state("thumbs", now)
    return changed > 0
