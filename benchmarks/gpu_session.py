"""All that is to be measured and tested on a GPU, in one call of less than five minutes.

    python -m benchmarks.gpu_session --album ../shared/data/perseg_dev --out results

Tests first, then figures. Each part runs in a process of its own with a limit of its own, so that
one that fails costs no other; what a part prints is kept in the folder as soon as it is there. All
of them end within ``--seconds``: what no time is left for is named.
FiftyOne is not needed. ``--try-out`` does everything on the CPU with a tiny model, to see that it
runs.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTS = ("sam/test_fast_vit", "sam/test_execution", "engine/test_gpu", "engine/test_memory")
"""Those that have something to test on a GPU alone."""
SECONDS = 290
LEAST = 12
"""Seconds that a part needs at least to show anything: with fewer left it is not begun."""
SLOWER = 4
"""Times the limits of a try-out: a CPU, and maybe a busy one."""


@dataclass(frozen=True)
class Part:
    """One process.

    Attributes:
        name: of its file.
        limit: seconds.
        command: what follows ``python -m``.
    """

    name: str
    limit: int
    command: list[str]


def parts(album: Path, try_out: bool) -> list[Part]:
    """What is run, in this order."""
    device = ["--device", "cpu" if try_out else "cuda"]
    shared = ["--album", str(album), *device]
    tests = ["pytest", "-m", "gpu", "--noconftest", "-q", "-p", "no:cacheprovider", "--tb=short"]
    where = [f"tests/{name}.py" for name in TESTS]

    def speed(model: str, photos: int, *more: str) -> list[str]:
        model = "tiny" if try_out else model
        photos = 4 if try_out else photos
        sizes = ["--photos", str(photos), "--repeats", "1" if try_out else "2"]
        more = (*more, "--batches", "1") if try_out else more
        return ["benchmarks.gpu", "--models", model, *sizes, *shared, *more]

    vit_h, loop = ("tiny", "2") if try_out else ("vit_h", "12")
    return [
        Part("tests", 75, [*tests, *where]),
        Part("vit_h", 45, speed("vit_h", 384, "--batches", "16")),
        Part("vit_b", 40, speed("vit_b", 768, "--batches", "16", "32")),
        Part("sam_lite", 40, speed("sam_lite", 1536, "--batches", "16", "64")),
        Part("bfloat16", 40, speed("vit_b", 512, "--batches", "16", "--dtypes", "bfloat16")),
        Part(
            "plain_loop",
            45,
            [
                *("benchmarks.plain_loop", "--model", vit_h, "--without-database", *shared),
                *("--photos", "4" if try_out else "384", "--loop-photos", loop, "--repeats", "1"),
            ],
        ),
        Part(
            "compiled",
            50,
            speed("vit_b", 512, "--batches", "16", "--compile", "--without", "kernels"),
        ),
    ]


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--album", type=Path, required=True, help="a folder in PerSeg's layout")
    parser.add_argument("--out", type=Path, default=Path("gpu_session"), help="where results go")
    parser.add_argument("--only", nargs="+", help="names of parts")
    parser.add_argument("--seconds", type=float, help=f"for all parts together ({SECONDS})")
    parser.add_argument("--try-out", action="store_true", help="on the CPU, with a tiny model")
    arguments = parser.parse_args(given)
    out = arguments.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    slower = SLOWER if arguments.try_out else 1
    budget = SECONDS * slower if arguments.seconds is None else arguments.seconds
    began = time.perf_counter()
    failed = []
    for part in parts(arguments.album.absolute(), arguments.try_out):
        if arguments.only and part.name not in arguments.only:
            continue
        left = budget - (time.perf_counter() - began)
        if left < LEAST:
            print(f"== {part.name}: not begun, no time is left for it", flush=True)
            failed.append(part.name)
            continue
        code = _run(part, min(part.limit * slower, left), out / f"{part.name}.txt")
        if code:
            failed.append(part.name)
        print(
            f"== {part.name}: code {code}, {time.perf_counter() - began:.0f} s so far", flush=True
        )
    print(f"failed: {', '.join(failed) or 'nothing'}")
    return len(failed)


def _run(part: Part, limit: float, log: Path) -> int:
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *part.command],
            cwd=ROOT,
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
    lines = log.read_text(errors="replace").splitlines()
    print("\n".join(line[:400] for line in lines[-25:] if "Warning" not in line), flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
