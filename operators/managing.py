"""Manage: list, resume, stop, rename and delete runs; faults per photo; the doctor."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import (
    Context,
    PersamOperator,
    counted,
    from_app,
    missing_packages,
    narrow_table,
    notice,
    refuse,
    show_fields,
)
from .more_options import keeps_embeddings
from .outcome import run_facts
from .runs import choose_run
from .streaming import Progress, ProgressStore
from .targets import photos_to_read


class ListRuns(PersamOperator):
    """Form around :func:`fiftyone_persam.list_runs`."""

    operator = "list_runs"
    label = "List runs"
    description = "All runs of this dataset: method, model, photos, failures, review"
    icon = "list"
    dynamic = False
    risk = types.RiskLevel.LOW

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """One row per run."""
        import fiftyone_persam as fp
        from fiftyone_persam.curation.review.table import review_counts

        rows = []
        for run in fp.list_runs(ctx.dataset):
            counts = review_counts(ctx.dataset, run.name)
            rows.append(
                {
                    "run": run.name,
                    "method": run.record.method,
                    "model": run.record.model,
                    "state": run.state,
                    "photos": counts.total,
                    "review": str(counts),
                }
            )
        for name in runs_without_record(ctx):
            how = {"state": "without its record", "review": "adopt or delete it"}
            rows.append({"run": name, "method": "", "model": "", "photos": 0, **how})
        return {"runs": rows}

    def resolve_output(self, ctx: Context) -> Any:
        """A table."""
        return _table("runs", "Runs", "run", "method", "model", "state", "photos", "review")

    def __call__(self, sample_collection: Any) -> Any:
        """List the runs of a dataset as rows."""
        return self.call(sample_collection)


class ShowFailures(PersamOperator):
    """The photos a run could not segment, with the reasons."""

    operator = "show_failures"
    label = "Show failed photos"
    description = "The photos that a run could not segment, with the reason for each"
    icon = "report_problem"
    view_target = True
    risk = types.RiskLevel.LOW

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run."""
        from fiftyone_persam.curation.review.table import review_counts

        run = choose_run(ctx, inputs)
        if run is None:
            return
        if failed := review_counts(photos_to_read(ctx), run).failed:
            notice(inputs, "amount", f"{counted(failed)} failed.")
        else:
            elsewhere = review_counts(ctx.dataset, run).failed
            more = f" here; {counted(elsewhere)} failed in other views" if elsewhere else ""
            refuse(inputs, f"No photo failed in run {run!r}{more}.")
        inputs.view_target(ctx, action_description="Show", default_target="CURRENT_VIEW")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """One row per photo."""
        from fiftyone_persam.curation.review.table import FAILED, review_view

        run = ctx.params["run"]
        view = review_view(photos_to_read(ctx), run, FAILED)
        ids, paths, errors = view.values(["id", "filepath", f"{run}_error"])
        rows = [
            {"photo": path.rsplit("/", 1)[-1], "reason": error, "id": i}
            for i, path, error in zip(ids, paths, errors, strict=True)
        ]
        return {"failures": rows}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show these photos in the grid."""
        from fiftyone_persam.curation.database import photos_of

        ids = [row["id"] for row in (result or {})["failures"]]
        return [ctx.ops.set_view(photos_of(ctx.dataset).select(ids))]

    def resolve_output(self, ctx: Context) -> Any:
        """A table."""
        return _table("failures", "Failed photos", "photo", "reason", long=2)

    def __call__(self, sample_collection: Any, run: str) -> Any:
        """The failed photos of ``run``, with reasons."""
        return self.call(sample_collection, run=run)


class RenameRun(PersamOperator):
    """Form around :func:`fiftyone_persam.rename_run`."""

    operator = "rename_run"
    label = "Rename a run"
    description = "Give a run, and all fields it wrote, another name"
    icon = "edit"

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run and its new name."""
        from fiftyone_persam.curation.forms.runs import problem_with_new_name

        run = choose_run(ctx, inputs)
        if run is None:
            return
        prop = inputs.str("new_name", required=True, label="New name")
        name = ctx.params.get("new_name")
        if name is None:
            return
        if problem := problem_with_new_name(ctx.dataset, run, name):
            prop.invalid = True
            prop.error_message = problem

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Rename."""
        import fiftyone_persam as fp

        fp.rename_run(ctx.dataset, ctx.params["run"], ctx.params["new_name"])
        return {"run": ctx.params["new_name"]}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the fields under their new names."""
        return [ctx.ops.reload_dataset(), show_fields(ctx, ctx.params["new_name"])]

    def __call__(self, sample_collection: Any, run: str, new_name: str) -> Any:
        """Rename ``run`` to ``new_name``."""
        return self.call(sample_collection, run=run, new_name=new_name)


