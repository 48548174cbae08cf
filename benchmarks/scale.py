"""What looking at a run costs as its dataset grows: lists, counts, decisions, queue, threshold.

    python -m benchmarks.scale --counts 1000 20000 100000

`segment` makes a run over a few photos; their documents are then multiplied in the database, each
with values and a mask file of its own (links to one file), as if that many photos were segmented.
Every figure is the median of several turns. What the App's panel and forms do is measured as they
do it: the panel's event for a decision, and the form of an operator, without a browser.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from bson import ObjectId

from benchmarks.measuring import Figure, parser_of, readable, run
from benchmarks.photos import LABELS, dataset_of, take_photos
from benchmarks.seeded import small_sam

RUN = "x"
SEEDS = 8
"""Photos that are really segmented."""
HIDDEN = 0.05
"""Share of the photos that the threshold change counts as absent: each gets an empty mask."""
BARS = {
    "accept a photo": 0.1,
    "reject a photo": 0.1,
    "undo": 0.1,
    "accept in the panel": 0.1,
    "reject in the panel": 0.1,
    "accept by the operator": 0.1,
    "counts": 0.1,
    "list_runs, a run": 0.1,
    "review queue": 0.5,
    "first of the queue": 0.5,
    "open the panel": 0.5,
    "threshold change": 5.0,
}
"""Goals in seconds, whatever the number of photos."""


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    figures = []
    for count in arguments.counts:
        with large_run(count, scratch) as dataset:
            for name, seconds in timings(dataset, arguments.repeats).items():
                middle, spread = statistics.median(seconds), f"{readable(max(seconds))} s at most"
                label = f"{name}, {count:,} photos"
                figures.append(Figure(label, middle, "s", BARS[name], True, spread))
    print(table(figures, arguments.counts))
    return figures


def timings(dataset: Any, repeats: int) -> dict[str, list[float]]:
    """Seconds of each action, by name."""
    import fiftyone_persam as fp
    from fiftyone_persam import curation

    ids = iter(dataset.limit(40 * repeats).values("id"))
    actions: dict[str, Callable[[], Any]] = {
        "list_runs, a run": lambda: fp.list_runs(dataset),
        "counts": lambda: curation.review_counts(dataset, RUN),
        "accept a photo": lambda: curation.set_review(dataset, RUN, "accepted", [next(ids)]),
        "reject a photo": lambda: curation.set_review(dataset, RUN, "rejected", [next(ids)]),
        "undo": lambda: curation.undo_review(dataset, RUN),
        "review queue": lambda: curation.review_queue(dataset, RUN),
        "first of the queue": lambda: curation.review_queue(dataset, RUN, limit=1).first(),
    }
    found = {name: _clock(action, repeats) for name, action in actions.items()}
    found |= _in_the_app(dataset, ids, repeats)
    thresholds = itertools.cycle([HIDDEN, 0.0])
    change = lambda: curation.set_presence_threshold(dataset, RUN, next(thresholds))  # noqa: E731
    found["threshold change"] = _clock(change, max(2, repeats // 2))
    return found


def _in_the_app(dataset: Any, ids: Iterator[str], repeats: int) -> dict[str, list[float]]:
    from tests.operators.context import PanelTab, link_plugin, operator

    link_plugin()
    tab = PanelTab(dataset)
    accept = operator("accept_masks")
    actions: dict[str, Callable[[], Any]] = {
        "open the panel": lambda: PanelTab(dataset),
        "accept in the panel": lambda: tab.send("accept_current"),
        "reject in the panel": lambda: tab.send("reject_current"),
        "accept by the operator": lambda: accept(dataset, RUN, [next(ids)]),
    }
    return {name: _clock(action, repeats) for name, action in actions.items()}


def _clock(action: Callable[[], Any], repeats: int) -> list[float]:
    seconds = []
    action()
    for _ in range(repeats):
        started = time.perf_counter()
        action()
        seconds.append(time.perf_counter() - started)
    return seconds


@contextmanager
def large_run(count: int, scratch: Path) -> Iterator[Any]:
    """A dataset of ``count`` photos with a run `RUN` over all of them, none looked at."""
    import fiftyone_persam as fp

    folder = scratch / f"scale-{count}"
    folder.mkdir()
    masks = folder / "masks"
    with dataset_of(take_photos(None, SEEDS, folder)) as dataset:
        fp.segment(
            dataset,
            dataset.first(),
            LABELS,
            method="persam",
            model=fp.load_sam(small_sam(), device="cpu"),
            out_field=RUN,
            mask_storage="file",
            masks_dir=masks,
            presence_threshold=0.0,
            progress=False,
        )
        _multiply(dataset, count, masks)
        yield dataset


def _multiply(dataset: Any, count: int, masks: Path) -> None:
    from fiftyone_persam.curation import fiftyone_api

    samples = fiftyone_api.sample_collection(dataset)
    seeds = list(samples.find())
    random = np.random.default_rng(0)
    made: list[dict[str, Any]] = []
    for number in range(count - len(seeds)):
        copy = {**seeds[number % len(seeds)], "_id": ObjectId()}
        mask = masks / f"{copy['_id']}.png"
        os.link(copy[RUN]["mask_path"], mask)
        copy["filepath"] = f"{os.path.splitext(copy['filepath'])[0]}-{number}.jpg"
        copy[RUN] = {**copy[RUN], "_id": ObjectId(), "mask_path": str(mask)}
        for name in ("score", "presence", "agreement"):
            copy[f"{RUN}_{name}"] = float(random.random())
        made.append(copy)
        if len(made) == 10_000:
            samples.insert_many(made)
            made = []
    if made:
        samples.insert_many(made)
    dataset.reload()
    ids = dataset.values("id")
    results = dataset.init_run_results(
        RUN, ids=ids, timings={"seconds": 1.0, "photos": count, "photos_per_second": 1.0}
    )
    identity = ObjectId()
    fiftyone_api.put_results(results, identity)
    earlier = fiftyone_api.results_id(dataset, "runs", RUN)
    fiftyone_api.use_results(dataset, "runs", RUN, identity, earlier)


def table(figures: list[Figure], counts: list[int]) -> str:
    """The figures as Markdown: a row per action, a column per number of photos."""
    names = list(dict.fromkeys(figure.name.rpartition(", ")[0] for figure in figures))
    cells = {figure.name: figure for figure in figures}
    lines = [
        f"| seconds | {' | '.join(f'{count:,} photos' for count in counts)} | goal |",
        f"|---|{'---|' * len(counts)}---|",
    ]
    for name in names:
        row = [readable(cells[f"{name}, {count:,} photos"].value or 0.0) for count in counts]
        lines.append(f"| {name} | {' | '.join(row)} | {BARS[name]:g} |")
    return "\n".join(lines)


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=0, repeats=5)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 20_000, 100_000])
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
