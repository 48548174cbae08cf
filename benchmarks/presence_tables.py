"""What the answers of `benchmarks.presence` come to: its tables, and the fit of its constants."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from benchmarks.composed import SIZES
from benchmarks.recognition import OWN
from fiftyone_persam.personalize import presence
from fiftyone_persam.personalize.comparison import among_others

SHIPPED = np.array([*presence.WEIGHTS, presence.BIAS])
LEANINGS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0)
FOUND = 0.5  # IoU
THRESHOLDS = (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9)
# A photo that loses its mask is worse than one that keeps a wrong one: the share that the issue
# asks for is 97 % of those against 80 % of these.
_WORSE = 4.0
_RIDGE = 1e-3

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Answer:
    """What one photo says when it is asked for one object.

    Attributes:
        object: what was looked for.
        there: whether it is there.
        presence: the method's answer.
        iou: of the mask before the threshold; 0 where the object is not there.
        reference: which reference was asked for.
        columns: (R, K) of `Evidence`, by name of the features: the reference as given, and smaller.
        handicap: (R,) of `Evidence`.
        others: what else speaks for the object, by name.
        size: of the object, as a multiple of its size in the reference, if it is known.
    """

    object: str
    there: bool
    presence: float
    iou: float
    reference: int = 0
    columns: Mapping[str, Floats] = field(default_factory=dict)
    handicap: Floats = field(default_factory=lambda: np.zeros(1))
    others: Mapping[str, float] = field(default_factory=dict)
    size: float | None = None


def auc(there: npt.ArrayLike, missing: npt.ArrayLike) -> float:
    """Probability that a photo with the object has more presence than one without it."""
    with_it, without = np.asarray(there)[:, None], np.asarray(missing)[None]
    return float(np.mean((with_it > without) + 0.5 * (with_it == without)))


def summary(answers: Iterable[Answer], threshold: float) -> dict[str, float]:
    """The figures at one threshold, by name."""
    by_object: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_object[answer.object].append(answer)
    everyone = [answer for group in by_object.values() for answer in group]
    there, missing = _split(everyone)
    mixed = []
    for group in by_object.values():
        kept = [a.iou if a.presence >= threshold else 0.0 for a in group if a.there]
        empty = [float(a.presence < threshold) for a in group if not a.there]
        mixed.append((np.mean(kept) + np.mean(empty)) / 2)
    return {
        "auc_pooled": auc(there, missing),
        "auc_per_object": float(np.mean([auc(*_split(group)) for group in by_object.values()])),
        "kept": float(np.mean(there >= threshold)),
        "lost": float(np.mean(missing < threshold)),
        "mixed_miou": float(np.mean(mixed)),
    }


def _split(answers: Iterable[Answer]) -> tuple[Floats, Floats]:
    answers = list(answers)
    return (
        np.array([a.presence for a in answers if a.there]),
        np.array([a.presence for a in answers if not a.there]),
    )


def compared(answers: Sequence[Answer]) -> list[Answer]:
    """The answers as a run gives them that compares its photos with one another."""
    runs: dict[int, list[int]] = defaultdict(list)
    for place, answer in enumerate(answers):
        runs[answer.reference].append(place)
    changed = list(answers)
    for places in runs.values():
        alone = np.array([answers[place].presence for place in places])
        for place, value in zip(places, among_others(alone), strict=True):
            changed[place] = replace(answers[place], presence=float(value))
    return changed


def report(answers: Sequence[Answer]) -> None:
    """Print the table."""
    there, missing = _split(answers)
    default = summary(answers, presence.DEFAULT_THRESHOLD)
    print(f"{len(there)} photos with the object, {len(missing)} without")
    print(
        f"AUC {default['auc_pooled']:.3f} pooled, {default['auc_per_object']:.3f} mean per object"
    )
    print("threshold   with, mask kept   without, mask emptied   mIoU, half without")
    for threshold in sorted({*THRESHOLDS, presence.DEFAULT_THRESHOLD}):
        mark = " (default)" if threshold == presence.DEFAULT_THRESHOLD else ""
        print(f"{threshold:9.2f}   {_cells(summary(answers, threshold))}{mark}")
    print("at the default threshold                AUC" + " " * 3 + "kept   emptied   mIoU")
    _row("photos compared with one another", summary(compared(answers), presence.DEFAULT_THRESHOLD))


def report_sizes(answers: Sequence[Answer]) -> None:
    """Print which masks are kept by the object's size, where the photos say what it is."""
    known = [a for a in answers if a.there and a.size is not None]
    sizes = np.array([a.size for a in known])
    if len(np.unique(sizes)) < 2:
        return
    print("by the object's size in the reference     photos   found   kept   kept of those found")
    nearest = np.abs(np.log(sizes[:, None] / np.array(SIZES))).argmin(axis=1)
    for place, size in enumerate(SIZES):
        there = [a for a, near in zip(known, nearest, strict=True) if near == place]
        if there:
            found = np.array([a.iou >= FOUND for a in there])
            kept = np.array([a.presence >= presence.DEFAULT_THRESHOLD for a in there])
            of_those = f"{kept[found].mean():12.1%}" if found.any() else ""
            print(
                f"  {size:<36g} {len(there):9d} {found.mean():8.1%} {kept.mean():6.1%} {of_those}"
            )


