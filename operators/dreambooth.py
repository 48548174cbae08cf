"""``export_dreambooth``: photos, masks and captions for a diffusion model's trainer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone.operators.types as types

from .base import Context, PersamOperator, choose, refuse
from .evaluation import mask_fields
from .handover import announce_amount, told_left_out
from .importing import folder_of
from .runs import run_names
from .streaming import Progress
from .targets import photos_to_read

CROPS = {
    "square": "A square around the object",
    "box": "The object's box",
    "none": "The whole photo",
}
BACKGROUNDS = {
    "keep": "As it is: the trainer uses the masks",
    "white": "White",
    "gray": "Grey",
    "blur": "Blurred",
}
# Stable Diffusion 1.x; dilated, since trainers average masks over 8 x 8 pixels.
RESOLUTION, DILATE = 512, 8


class ExportDreamBooth(PersamOperator):
    """Form around :func:`fiftyone_persam.export_dreambooth`."""

    operator = "export_dreambooth"
    label = "Export for DreamBooth"
    description = "Photos, masks and captions to train a diffusion model on the object alone"
    icon = "brush"
    delegable = True
    generator = True
    view_target = True
    submit = "Export"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Masks, layout, folder, crop, captions."""
        from fiftyone_persam.datasets.training_layouts import TRAINING_LAYOUTS

        runs = run_names(ctx.dataset)
        fields = mask_fields(ctx.dataset)
        names = [*reversed(runs), *(field for field in fields if field not in runs)]
        if not names:
            refuse(inputs, "This dataset has no masks yet.", "Segment your object first.")
            return
        source = ctx.params.get("run_or_label_field")
        source = source if source in names else names[0]
        choose(inputs, "run_or_label_field", names, "Masks", default=source)
        if source in runs:
            self._run_inputs(ctx, inputs, source)
        else:
            self._label_inputs(ctx, inputs, source)
        layouts = {name: layout.help for name, layout in TRAINING_LAYOUTS.items()}
        choose(inputs, "layout", layouts, "Trainer", default="diffusers", radio=True)
        self._folder_inputs(ctx, inputs)
        self._photo_inputs(ctx, inputs)
        caption = inputs.str(
            "caption",
            default="a photo of sks {label}",
            required=True,
            label="Caption",
            description="{label} is what the object is called, {tags} a photo's tags, {name} the "
            "value of a field; a field's name alone takes the caption from it",
        )
        if problem := self._problem_with_caption(ctx):
            caption.invalid = True
            caption.error_message = problem
        inputs.str(
            "label",
            label="What {label} is",
            description="Empty: the labels' class, or that of the run's reference",
        )
        inputs.float(
            "min_score",
            min=0,
            max=1,
            label="Lowest score",
            description="Leave out photos whose score, or label's confidence, is lower",
        )
        inputs.view_target(ctx, action_description="Export", default_target="CURRENT_VIEW")

    def _run_inputs(self, ctx: Context, inputs: Any, run: str) -> None:
        from fiftyone_persam.curation.database import photo_ids, photos_of
        from fiftyone_persam.curation.review.table import review_counts

        photos = photos_of(ctx.dataset).select(photo_ids(photos_to_read(ctx)))
        counts = review_counts(photos, run)
        inputs.bool(
            "only_accepted",
            default=True,
            label=f"Only accepted masks ({counts.accepted})",
            description=f"Off: also those that nobody has looked at ({counts.todo})",
        )
        wide = ctx.params.get("only_accepted") is False
        announce_amount(
            inputs,
            counts.accepted + (counts.todo if wide else 0),
            f"Run {run!r} has no mask here that is accepted.",
            "Accept some in the review panel first, or take those not looked at.",
        )

    def _label_inputs(self, ctx: Context, inputs: Any, field: str) -> None:
        from fiftyone_persam.curation.database import photo_ids, photos_of

        photos = photos_of(ctx.dataset).select(photo_ids(photos_to_read(ctx)))
        amount = len(photos.exists(field))
        announce_amount(
            inputs,
            amount,
            f"No photo here has a label in {field!r}.",
            "Choose other masks above.",
            what=" has labels" if amount == 1 else " have labels",
        )

    def _folder_inputs(self, ctx: Context, inputs: Any) -> None:
        from fiftyone_persam.curation.handover.dreambooth import check_out_dir
        from fiftyone_persam.errors import problem_of

        inputs.file(
            "out_dir",
            required=True,
            label="Folder",
            description="An empty or new one",
            view=types.FileExplorerView(choose_dir=True, button_label="Choose a folder..."),
        )
        folder = folder_of(ctx.params.get("out_dir"))
        if folder is None:
            return
        if folder.is_dir() and any(folder.iterdir()):
            inputs.bool(
                "overwrite",
                default=False,
                label="Replace an earlier export in this folder",
                description="Only files that an export has written are replaced",
            )
        overwrite = bool(ctx.params.get("overwrite"))
        if problem := problem_of(check_out_dir, folder, overwrite):
            refuse(inputs, problem, name="occupied")

    def _photo_inputs(self, ctx: Context, inputs: Any) -> None:
        choose(inputs, "crop", CROPS, "Crop", default="square")
        if ctx.params.get("crop", "square") != "none":
            inputs.float(
                "padding",
                default=0.1,
                min=0,
                max=10,
                label="Room around the object",
                description="A share of its longer side",
            )
        inputs.int(
            "resolution",
            default=RESOLUTION,
            min=8,
            max=8192,
            label="Resolution",
            description="In pixels: of squares the side, of others the shorter side at most. "
            "Empty: the photos' own",
        )
        choose(inputs, "background", BACKGROUNDS, "Background", default="keep")
        inputs.int(
            "dilate",
            default=DILATE,
            min=0,
            max=1000,
            label="Grow the mask, in pixels",
            description="Trainers average masks over 8 x 8 pixels: a few keep the object's edge",
        )
        inputs.int("feather", default=0, min=0, max=1000, label="Soft edge, in pixels")

    def _problem_with_caption(self, ctx: Context) -> str | None:
        from fiftyone_persam.curation.handover.captions import Captions
        from fiftyone_persam.errors import problem_of

        caption = ctx.params.get("caption")
        return None if caption is None else problem_of(Captions, ctx.dataset, caption)

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Export."""
        import fiftyone_persam as fp

        folder = folder_of(ctx.params["out_dir"])
        assert folder is not None  # the form requires it
        progress.stage = "Exporting"
        options: dict[str, Any] = {
            name: ctx.params[name]
            for name in (
                "layout",
                "crop",
                "padding",
                "background",
                "dilate",
                "feather",
                "caption",
                "only_accepted",
                "min_score",
                "overwrite",
            )
            if ctx.params.get(name) is not None
        }
        exported = fp.export_dreambooth(
            photos_to_read(ctx),
            ctx.params["run_or_label_field"],
            folder,
            resolution=ctx.params.get("resolution"),
            label=(ctx.params.get("label") or "").strip() or None,
            progress=progress,
            **options,
        )
        result: dict[str, Any] = {"exported": int(exported), "folder": str(folder)}
        if exported.left_out:
            result["left_out"] = told_left_out(exported.left_out)
        return result

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Say where it went."""
        result = result or {}
        text = f"{result['exported']} photos are in {result['folder']}"
        if "left_out" in result:
            text = f"{text}. Left out: {result['left_out']}"
        return [ctx.ops.notify(text, variant="success")]

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
        run_or_label_field: str,
        out_dir: str | Path,
        layout: str = "diffusers",
        crop: str = "none",
        padding: float = 0.1,
        resolution: int | None = None,
        background: str = "keep",
        dilate: int = 0,
        feather: int = 0,
        caption: str = "a photo of sks {label}",
        only_accepted: bool = True,
        min_score: float | None = None,
        label: str | None = None,
        overwrite: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Export a training set; see :func:`fiftyone_persam.export_dreambooth`."""
        return self.call(
            sample_collection,
            delegate=delegate,
            run_or_label_field=run_or_label_field,
            out_dir={"absolute_path": str(out_dir)},
            layout=layout,
            crop=crop,
            padding=padding,
            resolution=resolution,
            background=background,
            dilate=dilate,
            feather=feather,
            caption=caption,
            only_accepted=only_accepted,
            min_score=min_score,
            label=label,
            overwrite=overwrite,
        )
