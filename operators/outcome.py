"""What the App tells about a run that is done: its counts, and its evaluation if asked for."""

from __future__ import annotations

from typing import Any

from .base import Context, mask_value_of
from .method_form import takes_words
from .reference import chosen_reference
from .scope import GIVEN, GROUPED, SAID, SEVERAL, TOGETHER
from .segment_arguments import words_of
from .segment_form import truth_field, truth_of


def run_facts(run: Any) -> dict[str, Any]:
    """What the App says about a finished run."""
    return {"summary": str(run), "counts": dict(run.counts)}


def evaluated(ctx: Context, view: Any, result: dict[str, Any]) -> dict[str, Any]:
    """A run's result with its evaluation; the run has succeeded, whatever comes of that."""
    try:
        result = result | evaluate_run(ctx, view, result["run"])
    except Exception as error:  # FiftyOne's own, too: the masks are there all the same
        reason = " ".join(str(error).split()) or type(error).__name__
        summary = f"{result['summary']}; not evaluated: {reason}"
        return result | {"summary": summary, "warning": reason}
    return result | {"summary": f"{result['summary']}, mIoU {result['metrics']['mIoU']:.3f}"}


def evaluate_run(ctx: Context, view: Any, name: str) -> dict[str, Any]:
    """Evaluate a run's masks, in the same operation."""
    import fiftyone_persam as fp

    several = ctx.params.get("scope") in (GROUPED, GIVEN, SAID, SEVERAL, TOGETHER)
    several = several or bool(words_of(ctx) and not takes_words(ctx))
    chosen = None if several else chosen_reference(ctx)
    truth = truth_of(ctx, view, chosen)
    alone = ctx.params.get("scope") not in (GROUPED, SEVERAL)
    value = ctx.params.get("mask_value") if alone else None
    results = fp.evaluate(
        view if truth is None else truth.samples,
        name,
        gt_field=truth_field(ctx, chosen),
        eval_key=f"{name}_eval",
        group_by=ctx.params.get("group_by"),
        mask_value=mask_value_of(value),
    )
    return {"eval_key": f"{name}_eval", "metrics": plain_metrics(results)}


def plain_metrics(results: Any) -> dict[str, float]:
    """An evaluation's numbers, as numbers that JSON knows."""
    return {name: float(value) for name, value in results.metrics().items() if value is not None}
