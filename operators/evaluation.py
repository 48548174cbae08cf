"""``evaluate`` and ``compare_runs``: how good a run is, and where two runs differ."""

from __future__ import annotations

from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from .base import (
    Context,
    PersamOperator,
    choose,
    counted,
    mask_value_of,
    mask_value_text,
    narrow_table,
    notice,
    refuse,
    show_fields,
)
from .outcome import plain_metrics
from .runs import run_names
from .streaming import Progress
from .targets import photos_to_read
from .video import has_videos

NONE = ""
PERSEG, DAVIS = "perseg", "davis"
SHOWN = {"mIoU": "mIoU", "bIoU": "bIoU", "jf": "J&F", "j": "J", "f": "F"}
"""Numbers of an evaluation that are told at once, as they are called."""


class Evaluate(PersamOperator):
    """Form around :func:`fiftyone_persam.evaluate`."""

    operator = "evaluate"
    label = "Evaluate my masks"
    description = "IoU, boundary IoU and accuracy of a run against ground truth, by object"
    icon = "assessment"
    delegable = True
    generator = True
    view_target = True
    submit = "Evaluate"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Prediction, ground truth, groups, key."""
        from fiftyone_persam.curation.evaluation.evaluate import check_eval_key
        from fiftyone_persam.curation.frame_store import home
        from fiftyone_persam.errors import problem_of

        fields = mask_fields(home(ctx.dataset))
        if len(fields) < 2:
            refuse(inputs, "Two label fields are needed: predictions and ground truth.")
            return
        runs = [r for r in run_names(ctx.dataset) if r in fields]
        pred = ctx.params.get("pred_field") or (runs or fields)[-1]
        choose(inputs, "pred_field", fields, "Predictions", default=pred)
        others = [f for f in fields if f != pred]
        gt = "ground_truth" if "ground_truth" in others else others[0]
        choose(inputs, "gt_field", others, "Ground truth", default=gt)
        chosen = ctx.params.get("gt_field")
        if method_input(ctx, inputs) == PERSEG:
            truth = chosen if chosen in others else gt
            value_input(ctx, inputs, truth, pred)
            group_input(ctx, inputs)
            _say_of_names(ctx, inputs, pred, truth)
        key = inputs.str(
            "eval_key",
            default=f"{pred}_eval",
            required=True,
            label="Evaluation key",
            description="Its name in the Model Evaluation panel, and the prefix of its fields",
        )
        name = ctx.params.get("eval_key") or f"{pred}_eval"
        if problem := problem_of(check_eval_key, home(ctx.dataset), name):
            key.invalid = True
            key.error_message = problem
        elif ctx.dataset.has_evaluation(name):
            text = f"This replaces the evaluation {name!r}: another key keeps both."
            notice(inputs, "replaces", text, warning=True)
        inputs.view_target(ctx, action_description="Evaluate", default_target="CURRENT_VIEW")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Evaluate."""
        import fiftyone_persam as fp

        progress.stage = "Evaluating"
        method = ctx.params.get("method") or PERSEG
        sequences: dict[str, Any] = {}
        if method == DAVIS:
            names = ("sequence_field", "order_field")
            sequences = {name: ctx.params.get(name) or None for name in names}
        results = fp.evaluate(
            photos_to_read(ctx),
            ctx.params["pred_field"],
            gt_field=ctx.params["gt_field"],
            eval_key=ctx.params["eval_key"],
            group_by=ctx.params.get("group_by") or None,
            mask_value=mask_value_of(ctx.params.get("mask_value")),
            method=method,
            **sequences,
        )
        return {
            "eval_key": ctx.params["eval_key"],
            "metrics": plain_metrics(results),
            "photos": results.scores.photos if method == PERSEG else results.scores.frames,
            "method": method,
            "skipped": results.skipped,
            "unknown": list(getattr(results.config, "unknown", ())),
        }

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the numbers and the panel that has all of them."""
        result = result or {}
        metrics, skipped = result.get("metrics", {}), result.get("skipped", {})
        shown = [f"{SHOWN[k]} {v:.3f}" for k, v in metrics.items() if k in SHOWN]
        what = "frames of objects" if result.get("method") == DAVIS else "photos"
        shown += [f"{result['photos']} {what}"] if "photos" in result else []
        if unknown := result.get("unknown"):
            shown.append(f"without ground truth of their name: {', '.join(unknown)}")
        if skipped:
            shown.append(f"{len(skipped)} left out, the first: {next(iter(skipped.values()))}")
        return [
            ctx.ops.reload_dataset(),
            ctx.ops.notify(f"Evaluated: {', '.join(shown) or 'done'}", variant="success"),
            ctx.ops.open_panel("model_evaluation_panel_builtin", layout="horizontal"),
        ]

    def __call__(
        self,
        sample_collection: Any,
        pred_field: str,
        gt_field: str = "ground_truth",
        eval_key: str | None = None,
        group_by: str | None = None,
        mask_value: int | str | None = None,
        method: str = PERSEG,
        sequence_field: str | None = None,
        order_field: str | None = None,
        delegate: bool = False,
    ) -> Any:
        """Evaluate the masks in ``pred_field``; see :func:`fiftyone_persam.evaluate`."""
        return self.call(
            sample_collection,
            delegate=delegate,
            pred_field=pred_field,
            gt_field=gt_field,
            eval_key=eval_key or f"{pred_field}_eval",
            group_by=group_by,
            mask_value=mask_value_text(sample_collection, gt_field, mask_value),
            method=method,
            sequence_field=sequence_field,
            order_field=order_field,
        )


class CompareRuns(PersamOperator):
    """Form around :func:`fiftyone_persam.curation.compare.compare_runs`."""

    operator = "compare_runs"
    label = "Compare two runs"
    description = "Show where the masks of two runs disagree, strongest disagreement first"
    icon = "compare"
    delegable = False
    view_target = True
    submit = "Compare"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Two runs, ground truth, order, photos."""
        from fiftyone_persam.curation.database import photos_of

        names = run_names(ctx.dataset)
        if len(names) < 2:
            refuse(inputs, "Two runs are needed.", "Segment once more under another name.")
            return
        first = ctx.params.get("run_a") or names[-2]
        choose(inputs, "run_a", names, "Run", default=first)
        rest = [n for n in names if n != first]
        choose(inputs, "run_b", rest, "Compare with", default=rest[-1])
        fields = truth_fields(ctx.dataset)
        truth = {NONE: "none", **{f: f for f in fields}}
        likely = fields[0] if len(fields) == 1 else NONE
        likely = "ground_truth" if "ground_truth" in fields else likely
        choose(inputs, "gt_field", truth, "Ground truth", default=likely, required=False)
        if ctx.params.get("gt_field", likely):
            inputs.bool(
                "by_gain",
                default=True,
                label="Begin where the second run is better, end where it is worse",
                description="Off: strongest disagreement first",
            )
        second = ctx.params.get("run_b") if ctx.params.get("run_b") in rest else rest[-1]
        compared = len(photos_of(photos_to_read(ctx)).exists(first).exists(second))
        text = f"{counted(compared)} of both runs. The grid will show them in that order, with "
        notice(inputs, "what", f"{text}both masks on.")
        inputs.view_target(ctx, action_description="Compare", default_target="CURRENT_VIEW")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Compare, and write the agreement into a field."""
        from fiftyone_persam.curation.evaluation.compare import compare_runs

        run_a, run_b = ctx.params["run_a"], ctx.params["run_b"]
        comparison = compare_runs(
            photos_to_read(ctx),
            run_a,
            run_b,
            gt_field=ctx.params.get("gt_field") or None,
            out_field=f"{run_a}_vs_{run_b}",
        )
        by_gain = ctx.params.get("by_gain") and comparison.gain is not None
        view = comparison.by_gain(ctx.dataset) if by_gain else comparison.view(ctx.dataset)
        return {
            "summary": (summary := comparison.summary()),
            "rows": [
                {"what": _in_words(what, run_a, run_b), "value": str(value)}
                for what, value in summary.items()
            ],
            "field": f"{run_a}_vs_{run_b}",
            "ids": view.values("id"),
        }

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the photos in their new order."""
        from fiftyone_persam.curation.database import photos_of

        result = result or {}
        return [
            ctx.ops.reload_dataset(),
            ctx.ops.set_view(photos_of(ctx.dataset).select(result["ids"], ordered=True)),
            show_fields(ctx, ctx.params["run_a"], ctx.params["run_b"], result["field"]),
        ]

    def resolve_output(self, ctx: Context) -> Any:
        """The numbers of the comparison."""
        outputs = types.Object()
        # FiftyOne's view of keys and values breaks every key into a word a line.
        view, rows = narrow_table(), types.Object()
        for name, label in (("what", "What"), ("value", "Value")):
            rows.str(name, label=label)
            view.add_column(name, label=label)
        outputs.list("rows", rows, view=view)
        return types.Property(outputs, view=types.View(label="Comparison"))

    def __call__(
        self,
        sample_collection: Any,
        run_a: str,
        run_b: str,
        gt_field: str | None = None,
        by_gain: bool = False,
    ) -> Any:
        """Compare two runs of a dataset, photo by photo."""
        return self.call(
            sample_collection, run_a=run_a, run_b=run_b, gt_field=gt_field, by_gain=by_gain
        )


