"""Photos per second on the GPU, by stage and batch size, and the share of the machine's own peak.

    python -m benchmarks.gpu --models vit_b vit_h --batches 1 4 8 16 32

The peak is the fastest bfloat16 matrix product measured here in the same run. A stage's share is
what its multiplications and additions, counted by torch, take of that peak. "end to end" goes from
resized photos in main memory to masks there. Without CUDA there is nothing to measure; ``--device
cpu --models tiny`` only tries the benchmark out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import fiftyone_persam as fp
from benchmarks.measuring import Figure, parser_of, readable, run
from benchmarks.models import MODELS, random_sam
from fiftyone_persam.personalize.cascade import run_cascade

BARS = {"vit_b": 400.0, "vit_h": 80.0}
SIZE = (768, 1024)
MATRIX = {"cuda": 8192, "cpu": 1024}


@dataclass(frozen=True)
class Stage:
    """One stage at one batch size.

    Attributes:
        batch: photos at once.
        seconds: per batch.
        operations: multiplications and additions per batch.
    """

    batch: int
    seconds: float
    operations: float

    @property
    def rate(self) -> float:
        """Photos per second."""
        return self.batch / self.seconds


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    if arguments.device == "cuda" and not torch.cuda.is_available():
        return [
            Figure(f"{name} end to end", None, "photos/s", BARS.get(name), False, "no CUDA here")
            for name in arguments.models
        ]
    peak = matrix_peak(arguments.device, arguments.repeats)
    print(f"bfloat16 matrix peak: {readable(peak / 1e12)} TFLOP/s", flush=True)
    figures = []
    for name in arguments.models:
        figures += measure_model(name, arguments, peak)
        if arguments.device == "cuda":
            torch.cuda.empty_cache()
    return figures


def measure_model(name: str, arguments: argparse.Namespace, peak: float) -> list[Figure]:
    """All stages of a model over the batch sizes; prints them, returns the best of each."""
    sam = random_sam(name, arguments.device, "bfloat16")
    image = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    mask = np.zeros(SIZE, np.bool_)
    mask[200:500, 300:700] = True
    fitted = fp.PerSAMF(sam, presence_threshold=0).fit(fp.Reference(image, mask=mask))
    photo = sam.load_and_resize(image)
    best: dict[str, Stage] = {}
    for batch in arguments.batches:
        try:
            stages = _stages(sam, fitted, [photo] * batch, arguments.repeats)
        except torch.cuda.OutOfMemoryError:
            print(f"{name}: a batch of {batch} does not fit into memory")
            break
        for stage, found in stages.items():
            print(f"{name:8} {stage:12} batch {batch:3} {_words(found, peak)}", flush=True)
            if stage not in best or found.rate > best[stage].rate:
                best[stage] = found
    return [
        Figure(
            f"{name} {stage}",
            found.rate,
            "photos/s",
            BARS.get(name) if stage == "end to end" and arguments.device == "cuda" else None,
            False,
            f"at batch {found.batch}: {_words(found, peak)}; peak {readable(peak / 1e12)} TFLOP/s",
        )
        for stage, found in best.items()
    ]


def _stages(
    sam: fp.PromptableSam, fitted: fp.PerSAMF, photos: list[Any], repeats: int
) -> dict[str, Stage]:
    resized = [photo for photo, _ in photos]
    sizes = [size for _, size in photos]
    embeddings = sam.encode_resized(resized, sizes)

    @torch.inference_mode()
    def decode() -> None:
        batch, _ = fitted.locate(embeddings)
        run_cascade(sam, batch, fitted.state.weights)

    parts: dict[str, Callable[[], Any]] = {
        "encode": lambda: sam.encode_resized(resized, sizes),
        "three passes": decode,
        "end to end": lambda: fitted.predict_embeddings(sam.encode_resized(resized, sizes)),
    }
    found = {}
    for name, part in parts.items():
        with FlopCounterMode(display=False) as counter:
            part()
        seconds = _seconds(part, sam.device.type, repeats)
        found[name] = Stage(len(photos), seconds, float(counter.get_total_flops()))
    return found


def matrix_peak(device: str, repeats: int) -> float:
    """Operations per second of the fastest bfloat16 matrix product."""
    side = MATRIX.get(device, 4096)
    best = 0.0
    for size in (side // 2, side):
        a = torch.randn(size, size, device=device, dtype=torch.bfloat16)
        b = torch.randn(size, size, device=device, dtype=torch.bfloat16)
        pair = (a, b)
        seconds = _seconds(lambda pair=pair: pair[0] @ pair[1], device, 3 * repeats)  # type: ignore[misc]
        best = max(best, 2 * size**3 / seconds)
    return best


def _seconds(part: Callable[[], Any], device: str, repeats: int) -> float:
    """Fastest of several turns, each long enough for the clock."""
    part()
    _wait(device)
    fastest = float("inf")
    for _ in range(repeats):
        started = time.perf_counter()
        turns = 0
        while turns == 0 or (turns < 3 and device == "cuda"):
            part()
            turns += 1
        _wait(device)
        fastest = min(fastest, (time.perf_counter() - started) / turns)
    return fastest


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def _words(stage: Stage, peak: float) -> str:
    share = stage.operations / stage.seconds / peak
    return f"{readable(stage.rate)} photos/s, {100 * share:.1f} % of the matrix peak"


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=0, repeats=3)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["vit_b", "vit_h"])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8, 16, 32])
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
