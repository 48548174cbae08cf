"""The figures of a run as a page and a plot; the machine without names or folders."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.measuring import Figure

PACKAGES = ("fiftyone", "torch", "segment-anything", "numpy", "opencv-python-headless", "pillow")
PAGE, PLOT = "RESULTS.md", "results.png"
FARTHEST = 100.0
"""Where the plot cuts off a figure that is farther from its bar."""
MEANING = {
    "a": "whole job over the model's own compute",
    "b": "PerSAM-F's fit against the loop of decoder passes it replaces",
    "c": "a second reference over encoded photos",
    "d": "against a plain per-photo `SamPredictor` loop",
    "e": "GPU: photos per second and share of the matrix peak",
    "f": "bookkeeping per sample and memory",
    "g": "evaluation against FiftyOne's `evaluate_segmentations`",
    "h": "masks in bfloat16 against float32",
}


@dataclass(frozen=True)
class Row:
    """A figure and the letter of its benchmark."""

    letter: str
    figure: Figure


def write_results(rows: Sequence[Row], photos: str, folder: Path) -> Path:
    """Write ``RESULTS.md`` and its plot into a folder.

    Args:
        rows: all figures.
        photos: which photos were used, in words.
        folder: where to.

    Returns:
        The page.
    """
    draw_plot(rows, folder / PLOT)
    page = folder / PAGE
    page.write_text(format_page(rows, photos), encoding="utf-8")
    return page


def format_page(rows: Sequence[Row], photos: str) -> str:
    """The page as Markdown."""
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    lines = [
        "# Measured speed",
        "",
        "Written by `python -m benchmarks` (`make bench`); every row comes from one run, in which "
        "the compared parts took turns.",
        "",
        f"- Date: {datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d}",
        f"- Machine: {machine()}",
        f"- Versions: fiftyone-persam {_own_version()}, Python {platform.python_version()}, "
        f"{versions}",
        f"- Photos: {photos}",
        "- ViT weights are random: speed does not depend on them",
        "",
        f"![Each figure as a multiple of its bar]({PLOT})",
        "",
    ]
    for letter in dict.fromkeys(row.letter for row in rows):
        lines += [
            f"## ({letter}) {MEANING[letter]}",
            "",
            "| measured | bar | value | reached | how |",
            "|---|---|---|---|---|",
        ]
        for figure in (row.figure for row in rows if row.letter == letter):
            verdict = {True: "yes", False: "**no**", None: "-"}[figure.reached]
            cells = (figure.name, figure.goal, figure.measured, verdict, figure.detail)
            lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
        lines.append("")
    return "\n".join(lines)


def draw_plot(rows: Sequence[Row], file: Path) -> None:
    """Every figure that has a bar, as how many times better than the bar it is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Canvas
    from matplotlib.ticker import NullFormatter, ScalarFormatter

    shown = [(row, margin(row.figure)) for row in rows]
    known = [(row, value) for row, value in shown if value is not None]
    canvas = Canvas(figsize=(9, 1.2 + 0.34 * max(1, len(known))), dpi=100, layout="constrained")
    FigureCanvasAgg(canvas)
    axes = canvas.subplots()
    names = [f"({row.letter}) {row.figure.name}" for row, _ in known]
    colours = ["#2a7f62" if value >= 1 else "#c0392b" for _, value in known]
    lengths = [min(value, FARTHEST) - 1 for _, value in known]
    bars = axes.barh(names, lengths, left=1, color=colours)
    axes.bar_label(bars, [f" {row.figure.measured}" for row, _ in known], fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.25)
    axes.invert_yaxis()
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlabel("times better than its bar (the line); the label is the value")
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    canvas.savefig(file)


def margin(figure: Figure) -> float | None:
    """How many times better than its bar a figure is; None without a bar or a value."""
    if figure.bar is None or figure.value is None:
        return None
    value = max(figure.value, 1e-9)
    return figure.bar / value if figure.at_most else value / figure.bar


def machine() -> str:
    """Processor, cores, memory and GPU, in words."""
    parts = [f"{processor()}, {os.cpu_count()} cores"]
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        parts.append(f"{memory / 2**30:.0f} GiB")
    parts.append(torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU")
    parts.append(f"{torch.get_num_threads()} torch threads, {platform.system()}")
    return ", ".join(parts)


def processor() -> str:
    """The processor's name."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{named[0]} ({platform.machine()})" if named else platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _own_version() -> str:
    from fiftyone_persam import __version__

    return __version__
