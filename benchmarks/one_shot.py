"""The one-shot benchmarks of the paper's table 3, by one command.

    python -m benchmarks.one_shot --dataset perseg --root ../shared/data/perseg_dev
    python -m benchmarks.one_shot --dataset fss1000 --root FSS-1000 --methods persam persam_f
    python -m benchmarks.one_shot --dataset lvis92i --root LVIS --folds 0 1 --limit 200

Prints every fold's mIoU (intersections and unions summed by class, then the mean over classes), the
foreground-background IoU, episodes a second once photos are encoded and masks are read, and what
has been published.
The last line is ``name mIoU`` for each method, the mean over folds in percent.

Published numbers differ in protocol (size and shape of the photos, tuning per episode), so they are
neighbours of ours, no targets.
"""

from __future__ import annotations

import argparse
import platform
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy import load_model
from fiftyone_persam.datasets.one_shot import BENCHMARKS, read_benchmark, run_episodes
from fiftyone_persam.datasets.one_shot.runner import OneShotRun
from fiftyone_persam.engine import DiskCache, EmbeddingCache, MemoryCache
from fiftyone_persam.personalize import METHODS


def main(given: list[str] | None = None) -> int:
    arguments = _parser().parse_args(given)
    sam = load_model(arguments.model)
    index = read_benchmark(arguments.dataset, arguments.root, arguments.on_error)
    entry = BENCHMARKS[arguments.dataset]
    for what, reason in index.skipped[:20]:
        print(f"left out {what}: {reason}", file=sys.stderr)
    if len(index.skipped) > 20:
        print(f"... and {len(index.skipped) - 20} more left out", file=sys.stderr)
    cache: EmbeddingCache = (
        DiskCache(arguments.cache) if arguments.cache else MemoryCache(arguments.memory * 2**30)
    )
    print(
        f"{entry.title}: {len(index.classes)} classes in {len(index.folds)} folds, "
        f"{arguments.shots} shot, photos squashed to {sam.image_size} x {sam.image_size}, seed "
        f"{arguments.seed}, {arguments.model}"
    )
    means: dict[str, list[OneShotRun]] = {}
    for name in arguments.methods:
        for fold in arguments.folds or index.folds:
            run = run_episodes(
                index,
                fold,
                sam,
                METHODS[name],
                shots=arguments.shots,
                seed=arguments.seed,
                limit=arguments.limit,
                cache=cache,
                mode=arguments.mode,
            )
            means.setdefault(name, []).append(run)
            print(
                f"{name:10} fold {fold}: mIoU {100 * run.scores.miou:5.1f}  FB-IoU "
                f"{100 * run.scores.fb_iou:5.1f}  {run.scores.episodes} episodes, "
                f"{run.episodes_per_second:.1f} a second after encoding, "
                f"{run.fitted} fits, {run.encoded} photos encoded and masks read in "
                f"{run.encoding:.1f} s"
            )
            if arguments.verbose:
                for one, value in run.scores.classes.items():
                    print(f"    {one:24} {100 * value:5.1f}")
    print("published: " + ", ".join(f"{k} {v:.1f}" for k, v in entry.published.items()))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    print(
        ", ".join(
            f"{name} {100 * float(np.mean([run.scores.miou for run in runs])):.1f}"
            for name, runs in means.items()
        )
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, choices=list(BENCHMARKS))
    parser.add_argument("--root", required=True, type=Path, help="the benchmark's folder")
    parser.add_argument("--model", default="sam_lite")
    parser.add_argument(
        "--methods", nargs="+", default=["persam", "persam_f"], choices=list(METHODS)
    )
    parser.add_argument("--mode", default="corrected", choices=["corrected", "reference"])
    parser.add_argument("--folds", nargs="*", type=int, help="only these; all by default")
    parser.add_argument("--shots", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="episodes of a fold, at most")
    parser.add_argument("--on-error", default="skip", choices=["raise", "skip"])
    parser.add_argument("--cache", type=Path, help="folder that keeps embeddings")
    parser.add_argument("--memory", type=int, default=4, help="GiB of embeddings in memory")
    parser.add_argument("--verbose", action="store_true", help="print every class")
    return parser


if __name__ == "__main__":
    sys.exit(main())
