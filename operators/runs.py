"""What several operators need to know about the runs of a dataset."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .base import Context, choose, refuse


def run_names(dataset: Any) -> list[str]:
    """Names of the runs, oldest first."""
    from fiftyone_persam.curation.runs.naming import run_names as names

    return sorted(names(dataset), key=lambda name: dataset.get_run_info(name).timestamp)


def choose_run(
    ctx: Context, inputs: Any, label: str = "Run", newest: bool = True, also: Iterable[str] = ()
) -> str | None:
    """Add the drop-down of the runs, and of others beside them.

    None, and an error in the form, where there are none.
    """
    names = [*also, *run_names(ctx.dataset)]
    if not names:
        refuse(inputs, "This dataset has no run yet.", "Segment your object first.")
        return None
    default = ctx.params.get("run")
    default = default if default in names else names[-1 if newest else 0]
    choose(inputs, "run", names, label, default=default)
    return str(default)
