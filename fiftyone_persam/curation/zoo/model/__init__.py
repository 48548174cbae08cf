"""PerSAM for ``foz.load_zoo_model`` and ``dataset.apply_model``; the reference is given once.

model = foz.load_zoo_model(
    <this repository>,
    model_name="fiftyone-persam/sam_lite",
    reference=sample,
    label_field="ground_truth",
)
dataset.apply_model(model, label_field="mine")
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any


def download_model(model_name: str, model_path: str) -> None:
    """Put the checkpoint into FiftyOne's model zoo; sam_lite comes with the library."""
    _find_library()
    from fiftyone_persam.curation.zoo.persam_model import provide_checkpoint

    provide_checkpoint(model_name.rpartition("/")[2], Path(model_path))


def load_model(model_name: str, model_path: str, **options: Any) -> Any:
    """A model that segments the reference's object; see `load_zoo_model` in the library."""
    _find_library()
    from fiftyone_persam.curation.zoo.persam_model import load_zoo_model

    return load_zoo_model(model_name.rpartition("/")[2], **options)


def resolve_input(model_name: str, ctx: Any) -> Any:
    """The form that the App shows for these models."""
    import fiftyone as fo
    from fiftyone.operators import types

    _find_library()
    from fiftyone_persam.personalize import list_methods

    inputs = types.Object()
    selected = ctx.selected[0] if len(ctx.selected) == 1 else None
    inputs.str(
        "reference",
        default=selected,
        required=True,
        label="Reference",
        description="Id of the sample that shows your object; select it before you start",
    )
    shapes = (fo.Segmentation, fo.Detection, fo.Detections, fo.Polyline, fo.Polylines)
    points = (fo.Keypoint, fo.Keypoints)
    fields = list(ctx.dataset.get_field_schema(embedded_doc_type=(*shapes, *points)))
    inputs.enum(
        "label_field",
        fields,
        default="ground_truth" if "ground_truth" in fields else next(iter(fields), None),
        required=True,
        label="Label field",
        description="Where the reference's label is",
    )
    methods = types.DropdownView()
    for info in list_methods():
        if info.needs_text:  # here a sample is the reference
            continue
        methods.add_choice(info.name, label=info.title, description=info.help)
    inputs.enum(
        "method", methods.values(), default=methods.values()[0], label="Method", view=methods
    )
    inputs.enum(
        "label_type", ["segmentation", "detections"], default="segmentation", label="Write as"
    )
    return types.Property(inputs)


def parse_parameters(model_name: str, ctx: Any, params: dict[str, Any]) -> None:
    """Tell `load_model` which dataset the form's sample id is of."""
    params["dataset"] = ctx.dataset.name


def _find_library() -> None:
    """Make ``fiftyone_persam`` importable: installed by pip, or inside the downloaded plugin."""
    if importlib.util.find_spec("fiftyone_persam") is not None:
        return
    import fiftyone as fo

    plugin = Path(fo.config.plugins_dir) / "@fiftyone-persam" / "persam"
    if not (plugin / "fiftyone_persam").is_dir():
        raise ImportError(
            "the library fiftyone-persam is missing: install it with pip, or its plugin with "
            "`fiftyone plugins download`"
        )
    sys.path.append(str(plugin))
