"""Hand over: promote reviewed masks into a label field, and export them."""

from __future__ import annotations

from typing import Any

import fiftyone.operators.types as types

from .base import Context, PersamOperator, choose, notice, refuse, show_fields
from .evaluation import group_input
from .importing import folder_of
from .runs import choose_run
from .streaming import Progress

STATES = {"accepted": "accepted", "todo": "not looked at", "rejected": "rejected"}


def state_inputs(ctx: Context, inputs: Any, run: str) -> list[str]:
    """Which review states to take; returns the choice, and refuses an empty one."""
    from fiftyone_persam.curation.review import review_counts

    counts = review_counts(ctx.dataset, run)
    view = types.DropdownView(multiple=True)
    for state, text in STATES.items():
        view.add_choice(state, label=f"{text} ({getattr(counts, state)})")
    inputs.list(
        "states", types.String(), default=["accepted"], required=True, label="Masks", view=view
    )
    states = [s for s in ctx.params.get("states") or ["accepted"] if s in STATES]
    amount = sum(getattr(counts, state) for state in states)
    if not amount:
        refuse(
            inputs,
            f"Run {run!r} has no mask that is {' or '.join(STATES[s] for s in states)}.",
            "Accept some in the review panel first, or choose other masks.",
            name="no_masks",
        )
    else:
        notice(inputs, "amount", f"{amount} masks.")
    return states


class PromoteMasks(PersamOperator):
    """Form around :func:`fiftyone_persam.curation.promote.promote`."""

    operator = "promote_masks"
    label = "Promote accepted masks"
    description = "Copy reviewed masks into a label field, with run, score and decision"
    icon = "verified"
    delegable = True
    submit = "Promote"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Run, states, field."""
        from fiftyone_persam.curation.picking import free_name, label_fields

        run = choose_run(ctx, inputs)
        if run is None:
            return
        state_inputs(ctx, inputs, run)
        taken = set(ctx.dataset.list_runs())
        view = types.AutocompleteView(allow_user_input=True)
        for name in label_fields(ctx.dataset):
            if name not in taken:
                view.add_choice(name, label=name)
        field = inputs.str(
            "label_field",
            default=free_name(ctx.dataset, f"{run}_labels"),
            required=True,
            label="Into the field",
            description="A new one, or one that has labels",
            view=view,
        )
        name = ctx.params.get("label_field")
        if name in taken:
            field.invalid = True
            field.error_message = f"{name!r} belongs to a run: choose another field."
        inputs.str("label", default="object", label="Class name", description="For Detections")
        if isinstance(name, str) and ctx.dataset.has_field(name):
            inputs.bool(
                "overwrite",
                default=False,
                label="Replace labels that are there",
                description="Off: photos that have a label in this field keep it",
            )

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Promote."""
        from fiftyone_persam.curation.promotion import promote

        promotion = promote(
            ctx.dataset,
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


class ExportMasks(PersamOperator):
    """Form around :func:`fiftyone_persam.curation.export.export_masks`."""

    operator = "export_masks"
    label = "Export masks"
    description = "Write reviewed masks as PerSeg, COCO (exact RLE), mask PNGs or FiftyOneDataset"
    icon = "file_download"
    delegable = True
    submit = "Export"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Run, states, format, folder."""
        from fiftyone_persam.curation.export import FORMATS

        run = choose_run(ctx, inputs)
        if run is None:
            return
        state_inputs(ctx, inputs, run)
        choose(inputs, "format", FORMATS, "Format", default="perseg", radio=True)
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
                description="Only folders that this operator has written are replaced",
            )
            if not ctx.params.get("overwrite"):
                refuse(inputs, f"{folder} is not empty: choose another folder.", name="occupied")
        group_input(ctx, inputs, "The object's folder in PerSeg's layout, its category in COCO")

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Export."""
        from fiftyone_persam.curation.export import export_masks

        folder = folder_of(ctx.params["export_dir"])
        assert folder is not None  # the form requires it
        count = export_masks(
            ctx.dataset,
            ctx.params["run"],
            folder,
            format=ctx.params.get("format", "perseg"),
            states=ctx.params.get("states") or ["accepted"],
            group_by=ctx.params.get("group_by") or None,
            overwrite=bool(ctx.params.get("overwrite")),
        )
        return {"exported": count, "folder": str(folder)}

    def resolve_output(self, ctx: Context) -> Any:
        """Where it went."""
        outputs = types.Object()
        outputs.int("exported", label="Photos")
        outputs.str("folder", label="Folder")
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
