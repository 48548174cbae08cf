"""Run every benchmark and write ``benchmarks/RESULTS.md`` and its plot.

    python -m benchmarks [--album ../shared/data/perseg_dev] [--only a c]

Each benchmark has a process of its own. Takes about ten minutes on two quiet cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import Figure
from benchmarks.results import Row, write_results

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Benchmark:
    """A command: its letter in the table, its module, its arguments, whether it takes photos."""

    letter: str
    module: str
    arguments: tuple[str, ...] = ()
    photos: bool = True


BENCHMARKS = (
    Benchmark("a", "overhead", ("--model", "sam_lite")),
    Benchmark("a", "overhead", ("--model", "vit_b", "--photos", "4", "--repeats", "2")),
    Benchmark("b", "fitting"),
    Benchmark("c", "second_reference", ("--model", "vit_b", "--photos", "6")),
    Benchmark("d", "plain_loop", ("--model", "sam_lite", "--photos", "50", "--device", "cpu")),
    Benchmark("d", "plain_loop", ("--model", "vit_h", "--photos", "50", "--device", "cuda")),
    Benchmark("e", "gpu", photos=False),
    Benchmark("f", "bookkeeping", photos=False),
    Benchmark("g", "evaluation"),
    Benchmark("h", "precision"),
)


def measure(benchmark: Benchmark, album: Path | None, scratch: Path) -> list[Row]:
    """Run one benchmark in a process of its own."""
    file = scratch / "figures.json"
    command = [sys.executable, "-m", f"benchmarks.{benchmark.module}", *benchmark.arguments]
    command += ["--json", str(file)]
    if benchmark.photos and album is not None:
        command += ["--album", str(album)]
    print(f"\n({benchmark.letter}) {benchmark.module} {' '.join(benchmark.arguments)}", flush=True)
    subprocess.run(command, check=True, cwd=HERE.parent)
    return [Row(benchmark.letter, Figure(**one)) for one in json.loads(file.read_text())]


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--album", type=Path, help="folder in PerSeg's layout; else the demo's own")
    letters = sorted({benchmark.letter for benchmark in BENCHMARKS})
    parser.add_argument("--only", nargs="+", choices=letters, help="only print these")
    arguments = parser.parse_args(given)
    album = None if arguments.album is None else arguments.album.absolute()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as scratch:
        for benchmark in BENCHMARKS:
            if arguments.only is None or benchmark.letter in arguments.only:
                rows += measure(benchmark, album, Path(scratch))
    if arguments.only is None:
        photos = "the demo's own album" if album is None else f"album {album.name}"
        print(f"\nwritten: {write_results(rows, photos, HERE)}")
    missed = [row for row in rows if row.figure.reached is False]
    print(f"{len(rows)} figures, {len(missed)} bars missed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