class DeleteRun(PersamOperator):
    """Form around :func:`fiftyone_persam.delete_run`."""

    operator = "delete_run"
    label = "Delete a run"
    description = "Delete a run with every field and mask file it wrote, and its evaluations"
    icon = "delete"
    risk = types.RiskLevel.HIGH
    submit = "Delete"

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run, and what would be gone."""
        from fiftyone_persam.curation.review.editing import corrected_fields
        from fiftyone_persam.curation.review.table import review_counts
        from fiftyone_persam.curation.runs.naming import run_names

        run = choose_run(ctx, inputs, also=runs_without_record(ctx))
        if run is not None and run not in run_names(ctx.dataset):
            text = f"Run {run!r} has no record. This deletes its fields, and files that are its own"
            notice(inputs, "loss", text, warning=True)
        elif run is not None:
            counts = review_counts(ctx.dataset, run)
            corrected = " and ".join(map(repr, corrected_fields(ctx.dataset, run)))
            by_hand = f", and with what was corrected by hand in {corrected}" if corrected else ""
            notice(
                inputs,
                "loss",
                f"This deletes the masks of {counts.total} photos with their scores and the review "
                f"({counts.accepted} accepted, {counts.rejected} rejected){by_hand}"
                f"{_numbers_of(ctx, run)}. "
                f"Promoted labels stay{', and so does what was rejected' * bool(counts.rejected)}.",
                warning=True,
            )

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Delete."""
        import fiftyone_persam as fp

        fp.delete_run(ctx.dataset, ctx.params["run"])
        ProgressStore(ctx.dataset).remove(ctx.params["run"])
        return {"deleted": ctx.params["run"]}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the dataset without it."""
        return [ctx.ops.clear_view(), ctx.ops.reload_dataset()]

    def __call__(self, sample_collection: Any, run: str) -> Any:
        """Delete ``run`` with everything it wrote."""
        return self.call(sample_collection, run=run)


class AdoptRun(PersamOperator):
    """Form around :func:`fiftyone_persam.adopt_run`."""

    operator = "adopt_run"
    label = "Adopt a run"
    description = "Take over fields of a run whose record is gone, as in a clone of a view"
    icon = "playlist_add_check"
    submit = "Adopt"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Which of them."""
        from .base import choose

        left = runs_without_record(ctx)
        if not left:
            refuse(inputs, "No fields of this dataset are of a run without its record.")
            return
        choose(inputs, "run", left, "Run", default=left[0])

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Adopt."""
        import fiftyone_persam as fp

        run = fp.adopt_run(ctx.dataset, ctx.params["run"])
        return {"run": run.name, "summary": str(run)}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show its masks."""
        result = result or {}
        return [
            ctx.ops.reload_dataset(),
            show_fields(ctx, result["run"]),
            ctx.ops.notify(result["summary"], variant="success"),
        ]

    def __call__(self, sample_collection: Any, run: str) -> Any:
        """Adopt the fields of ``run``."""
        return self.call(sample_collection, run=run)


