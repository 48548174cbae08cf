"""What an evaluation says about each object, for tables, and the photos behind its numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fiftyone.core.evaluation import EvaluationMethod

from ...errors import PersamError
from ..database import photos_of, root
from ..fiftyone_api import drop_unlisted_runs, forget_cached_evaluation, has_results
from ..runs import schema
from .davis_method import DavisEvaluationConfig, fields_of
from .perseg_method import FIELDS, PerSegEvaluationConfig, PerSegResults
from .stored_evaluation import DESCRIPTION

ALL = "mean"


def evaluations_of(samples: Any, pred_field: str) -> list[str]:
    """The keys of the evaluations of ``pred_field`` by the PerSeg protocol, oldest first.

    Those whose results are gone, as where a process was killed, are left out.
    """
    dataset = root(samples)
    infos = [
        info
        for info in _infos(dataset)
        if info.config.pred_field == pred_field and isinstance(info.config, PerSegEvaluationConfig)
    ]
    found = sorted((info.timestamp, info.key) for info in infos)
    return [key for _, key in found if has_results(dataset, "evaluations", key)]


def evaluations_with(dataset: Any, fields: Iterable[str]) -> list[str]:
    """The keys of the evaluations in which one of these fields was compared, on either side."""
    compared = set(fields)
    infos = _infos(dataset)
    return [i.key for i in infos if compared & {i.config.pred_field, i.config.gt_field}]


def forget_evaluations(dataset: Any, fields: Iterable[str]) -> None:
    """Delete these evaluations, with the fields they wrote."""
    for key in evaluations_with(dataset, fields):
        forget_evaluation(dataset, key)


def forget_evaluation(dataset: Any, key: str) -> None:
    """Delete an evaluation of this package, or what a killed process has left of it."""
    schema.delete_fields(dataset, written_fields(dataset, key))
    schema.remove_empty_group(dataset, key)
    if dataset.has_evaluation(key):
        dataset.delete_evaluation(key)
    drop_unlisted_runs(dataset, key)


def evaluation_fields(key: str) -> list[str]:
    """The fields that an evaluation by the PerSeg protocol writes."""
    return [f"{key}_{suffix}" for suffix in FIELDS]


def written_fields(dataset: Any, key: str) -> list[str]:
    """The fields that an evaluation by any protocol writes, or has written."""
    others = [
        name
        for name in fields_of([key])
        if getattr(dataset.get_field(name), "description", None) == DESCRIPTION
    ]
    return [*evaluation_fields(key), *others]


def rename_evaluations(dataset: Any, renamed: dict[str, str]) -> None:
    """Tell evaluations the new names of the fields that they have compared."""
    for info in _infos(dataset):
        config = info.config
        if not {config.pred_field, config.gt_field} & set(renamed):
            continue
        config.pred_field = renamed.get(config.pred_field, config.pred_field)
        config.gt_field = renamed.get(config.gt_field, config.gt_field)
        EvaluationMethod.update_run_config(dataset, info.key, config)
        forget_cached_evaluation(dataset, info.key)


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


def _infos(dataset: Any) -> list[Any]:
    infos = [dataset.get_evaluation_info(key) for key in dataset.list_evaluations()]
    ours = (PerSegEvaluationConfig, DavisEvaluationConfig)
    return [info for info in infos if isinstance(info.config, ours)]


def _results(samples: Any, eval_key: str) -> PerSegResults:
    dataset = root(samples)
    if not dataset.has_evaluation(eval_key):
        listed = ", ".join(dataset.list_evaluations()) or "none"
        raise PersamError(f"dataset has no evaluation {eval_key!r}: choose from {listed}")
    if not has_results(dataset, "evaluations", eval_key):
        raise PersamError(f"the results of evaluation {eval_key!r} are gone: evaluate it again")
    results = dataset.load_evaluation_results(eval_key, cache=False)
    if not isinstance(results, PerSegResults):
        raise PersamError(
            f"evaluation {eval_key!r} is not by the PerSeg protocol: evaluate the run again"
        )
    return results
