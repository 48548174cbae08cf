"""``import_perseg``: a folder in PerSeg's layout becomes a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.operators.types as types

from .base import Context, PersamOperator, refuse
from .streaming import Progress


class ImportPerSeg(PersamOperator):
    """Form around :func:`fiftyone_persam.curation.importing.import_perseg`."""

    operator = "import_perseg"
    label = "Import a PerSeg folder"
    description = "Photos and masks in PerSeg's layout (Images/<object>, Annotations/<object>)"
    icon = "drive_folder_upload"
    delegable = True
    submit = "Import"

    def form(self, ctx: Context, inputs: Any) -> None:
        """Folder, name, what to do with faults."""
        inputs.file(
            "dataset_dir",
            required=True,
            label="Folder",
            description="The one that holds Images and Annotations",
            view=types.FileExplorerView(choose_dir=True, button_label="Choose a folder..."),
        )
        folder = folder_of(ctx.params.get("dataset_dir"))
        name = inputs.str(
            "name",
            default=folder.name if folder else None,
            required=True,
            label="Name of the new dataset",
        )
        if ctx.params.get("name") in fo.list_datasets():
            name.invalid = True
            name.error_message = "A dataset of this name exists: choose another."
        if folder and (
            missing := [d for d in ("Images", "Annotations") if not (folder / d).is_dir()]
        ):
            refuse(inputs, f"{folder} has no folder {' and '.join(missing)}.")
        inputs.int(
            "max_samples", min=1, label="At most so many photos", description="Empty: all of them"
        )
        inputs.bool(
            "skip_faulty",
            default=False,
            label="Leave out photos with a fault",
            description="A missing mask, an unreadable photo, sizes that differ. Off: stop at one",
        )

    def run(self, ctx: Context, progress: Progress) -> dict[str, Any]:
        """Import."""
        from fiftyone_persam.curation.handover.importing import import_perseg

        folder = folder_of(ctx.params["dataset_dir"])
        assert folder is not None  # the form requires it
        dataset = import_perseg(
            folder,
            ctx.params["name"],
            max_samples=ctx.params.get("max_samples"),
            on_error="skip" if ctx.params.get("skip_faulty") else "raise",
        )
        return {"dataset": dataset.name, "photos": len(dataset)}

    def after(self, ctx: Context, result: dict[str, Any] | None) -> list[Any]:
        """Open it."""
        return [ctx.ops.open_dataset((result or {})["dataset"])]

    def resolve_output(self, ctx: Context) -> Any:
        """What was imported."""
        outputs = types.Object()
        outputs.str("dataset", label="Dataset")
        outputs.int("photos", label="Photos")
        return types.Property(outputs)

    def __call__(
        self,
        dataset_dir: str,
        name: str,
        max_samples: int | None = None,
        skip_faulty: bool = False,
        delegate: bool = False,
    ) -> Any:
        """Import a folder as a persistent dataset."""
        return self.call(
            None,
            delegate=delegate,
            dataset_dir={"absolute_path": str(dataset_dir)},
            name=name,
            max_samples=max_samples,
            skip_faulty=skip_faulty,
        )


def folder_of(value: Any) -> Path | None:
    """The path in a file input's value."""
    if isinstance(value, dict):
        value = value.get("absolute_path") or value.get("path")
    return Path(value).expanduser() if isinstance(value, str) and value else None