def _in_words(what: str, run_a: str, run_b: str) -> str:
    """A number of a comparison, as somebody reads it who sees it for the first time."""
    words = {
        "photos": "Photos",
        "mean agreement": "Their mean agreement (IoU of the two masks)",
        "IoU below 0.5": "Photos where they hardly agree (IoU below 0.5)",
        f"{run_a} better": f"Photos where {run_a} is better",
        f"{run_b} better": f"Photos where {run_b} is better",
        "mean gain": f"Mean IoU that {run_b} gains",
    }
    return words.get(what, what)


def mask_fields(dataset: Any) -> list[str]:
    """The fields of a dataset whose labels can be compared."""
    from fiftyone_persam.curation.checks import MASKS

    schema = dataset.get_field_schema()
    return [name for name, f in schema.items() if getattr(f, "document_type", None) in MASKS]


def truth_fields(dataset: Any) -> list[str]:
    """Those of `mask_fields` that no run has written: what can be ground truth."""
    from fiftyone_persam.curation.runs.naming import owner_of

    return [name for name in mask_fields(dataset) if owner_of(dataset, name) is None]


def method_input(ctx: Context, inputs: Any) -> str:
    """By which protocol, where there are sequences; and what names the photos' sequences.

    Returns:
        The protocol's name.
    """
    videos = has_videos(ctx)
    sequences = text_fields(ctx.dataset)
    if not videos and not sequences:
        return PERSEG
    default = DAVIS if videos else PERSEG
    methods = {DAVIS: "Objects that are followed: J&F (DAVIS)"}
    if not videos:
        methods = {PERSEG: "Photos: mIoU, bIoU", **methods}
    choose(inputs, "method", methods, "What is measured", default=default)
    method = str(ctx.params.get("method") or default)
    if method == DAVIS and not videos:
        known = "sequence" if "sequence" in sequences else sequences[0]
        choose(inputs, "sequence_field", sequences, "Field that names the sequence", default=known)
        numbers = list(ctx.dataset.get_field_schema(ftype=(fo.IntField, fo.FloatField)))
        orders = {NONE: "file names", **{name: name for name in numbers}}
        known = "frame_number" if "frame_number" in numbers else NONE
        choose(inputs, "order_field", orders, "Frames are in order of", known, required=False)
    return method


