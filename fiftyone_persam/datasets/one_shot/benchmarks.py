"""The benchmarks: where each is read, and what has been published on it."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import DatasetLayoutError, PersamError, did_you_mean
from .records import OneShotIndex


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    Attributes:
        name: how it is asked for.
        module: the module of this room with its ``read``.
        title: its name in the literature.
        folds: how many.
        published: method -> mIoU in percent, as its authors print it; protocols differ in detail.
    """

    name: str
    module: str
    title: str
    folds: int
    published: dict[str, float] = field(default_factory=dict)


BENCHMARKS: dict[str, Benchmark] = {}


def benchmark(entry: Benchmark) -> None:
    """Add a benchmark.

    Raises:
        PersamError: the name is taken.
    """
    if entry.name in BENCHMARKS:
        raise PersamError(f"there is a benchmark {entry.name!r} already: choose another name")
    BENCHMARKS[entry.name] = entry


def read_benchmark(
    name: str, root: str | os.PathLike[str], on_error: str = "raise"
) -> OneShotIndex:
    """Find a benchmark's classes and photos on the disk. Photos are not read yet.

    Args:
        name: one of `BENCHMARKS`.
        root: its folder.
        on_error: "raise" stops at the first annotation or file that cannot be used; "skip" leaves
            it out and lists it in ``skipped``.

    Raises:
        PersamError: no such benchmark.
        DatasetLayoutError: the folder is not in the official layout.
    """
    if name not in BENCHMARKS:
        raise PersamError(
            f"there is no benchmark {name!r}: choose one of {', '.join(BENCHMARKS)}"
            f"{did_you_mean(name, list(BENCHMARKS))}"
        )
    folder = Path(root).expanduser().absolute()
    if not folder.is_dir():
        raise DatasetLayoutError(f"folder {folder} is missing: give the benchmark's")
    module = BENCHMARKS[name].module
    package = __package__ if "." not in module else None
    read = importlib.import_module(f"{package}.{module}" if package else module).read
    index: OneShotIndex = read(folder, on_error)
    return index


# Table 3 of the paper, and of rivals' papers; see benchmarks/one_shot.py for how they are shown.
for _entry in (
    Benchmark(
        "perseg",
        "perseg",
        "PerSeg",
        1,
        {"PerSAM": 89.3, "PerSAM-F": 95.3, "SegGPT": 94.3, "Painter": 56.4},
    ),
    Benchmark(
        "fss1000",
        "fss1000",
        "FSS-1000",
        1,
        {"PerSAM": 81.6, "PerSAM-F": 86.3, "SegGPT": 85.6, "Matcher": 87.1, "GF-SAM": 88.0},
    ),
    Benchmark(
        "lvis92i",
        "lvis92i",
        "LVIS-92i",
        10,
        {"PerSAM": 15.6, "PerSAM-F": 18.4, "SegGPT": 18.6, "Matcher": 33.0, "GF-SAM": 35.2},
    ),
    Benchmark(
        "pascal_part",
        "pascal_part",
        "PASCAL-Part",
        4,
        {"PerSAM": 32.5, "PerSAM-F": 32.9, "SegGPT": 35.8, "Matcher": 42.9, "GF-SAM": 44.5},
    ),
    Benchmark(
        "paco_part",
        "paco_part",
        "PACO-Part",
        4,
        {"PerSAM": 22.5, "PerSAM-F": 22.7, "SegGPT": 13.5, "Matcher": 34.7, "GF-SAM": 36.3},
    ),
    Benchmark(
        "coco20i",
        "coco20i",
        "COCO-20i",
        4,
        {"PerSAM": 23.0, "PerSAM-F": 23.5, "Matcher": 52.7, "GF-SAM": 58.7},
    ),
):
    benchmark(_entry)
