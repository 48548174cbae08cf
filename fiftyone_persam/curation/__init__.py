"""Curation: objects in FiftyOne datasets, segmented, evaluated, reviewed and handed over.

Names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "Run": "runs",
    "compare_runs": "compare",
    "delete_run": "runs",
    "evaluate": "evaluation",
    "export_masks": "export",
    "import_perseg": "importing",
    "list_runs": "runs",
    "load_run": "runs",
    "make_editable": "editing",
    "promote": "promotion",
    "rename_run": "runs",
    "resume_run": "segmentation",
    "review_counts": "review",
    "review_queue": "review",
    "review_view": "review",
    "segment": "segmentation",
    "segment_again": "again",
    "set_presence_threshold": "review",
    "set_review": "review",
    "undo_review": "review",
}

__all__ = [
    "Run",
    "compare_runs",
    "delete_run",
    "evaluate",
    "export_masks",
    "import_perseg",
    "list_runs",
    "load_run",
    "make_editable",
    "promote",
    "rename_run",
    "resume_run",
    "review_counts",
    "review_queue",
    "review_view",
    "segment",
    "segment_again",
    "set_presence_threshold",
    "set_review",
    "undo_review",
]

if TYPE_CHECKING:
    from .again import segment_again
    from .compare import compare_runs
    from .editing import make_editable
    from .evaluation import evaluate
    from .export import export_masks
    from .importing import import_perseg
    from .promotion import promote
    from .review import (
        review_counts,
        review_queue,
        review_view,
        set_presence_threshold,
        set_review,
        undo_review,
    )
    from .runs import Run, delete_run, list_runs, load_run, rename_run
    from .segmentation import resume_run, segment


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
