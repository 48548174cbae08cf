"""Evaluations printed as tables, in percent."""

from __future__ import annotations

from collections.abc import Sequence

from ...metrics import (
    JFScores,
    PerSegScores,
    mean_scores,
)
from .sequence_scores import METRICS


def format_scores(
    scores: PerSegScores, objects: Sequence[str] | None = None, digits: int = 1
) -> str:
    """A table of scores in percent."""
    rows = [row for row in scores.objects if objects is None or row.name in objects]
    width = max([len("mean over objects"), *(len(row.name) for row in rows)])

    def line(name: str, photos: int, *values: float) -> str:
        cells = "".join(f"{100 * value:>10.{digits}f}" for value in values)
        return f"{name:<{width}}{photos:>8}{cells}"

    head = f"{'object':<{width}}{'photos':>8}{'IoU':>10}{'bIoU':>10}{'accuracy':>10}"
    lines = [head, "-" * len(head)]
    lines += [line(r.name, r.photos, r.iou, r.boundary_iou, r.accuracy) for r in rows]
    lines.append("-" * len(head))
    lines.append(
        line(
            "mean over objects",
            scores.photos,
            scores.miou,
            scores.mean_boundary_iou,
            scores.mean_accuracy,
        )
    )
    lines.append(
        line(
            "mean over photos",
            scores.photos,
            scores.photo_miou,
            scores.photo_mean_boundary_iou,
            scores.photo_mean_accuracy,
        )
    )
    return "\n".join(lines)


def format_jf(rows: Sequence[tuple[str, str, JFScores]], digits: int = 1) -> str:
    """A table of scores in percent."""
    mean = ("mean over objects", "", mean_scores([one for _, _, one in rows]))
    width = max(len(f"{sequence} {name}") for sequence, name, _ in (*rows, mean))
    head = f"{'object':<{width}}{'frames':>8}" + "".join(f"{t:>10}" for _, t in METRICS.values())
    lines = [head, "-" * len(head)]
    for sequence, name, one in (*rows, mean):
        if (sequence, name) == mean[:2]:
            lines.append("-" * len(head))
        cells = "".join(f"{100 * getattr(one, key):>10.{digits}f}" for key in METRICS)
        lines.append(f"{f'{sequence} {name}':<{width}}{one.frames:>8}{cells}")
    return "\n".join(lines)
