"""Curation: objects in FiftyOne datasets, segmented, evaluated, reviewed and handed over.

Names are resolved on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "objects_in": "labels.objects",
    "Run": "runs.loading",
    "adopt_run": "adoption",
    "compare_runs": "evaluation.compare",
    "delete_run": "lifecycle",
    "evaluate": "evaluation.evaluate",
    "export_dreambooth": "handover.dreambooth",
    "export_masks": "handover.export",
    "import_perseg": "handover.importing",
    "list_runs": "runs.loading",
    "load_run": "runs.loading",
    "make_editable": "review.editing",
    "mark_mask": "segmentation.marking",
    "mark_point": "segmentation.marking",
    "mark_reference": "segmentation.marking",
    "promote": "handover.promotion",
    "propose": "segmentation.proposing",
    "rename_run": "lifecycle",
    "resume_run": "segmentation.resuming",
    "review_counts": "review.table",
    "review_queue": "review.table",
    "review_view": "review.table",
    "segment": "segmentation.segment",
    "segment_again": "segmentation.again",
    "segment_everything": "segmentation.proposing",
    "set_presence_threshold": "review.threshold",
    "set_review": "review.decisions",
    "stop_run": "runs.stopping",
    "suggest_reference": "segmentation.suggestion",
    "undo_review": "review.decisions",
}

__all__ = [
    "Run",
    "adopt_run",
    "compare_runs",
    "delete_run",
    "evaluate",
    "export_dreambooth",
    "export_masks",
    "import_perseg",
    "list_runs",
    "load_run",
    "make_editable",
    "mark_mask",
    "mark_point",
    "mark_reference",
    "objects_in",
    "promote",
    "propose",
    "rename_run",
    "resume_run",
    "review_counts",
    "review_queue",
    "review_view",
    "segment",
    "segment_again",
    "segment_everything",
    "set_presence_threshold",
    "set_review",
    "stop_run",
    "suggest_reference",
    "undo_review",
]

if TYPE_CHECKING:
    from .adoption import adopt_run
    from .evaluation.compare import compare_runs
    from .evaluation.evaluate import evaluate
    from .handover.dreambooth import export_dreambooth
    from .handover.export import export_masks
    from .handover.importing import import_perseg
    from .handover.promotion import promote
    from .labels.objects import objects_in
    from .lifecycle import delete_run, rename_run
    from .review.decisions import set_review, undo_review
    from .review.editing import make_editable
    from .review.table import review_counts, review_queue, review_view
    from .review.threshold import set_presence_threshold
    from .runs.loading import Run, list_runs, load_run
    from .runs.stopping import stop_run
    from .segmentation.again import segment_again
    from .segmentation.marking import mark_mask, mark_point, mark_reference
    from .segmentation.proposing import propose, segment_everything
    from .segmentation.resuming import resume_run
    from .segmentation.segment import segment
    from .segmentation.suggestion import suggest_reference


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
