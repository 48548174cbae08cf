"""Hand over: promote reviewed masks into a label field, and export them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone.operators.types as types

from .base import Context, PersamOperator, choose, counted, notice, refuse, show_fields
from .evaluation import group_input
from .importing import folder_of
from .method_form import sentence
from .runs import choose_run
from .streaming import Progress
from .targets import photos_to_read

SHOWN = 5  # reasons why photos were left out
STATES = {"accepted": "accepted", "todo": "not looked at", "rejected": "rejected"}


def state_inputs(ctx: Context, inputs: Any, run: str, required: bool = True) -> list[str]:
    """Which review states to take; returns the choice, and refuses one without masks here."""
    from fiftyone_persam.curation.handover.chosen import choose_photos

    found = list(choose_photos(photos_to_read(ctx), run, ()).states.values())
    counts = {state: found.count(state) for state in STATES}
    view = types.DropdownView(multiple=True, allow_user_input=False)
    for state, text in STATES.items():
        view.add_choice(state, label=f"{text} ({counts[state]})")
    inputs.list(
        "states", types.String(), default=["accepted"], required=True, label="Masks", view=view
    )
    states = [s for s in ctx.params.get("states") or ["accepted"] if s in STATES]
    announce_amount(
        inputs,
        sum(counts[state] for state in states),
        f"Run {run!r} has no mask that is {' or '.join(STATES[s] for s in states)} here.",
        "Accept some in the review panel first, or choose other masks.",
        required,
    )
    return states


def announce_amount(
    inputs: Any, amount: int, missing: str, advice: str, required: bool = True, what: str = ""
) -> None:
    """How many photos will be written; with none of those that are required, why and what to do."""
    if amount or not required:
        notice(inputs, "amount", f"{counted(amount)}{what}.")
    else:
        refuse(inputs, missing, advice, name="no_masks")


class PromoteMasks(PersamOperator):
    """Form around :func:`fiftyone_persam.curation.promote.promote`."""

    operator = "promote_masks"
    label = "Promote accepted masks"
    description = "Copy reviewed masks into a label field, with run, score and decision"
    icon = "verified"
    delegable = True
    view_target = True
    submit = "Promote"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Run, states, field."""
        from fiftyone_persam.curation.forms.references import label_fields
        from fiftyone_persam.curation.forms.runs import free_name
        from fiftyone_persam.curation.handover.earlier_labels import has_labels_of

        run = choose_run(ctx, inputs)
        if run is None:
            return
        name = ctx.params.get("label_field")
        present = isinstance(name, str) and ctx.dataset.has_field(name)
        # Without masks, labels whose decision was taken back can still be dropped from the field.
        before = present and has_labels_of(ctx.dataset, run, name)
        state_inputs(ctx, inputs, run, required=not before)
        taken = set(ctx.dataset.list_runs())
        view = types.AutocompleteView(allow_user_input=True)
        for choice in label_fields(ctx.dataset):
            if _problem_with_field(ctx, run, choice, taken) is None:
                view.add_choice(choice, label=choice)
        field = inputs.str(
            "label_field",
            default=free_name(ctx.dataset, f"{run}_labels"),
            required=True,
            label="Into the field",
            description="A new one, or one that has labels",
            view=view,
        )
        if problem := _problem_with_field(ctx, run, name, taken):
            field.invalid = True
            field.error_message = problem
        inputs.str(
            "label",
            default="object",
            label="Class name",
            description="Of new Detections; of the mask's value in a field of Segmentations",
        )
        if present:
            inputs.bool(
                "overwrite",
                default=False,
                label="Replace labels that are there",
                description="Off: photos that have a label in this field keep it. Labels of masks "
                "that were accepted and are not any more go in any case",
            )
        inputs.view_target(ctx, action_description="Promote", default_target="CURRENT_VIEW")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Promote."""
        from fiftyone_persam.curation.handover.promotion import promote

        promotion = promote(
            photos_to_read(ctx),
            ctx.params["run"],
            ctx.params["label_field"],
            states=ctx.params.get("states") or ["accepted"],
            label=ctx.params.get("label") or "object",
            overwrite=bool(ctx.params.get("overwrite")),
        )
        return {
            "label_field": promotion.label_field,
            "promoted": len(promotion.promoted),
            "kept": len(promotion.kept),
            "withdrawn": len(promotion.withdrawn),
            "summary": str(promotion),
        }

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Show the field."""
        result = result or {}
        return [
            ctx.ops.reload_dataset(),
            show_fields(ctx, result["label_field"]),
            ctx.ops.notify(result["summary"], variant="success"),
        ]

    def __call__(
        self,
        sample_collection: Any,
        run: str,
        label_field: str,
        states: list[str] | None = None,
        label: str = "object",
        overwrite: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Promote reviewed masks of ``run`` into ``label_field``."""
        return self.call(
            sample_collection,
            delegate=delegate,
            run=run,
            label_field=label_field,
            states=states or ["accepted"],
            label=label,
            overwrite=overwrite,
        )


def _problem_with_field(ctx: Context, run: str, name: Any, taken: set[str]) -> str | None:
    from fiftyone_persam.curation.handover.label_field import check_label_field
    from fiftyone_persam.errors import problem_of

    if name is None:  # the default is on its way
        return None
    if name in taken:
        return f"{name!r} belongs to a run: choose another field."
    return problem_of(check_label_field, ctx.dataset, run, name)


def _problem_with_folder(folder: Path, overwrite: Any) -> str | None:
    from fiftyone_persam.datasets.staging import check_folder
    from fiftyone_persam.errors import problem_of

    return problem_of(check_folder, folder, bool(overwrite))


def told_left_out(reasons: list[str]) -> str:
    """The first reasons why photos were left out, in one line."""
    more = len(reasons) - SHOWN
    return "; ".join([*reasons[:SHOWN], *([f"and {more} more"] if more > 0 else [])])


class ExportMasks(PersamOperator):
    """Form around :func:`fiftyone_persam.curation.export.export_masks`."""

    operator = "export_masks"
    label = "Export masks"
    description = "Write reviewed masks as PerSeg, COCO (exact RLE), mask PNGs or FiftyOneDataset"
    icon = "file_download"
    delegable = True
    view_target = True
    submit = "Export"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Run, states, format, folder."""
        from fiftyone_persam.curation.handover.formats import EXPORTERS

        run = choose_run(ctx, inputs)
        if run is None:
            return
        state_inputs(ctx, inputs, run)
        formats = {name: sentence(one.help) for name, one in EXPORTERS.items()}
        choose(inputs, "format", formats, "Format", default="perseg", radio=True)
        inputs.file(
            "export_dir",
            required=True,
            label="Folder",
            description="An empty or new one",
            view=types.FileExplorerView(choose_dir=True, button_label="Choose a folder..."),
        )
        folder = folder_of(ctx.params.get("export_dir"))
        if folder and folder.is_dir() and any(folder.iterdir()):
            inputs.bool(
                "overwrite",
                default=False,
                label="Replace an earlier export in this folder",
                description="Only files that this operator has written are replaced",
            )
        if folder and (problem := _problem_with_folder(folder, ctx.params.get("overwrite"))):
            refuse(inputs, problem, name="occupied")
        group_input(ctx, inputs, "The object's folder in PerSeg's layout, its category in COCO")
        inputs.view_target(ctx, action_description="Export", default_target="CURRENT_VIEW")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Export."""
        from fiftyone_persam.curation.handover.export import export_masks

        folder = folder_of(ctx.params["export_dir"])
        assert folder is not None  # the form requires it
        count = export_masks(
            photos_to_read(ctx),
            ctx.params["run"],
            folder,
            format=ctx.params.get("format", "perseg"),
            states=ctx.params.get("states") or ["accepted"],
            group_by=ctx.params.get("group_by") or None,
            overwrite=bool(ctx.params.get("overwrite")),
        )
        result: dict[str, Any] = {"exported": int(count), "folder": str(folder)}
        if count.left_out:
            result["left_out"] = told_left_out(count.left_out)
        return result

    def resolve_output(self, ctx: Context) -> Any:
        """Where it went."""
        outputs = types.Object()
        outputs.int("exported", label="Photos")
        outputs.str("folder", label="Folder")
        outputs.str("left_out", label="Left out")
        return types.Property(outputs, view=types.View(label="Exported"))

    def __call__(
        self,
        sample_collection: Any,
        run: str,
        export_dir: str,
        format: str = "perseg",
        states: list[str] | None = None,
        group_by: str | None = None,
        overwrite: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Export reviewed masks of ``run`` to a folder."""
        return self.call(
            sample_collection,
            delegate=delegate,
            run=run,
            export_dir={"absolute_path": str(export_dir)},
            format=format,
            states=states or ["accepted"],
            group_by=group_by,
            overwrite=overwrite,
        )