class ResumeRun(PersamOperator):
    """Form around :func:`fiftyone_persam.resume_run`."""

    operator = "resume_run"
    label = "Resume a run"
    description = "Go on with a run that was stopped: only photos without a result are segmented"
    icon = "play_arrow"
    delegable = True
    generator = True
    submit = "Resume"

    def form(self, ctx: Context, inputs: Any) -> None:
        """The run."""
        choose_run(ctx, inputs)

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Go on."""
        import fiftyone_persam as fp

        name = ctx.params["run"]

        def work() -> dict[str, Any]:
            run = fp.resume_run(ctx.dataset, name, cache=keeps_embeddings(), progress=progress)
            return {"run": name, "fields": [name], **run_facts(run)}

        return progress.published(ctx.dataset, name, work)

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the masks."""
        result = result or {}
        return [
            ctx.ops.reload_dataset(),
            show_fields(ctx, *result["fields"]),
            ctx.ops.notify(result["summary"], variant="success"),
        ]

    def in_panel(self, ctx: Context) -> bool:
        """In the App."""
        return from_app(ctx)

    def __call__(self, sample_collection: Any, run: str, delegate: bool = False) -> Any:
        """Resume ``run``."""
        return self.call(sample_collection, delegate=delegate, run=run)


class StopRun(PersamOperator):
    """Stop a run that goes on in the App's server or in a delegated worker."""

    operator = "stop_run"
    label = "Stop a run"
    description = "Stop a run at its next photo; what is finished stays and it can be resumed"
    icon = "stop"
    risk = types.RiskLevel.LOW
    submit = "Stop"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Which of the runs in progress."""
        from .base import choose

        going = going_on(ctx)
        if not going:
            refuse(inputs, "No run is in progress.")
            return
        choose(inputs, "run", going, "Run", default=next(iter(going)))

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Ask it to stop."""
        from fiftyone_persam.curation.runs.stopping import request_stop

        request_stop(ctx.dataset, ctx.params["run"])
        return {"run": ctx.params["run"]}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Say so."""
        return [ctx.ops.notify("The run stops at its next photo.", variant="info")]

    def __call__(self, sample_collection: Any, run: str) -> Any:
        """Stop ``run`` at its next photo."""
        return self.call(sample_collection, run=run)


class Doctor(PersamOperator):
    """What this machine has, and what is wrong with it."""

    operator = "doctor"
    label = "Check the personal masks plugin"
    description = "Device, checkpoints, database, versions: what is there and what is missing"
    icon = "health_and_safety"
    dynamic = False
    risk = types.RiskLevel.LOW

    def resolve_input(self, ctx: Context) -> Any:
        """No inputs, and no refusal: the doctor is for when something is missing."""
        return types.Property(types.Object(), view=types.PromptView(label=self.label))

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """One row per check."""
        if missing := missing_packages():
            text = f"pip install {' '.join(missing)}"
            return {"checks": [{"check": "packages", "result": "missing", "advice": text}]}
        import fiftyone_persam as fp

        return {"checks": [dict(row) for row in fp.doctor()]}

    def resolve_output(self, ctx: Context) -> Any:
        """A table."""
        return _table("checks", "Checks", "check", "result", "advice", long=2)

    def __call__(self) -> Any:
        """Check this machine."""
        return self.call(None)


def _numbers_of(ctx: Context, run: str) -> str:
    from fiftyone_persam.curation.evaluation.compare import comparisons_of
    from fiftyone_persam.curation.evaluation.scores import evaluations_with
    from fiftyone_persam.curation.runs.fields import read_fields

    fields = read_fields(ctx.dataset, run).types()
    parts = {
        "evaluations": evaluations_with(ctx.dataset, fields),
        "comparisons": comparisons_of(ctx.dataset, run),
    }
    return "".join(f", the {what} {', '.join(names)}" for what, names in parts.items() if names)


def runs_without_record(ctx: Context) -> list[str]:
    """The runs of which there are only fields."""
    from fiftyone_persam.curation.runs.naming import leftover_runs

    return list(leftover_runs(ctx.dataset))


def going_on(ctx: Context) -> dict[str, str]:
    """The runs in progress and how far they are."""
    return {run: f"{run}: {e['label']}" for run, e in ProgressStore(ctx.dataset).running().items()}


def _table(name: str, label: str, *columns: str, long: int = 0) -> Any:
    outputs = types.Object()
    rows = types.Object()
    view = narrow_table(long)
    for column in columns:
        rows.str(column, label=column.capitalize())
        view.add_column(column, label=column.capitalize())
    outputs.list(name, rows, label=label, view=view)
    return types.Property(outputs, view=types.View(label=label))