def report_evidence(answers: Sequence[Answer]) -> None:
    """Print what each kind of evidence tells by itself, and what other models' features do."""
    yes = np.array([a.there for a in answers])
    kinds = {name: [a.others[name] for a in answers] for name in answers[0].others}
    table = np.stack([a.columns[OWN][0] for a in answers])
    for place, name in enumerate(presence.KINDS):
        kinds[name] = list(table[:, place])
    print("AUC of each kind of evidence by itself (below 0.5: less of it speaks for the object)")
    for name, values in kinds.items():
        column = np.asarray(values)
        print(f"  {name:32}{auc(list(column[yes]), list(column[~yes])):6.3f}")
    print("the same masks judged by these features, at the default threshold")
    for name in _names(answers):
        judged = _judged(answers, _odds(answers, name, SHIPPED))
        _row(f"  {name}", summary(judged, 0.5))
        _row(f"  {name}, compared", summary(compared(judged), 0.5))


def report_held_out(answers: Sequence[Answer]) -> None:
    """Print the figures of objects, and of features, that took no part in the fit."""
    names = _names(answers)
    objects = np.array([a.object for a in answers])
    yes = np.array([a.there for a in answers], float)
    tables = {name: np.stack([a.columns[name][0] for a in answers]) for name in names}

    def odds(judged: str, learnt: Sequence[str]) -> Floats:
        found = np.zeros(len(answers))
        for one in np.unique(objects):
            seen = objects != one
            weights = fit([tables[n][seen] for n in learnt], yes[seen])
            found[~seen] = _odds([a for a in answers if a.object == one], judged, weights)
        return found

    for title, same in (("held out: the object", True), ("held out: object and features", False)):
        print(title)
        for name in names:
            learnt = names if same else [other for other in names if other != name]
            if learnt:
                _row(f"  {name}", summary(_judged(answers, odds(name, learnt)), 0.5))
    print("held out: the object, one by one, by the model's own features")
    alone = odds(OWN, names)
    judged = _judged(answers, alone)
    for one in np.unique(objects):
        _row(f"  {one}", summary([a for a in judged if a.object == one], 0.5))
    print("held out: the object, by how much the log odds lean to keeping; own features")
    for leaning in LEANINGS:
        mark = " (default)" if leaning == presence.LEANING else ""
        moved = _judged(answers, alone - presence.LEANING + leaning)
        _row(f"  {leaning:g}{mark}", summary(moved, 0.5))
    weights = fit([tables[name] for name in names], yes)
    print("fitted on all: " + ", ".join(f"{one:.1f}" for one in weights))


def fit(tables: Sequence[Floats], yes: Floats) -> Floats:
    """(K + 1,) weights and bias of a logistic regression on all tables together, by Newton steps.

    Both classes count as much in sum, but for `_WORSE`; `_RIDGE` keeps weights small that nothing
    is known about.
    """
    rows, wanted = np.concatenate(tables), np.tile(yes, len(tables))
    centre, scale = rows.mean(axis=0), rows.std(axis=0) + 1e-9
    design = np.c_[(rows - centre) / scale, np.ones(len(rows))]
    share = wanted.mean()
    counts = np.where(wanted > 0, _WORSE / share, 1 / (1 - share)) / (1 + _WORSE)
    ridge = _RIDGE * np.eye(design.shape[1])
    weights = np.zeros(design.shape[1])
    for _ in range(50):
        certain = 1 / (1 + np.exp(-np.clip(design @ weights, -30, 30)))
        slope = design.T @ (counts * (certain - wanted)) / len(wanted) + ridge @ weights
        bend = (design * (counts * certain * (1 - certain))[:, None]).T @ design / len(wanted)
        weights -= np.linalg.solve(bend + ridge, slope)
    return np.r_[weights[:-1] / scale, weights[-1] - (weights[:-1] * centre / scale).sum()]


def _odds(answers: Sequence[Answer], name: str, weights: Floats) -> Floats:
    """(n,) log odds by weights and bias, of the look that fits best, with leaning and handicap."""
    best = [
        (a.columns[name] @ weights[:-1] + weights[-1] - a.handicap[: len(a.columns[name])]).max()
        for a in answers
    ]
    return np.array(best) + presence.LEANING


def _judged(answers: Sequence[Answer], odds: Floats) -> list[Answer]:
    values = 1 / (1 + np.exp(-np.clip(odds, -50, 50)))
    return [replace(a, presence=float(v)) for a, v in zip(answers, values, strict=True)]


def _names(answers: Sequence[Answer]) -> list[str]:
    return list(answers[0].columns)


def _cells(row: Mapping[str, float]) -> str:
    return f"{row['kept']:15.1%}   {row['lost']:21.1%}   {row['mixed_miou']:18.3f}"


def _row(name: str, row: Mapping[str, float]) -> None:
    print(
        f"{name:36} {row['auc_pooled']:6.3f}  {row['kept']:6.1%}   {row['lost']:6.1%}"
        f"   {row['mixed_miou']:.3f}"
    )


def report_time(seconds: Mapping[str, Sequence[float]]) -> None:
    """Print what presence costs of a photo's time, encoding included."""
    encoding, method, alone = (
        float(np.median(seconds[name])) for name in ("encoding", "method", "presence")
    )
    total = encoding + method
    print(
        f"per photo: encoding {1000 * encoding:.0f} ms, the method {1000 * method:.0f} ms, of "
        f"which presence {1000 * alone:.1f} ms; with / without it {total / (total - alone):.3f}"
    )