def value_input(ctx: Context, inputs: Any, gt_field: str, pred_field: str) -> None:
    """Which value of the ground truth's masks is the object, where they have several."""
    from fiftyone_persam.curation.database import photos_of
    from fiftyone_persam.curation.forms.references import learnt_value, mask_values

    first = next(iter(photos_of(ctx.dataset).exists(gt_field).limit(1)), None)
    values = mask_values(first, gt_field) if first is not None else {}
    if len(values) > 1:
        named = {NONE: "all of them", **{str(v): name for v, name in values.items()}}
        learnt = learnt_value(ctx.dataset, pred_field, gt_field)
        default = NONE if learnt is None else str(learnt)
        choose(inputs, "mask_value", named, "Which mask value", default=default, required=False)


def _say_of_names(ctx: Context, inputs: Any, pred_field: str, gt_field: str) -> None:
    """Say before it runs which objects of a run the ground truth does not know by their names."""
    from fiftyone_persam.curation.evaluation.truth_names import names_of_run

    names = names_of_run(ctx.dataset, pred_field, gt_field, ctx.params.get("group_by") or None)
    if names is None:
        return
    if names.fault:
        refuse(inputs, names.fault, name="names_problem")
    elif names.problem:
        notice(inputs, "names_differ", names.problem, warning=True)


def text_fields(dataset: Any) -> list[str]:
    """The text fields that are not a run's own, nor FiftyOne's."""
    names = [n for n in dataset.get_field_schema(ftype=fo.StringField) if not n.startswith("_")]
    return [n for n in names if n != "filepath" and not n.endswith(("_error", "_review"))]


def group_input(
    ctx: Context,
    inputs: Any,
    description: str = "mIoU is taken per object first, then over the objects",
) -> None:
    """Which text field says what object a photo shows; none by default."""
    groups = text_fields(ctx.dataset)
    labelled = {NONE: "all photos show one object", **{g: g for g in groups}}
    choose(
        inputs,
        "group_by",
        labelled,
        "One object per",
        default="object" if "object" in groups else NONE,
        description=description,
        required=False,
    )
