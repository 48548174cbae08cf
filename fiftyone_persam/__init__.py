"""Segment *your* object in all your photos from one labelled sample (PerSAM / PerSAM-F).

Every public name can be imported from here. Names are resolved on first use (PEP 562), so
``import fiftyone_persam`` loads neither torch nor fiftyone.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS: dict[str, tuple[str, ...]] = {
    "errors": (
        "BadReferenceError",
        "CheckpointError",
        "DatasetLayoutError",
        "PersamError",
        "PhotoError",
        "RunConflictError",
        "RunStoppedError",
    ),
    "sam": ("ModelInfo", "PromptableSam", "list_models", "load_sam"),
    "personalize": (
        "Method",
        "MethodInfo",
        "PerSAM",
        "PerSAMF",
        "Prediction",
        "Reference",
        "TextReference",
        "find_phrase",
        "list_methods",
    ),
    "metrics": ("accuracy", "boundary_iou", "iou"),
    "datasets": ("PerSegDataset",),
    "curation": (
        "adopt_run",
        "delete_run",
        "evaluate",
        "export_dreambooth",
        "list_runs",
        "load_run",
        "propose",
        "rename_run",
        "resume_run",
        "segment",
        "segment_everything",
        "stop_run",
        "suggest_reference",
    ),
    "cli.doctor": ("doctor",),
}
_HOME: dict[str, str] = {name: room for room, names in _EXPORTS.items() for name in names}
_ROOMS = frozenset((*_EXPORTS, "dreambooth", "engine")) - {"cli.doctor"}

__all__ = [  # spelled out, so that type checkers and linters see them
    "BadReferenceError",
    "CheckpointError",
    "DatasetLayoutError",
    "Method",
    "MethodInfo",
    "ModelInfo",
    "PerSAM",
    "PerSAMF",
    "PerSegDataset",
    "PersamError",
    "PhotoError",
    "Prediction",
    "PromptableSam",
    "Reference",
    "RunConflictError",
    "RunStoppedError",
    "TextReference",
    "__version__",
    "accuracy",
    "adopt_run",
    "boundary_iou",
    "delete_run",
    "doctor",
    "evaluate",
    "export_dreambooth",
    "find_phrase",
    "iou",
    "list_methods",
    "list_models",
    "list_runs",
    "load_run",
    "load_sam",
    "propose",
    "rename_run",
    "resume_run",
    "segment",
    "segment_everything",
    "stop_run",
    "suggest_reference",
]

if TYPE_CHECKING:
    from .cli.doctor import doctor
    from .curation import (
        adopt_run,
        delete_run,
        evaluate,
        export_dreambooth,
        list_runs,
        load_run,
        propose,
        rename_run,
        resume_run,
        segment,
        segment_everything,
        stop_run,
        suggest_reference,
    )
    from .datasets import PerSegDataset
    from .errors import (
        BadReferenceError,
        CheckpointError,
        DatasetLayoutError,
        PersamError,
        PhotoError,
        RunConflictError,
        RunStoppedError,
    )
    from .metrics import accuracy, boundary_iou, iou
    from .personalize import (
        Method,
        MethodInfo,
        PerSAM,
        PerSAMF,
        Prediction,
        Reference,
        TextReference,
        find_phrase,
        list_methods,
    )
    from .sam import ModelInfo, PromptableSam, list_models, load_sam


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    elif name in _ROOMS:
        value = importlib.import_module(f"{__name__}.{name}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME, *_ROOMS})
