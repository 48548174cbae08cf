"""What an evaluation says about each object, for tables, and the photos behind its numbers."""

from __future__ import annotations

from typing import Any

from ..errors import PersamError
from .fields import photos_of
from .perseg_evaluation import PerSegEvaluationConfig, PerSegResults
from .runs import root

ALL = "mean"


def evaluations_of(samples: Any, pred_field: str) -> list[str]:
    """The keys of the evaluations of ``pred_field`` by the PerSeg protocol, oldest first."""
    dataset = root(samples)
    found = []
    for key in dataset.list_evaluations():
        info = dataset.get_evaluation_info(key)
        if isinstance(info.config, PerSegEvaluationConfig) and info.config.pred_field == pred_field:
            found.append((info.timestamp, key))
    return [key for _, key in sorted(found)]


def object_table(samples: Any, eval_key: str) -> list[dict[str, Any]]:
    """One row per object, then their mean: object, photos, iou, boundary_iou, accuracy (0 to 1).

    Raises:
        PersamError: there is no such evaluation
    """
    scores = _results(samples, eval_key).scores
    rows: list[dict[str, Any]] = [
        {
            "object": row.name,
            "photos": row.photos,
            "iou": row.iou,
            "boundary_iou": row.boundary_iou,
            "accuracy": row.accuracy,
        }
        for row in scores.objects
    ]
    mean = {
        "object": ALL,
        "photos": scores.photos,
        "iou": scores.miou,
        "boundary_iou": scores.mean_boundary_iou,
        "accuracy": scores.mean_accuracy,
    }
    return [*rows, mean]


def worst_first(samples: Any, eval_key: str, name: str | None = None) -> Any:
    """The photos that were evaluated, lowest IoU first, as a view.

    Args:
        samples: the dataset or a view of it
        eval_key: the evaluation
        name: only the photos of this object

    Raises:
        PersamError: there is no such evaluation
    """
    results = _results(samples, eval_key)
    field = f"{eval_key}_iou"
    view = photos_of(samples).exists(field)
    group_by = results.config.group_by
    if name is not None and group_by is not None:
        from fiftyone import ViewField as F

        view = view.match(F(group_by) == name)
    return view.sort_by(field)


def _results(samples: Any, eval_key: str) -> PerSegResults:
    dataset = root(samples)
    if not dataset.has_evaluation(eval_key):
        listed = ", ".join(dataset.list_evaluations()) or "none"
        raise PersamError(f"dataset has no evaluation {eval_key!r}: choose from {listed}")
    results = dataset.load_evaluation_results(eval_key, cache=False)
    if not isinstance(results, PerSegResults):
        raise PersamError(
            f"evaluation {eval_key!r} is not by the PerSeg protocol: evaluate the run again"
        )
    return results
