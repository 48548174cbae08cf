"""Where a run's references are from: the first choice of the form, and what it is called."""

from __future__ import annotations

from typing import Any

from .base import Context, choose
from .phrase import can_say
from .reference import candidates, has_group_references
from .several import can_be_several
from .together import can_be_together

ONE, GROUPED = "one", "groups"
"""The selected photo; each object's own reference photo."""
TOGETHER, SEVERAL = "together", "several"
"""All selected labels: of one object, or of those that they name."""
SAID = "said"
"""Nowhere: a phrase is looked for in every photo."""
GIVEN = "given"
"""A list of ids, which only a call in Python has."""


def scope_input(ctx: Context, inputs: Any) -> str:
    """Ask where the references are from, where there is a choice; the scope that holds now."""
    given = ctx.params.get("scope")
    if given == GIVEN or (given in (SAID, SEVERAL) and ctx.params.get("literal")):
        return str(given)
    offered = {ONE: "The photo I selected"}
    if has_group_references(ctx.dataset):
        offered[GROUPED] = "Each object's own reference photo"
    if given == TOGETHER or can_be_together(ctx):
        offered[TOGETHER] = "One object, in all the photos I selected"
    if given == SEVERAL or can_be_several(ctx):
        offered[SEVERAL] = "Several objects, by the names of their labels"
    if can_say():
        offered[SAID] = "Words, in every photo"
    if len(offered) == 1:
        return ONE
    default = GROUPED if GROUPED in offered and not candidates(ctx) else ONE
    choose(inputs, "scope", offered, "Reference", default=default, radio=True)
    return given or default
