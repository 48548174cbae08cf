"""What the benchmarks share: figures with their bars, fair timing, the command line."""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.home import private_fiftyone


@dataclass(frozen=True)
class Figure:
    """One measured number.

    Attributes:
        name: what was measured.
        value: the number; None where it cannot be measured here.
        unit: "x" for ratios, "ms", "MB", ...
        bar: what it should reach, if that is laid down.
        at_most: whether the bar is an upper one.
        detail: what the number is made of, in words.
    """

    name: str
    value: float | None
    unit: str
    bar: float | None
    at_most: bool
    detail: str

    @property
    def reached(self) -> bool | None:
        """Whether the bar is reached; None where there is no bar or no value."""
        if self.bar is None or self.value is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    @property
    def goal(self) -> str:
        """The bar in words."""
        if self.bar is None:
            return "-"
        return f"{'at most' if self.at_most else 'at least'} {self.bar:g} {self.unit}".strip()

    @property
    def measured(self) -> str:
        """The value in words."""
        if self.value is None:
            return "not measured"
        return f"{readable(self.value)} {self.unit}".strip()

    def __str__(self) -> str:
        verdict = {True: "reached", False: "MISSED", None: ""}[self.reached]
        return f"{self.name}: {self.measured} ({self.goal}) {verdict}\n    {self.detail}"


def readable(value: float) -> str:
    """A number with three significant digits, or all of a large one's; four close to 1."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.4g}" if 0.9 < value < 1 else f"{value:.3g}"


CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


def alternate(
    parts: dict[str, Callable[[], Any]], repeats: int, clock: str = "wall"
) -> dict[str, list[float]]:
    """Seconds of each part, run in turn (A B A B) so that a change of load falls on all of them."""
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(repeats):
        for name, part in parts.items():
            started = CLOCKS[clock]()
            part()
            seconds[name].append(CLOCKS[clock]() - started)
    return seconds


def median_ratio(upper: Sequence[float], lower: Sequence[float]) -> float:
    """Median over the turns of one time divided by the other."""
    return statistics.median(a / b for a, b in zip(upper, lower, strict=True))


def spread(seconds: Sequence[float]) -> str:
    """Median of some times, and their range where there are several."""
    middle = f"{readable(statistics.median(seconds))} s"
    if len(seconds) == 1:
        return middle
    return f"{middle} ({readable(min(seconds))} to {readable(max(seconds))})"


Measure = Callable[[argparse.Namespace, Path], list[Figure]]


def parser_of(description: str | None, photos: int, repeats: int) -> argparse.ArgumentParser:
    """A command line with the options that every benchmark has."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--album", type=Path, help="folder in PerSeg's layout; the demo's own album if left out"
    )
    parser.add_argument("--photos", type=int, default=photos, help=f"how many (default {photos})")
    parser.add_argument(
        "--repeats", type=int, default=repeats, help=f"turns of each part (default {repeats})"
    )
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="count seconds that passed, or on a busy machine those of this process's threads",
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    return parser


def run(measure: Measure, parser: argparse.ArgumentParser, given: list[str] | None = None) -> int:
    """Measure, print, and write the figures as JSON where asked to."""
    arguments = parser.parse_args(given)
    if arguments.album is not None:
        arguments.album = arguments.album.absolute()
    with private_fiftyone() as scratch:
        figures = measure(arguments, scratch)
    for figure in figures:
        print(figure)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    return 0
