"""Photos per second on the GPU, by stage and batch size, and the share of the machine's own peak.

    python -m benchmarks.gpu --models vit_b vit_h sam_lite --batches 1 4 8 16 32

The peak is the fastest product of two matrices in half precision, measured here in the same run. A
stage's share is what its multiplications and additions, counted by torch on the released encoder,
take of that peak. "end to end" goes from resized photos in main memory to masks there; "job" from
photo files to mask files, with what the device computes of it and how long the host waits for
photos and writers. Without CUDA there is nothing to measure; ``--device cpu --models tiny`` only
tries the benchmark out.
"""

from __future__ import annotations

import argparse
import os
import shutil
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
from benchmarks.photos import Photos, take_photos
from fiftyone_persam.engine import DevicesBackend, Job, LocalBackend, OutputSettings, PhotoTask
from fiftyone_persam.personalize.cascade import run_cascade

BARS = {"vit_b": 400.0, "vit_h": 80.0, "sam_lite": 800.0}
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
            Figure(
                f"{name} job, files to files",
                None,
                "photos/s",
                BARS.get(name),
                False,
                "no CUDA here",
            )
            for name in arguments.models
        ]
    peak = matrix_peak(arguments.device, arguments.repeats)
    print(f"matrix peak in half precision: {readable(peak / 1e12)} TFLOP/s", flush=True)
    figures = []
    for name in arguments.models:
        for dtype in arguments.dtypes:
            sam = random_sam(name, arguments.device, dtype)
            sam = sam.with_speed(**dict.fromkeys(arguments.without, False))
            if arguments.compile:
                sam = sam.with_speed(compile=True)
            if arguments.batches:
                figures += measure_model(name, sam, arguments, peak)
            if arguments.photos:
                figures.append(measure_job(name, sam, arguments, scratch))
            del sam
            if arguments.device == "cuda":
                torch.cuda.empty_cache()
    return figures


def measure_job(
    name: str, sam: fp.PromptableSam, arguments: argparse.Namespace, scratch: Path
) -> Figure:
    """A whole job, photo files to mask files: the best of some turns, after one to warm up."""
    photos = take_photos(arguments.album, arguments.photos, scratch)
    shape = read_mask_size(photos)
    fitted = fp.PerSAMF(sam, presence_threshold=0).fit(
        fp.Reference(str(photos.files[0]), mask=photos.masks[0])
    )
    best: Job | None = None
    seconds = first = float("inf")
    for turn in range(arguments.repeats + 1):
        job = Job(
            tasks=[PhotoTask(f"photo{n}", str(file)) for n, file in enumerate(photos.files)],
            sam=sam,
            predictors={"": fitted},
            output=OutputSettings(masks_dir=scratch / f"masks{turn}", storage="file"),
            batch_size=arguments.job_batch,
            workers=arguments.workers,
        )
        backend = LocalBackend()
        if arguments.processes > 1:
            backend = DevicesBackend([arguments.device] * arguments.processes)  # type: ignore[assignment]
        started = time.perf_counter()
        results = [result for chunk in backend.run(job) for result in chunk]
        taken = time.perf_counter() - started
        failed = [result.error for result in results if result.error is not None]
        if failed or len(results) != len(photos.files):
            raise RuntimeError(f"{len(failed)} photos failed: {failed[:1]}")
        shutil.rmtree(scratch / f"masks{turn}", ignore_errors=True)
        if turn == 0:
            first = taken
        elif taken < seconds:
            seconds, best = taken, job
    shutil.rmtree(photos.files[0].parent)
    assert best is not None
    shares = ", ".join(
        f"{stage.replace('_', ' ')} {100 * value / seconds:.0f} %"
        for stage, value in best.timings.to_dict().items()
        if stage not in ("photos_encoded", "compiling")
    )
    dtype = str(sam.dtype).removeprefix("torch.")
    rate = len(photos.files) / seconds
    print(f"{name:8} {dtype:9} job {readable(rate)} photos/s: {shares}", flush=True)
    return Figure(
        f"{name} {dtype} job, files to files",
        rate,
        "photos/s",
        BARS.get(name) if arguments.device == "cuda" else None,
        False,
        f"{len(photos.files)} photos of {shape}, {os.cpu_count()} cores; {shares}; the first turn "
        f"took {readable(first)} s, {readable(sam.execution.compiling)} s of it to compile, the "
        f"best one {readable(seconds)} s",
    )


def read_mask_size(photos: Photos) -> str:
    """The size of the first photo, in words."""
    height, width = photos.masks[0].shape
    return f"{width} x {height} and the like"


def measure_model(
    name: str, sam: fp.PromptableSam, arguments: argparse.Namespace, peak: float
) -> list[Figure]:
    """All stages of a model over the batch sizes; prints them, returns the best of each."""
    dtype = str(sam.dtype).removeprefix("torch.")
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
            print(
                f"{name:8} {dtype:9} {stage:12} batch {batch:3} {_words(found, peak)}", flush=True
            )
            if stage not in best or found.rate > best[stage].rate:
                best[stage] = found
    return [
        Figure(
            f"{name} {dtype} {stage}",
            found.rate,
            "photos/s",
            None,
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

    parts: dict[str, Callable[[], Any]] = {
        "encode": lambda: sam.encode_resized(resized, sizes),
        "three passes": lambda: fitted.predict_embeddings(embeddings),
        "end to end": lambda: fitted.predict_embeddings(sam.encode_resized(resized, sizes)),
    }
    found = {}
    plain = sam.with_speed(kernels=False, graphs=False, compile=False)
    counted = {"encode": _operations(lambda: plain.encode_resized(resized[:1], sizes[:1]))}
    counted["three passes"] = _operations(
        lambda: run_cascade(plain, fitted.locate(embeddings[:1])[0], fitted.state.weights)
    )
    counted["end to end"] = counted["encode"] + counted["three passes"]
    for name, part in parts.items():
        seconds = _seconds(part, sam.device.type, repeats)
        found[name] = Stage(len(photos), seconds, len(photos) * counted[name])
    return found


@torch.inference_mode()
def _operations(part: Callable[[], Any]) -> float:
    with FlopCounterMode(display=False) as counter:
        part()
    return float(counter.get_total_flops())


def matrix_peak(device: str, repeats: int) -> float:
    """Operations per second of the fastest product of two matrices in half precision."""
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
    parser = parser_of(__doc__, photos=512, repeats=3)
    parser.add_argument(
        "--models", nargs="+", choices=MODELS, default=["vit_b", "vit_h", "sam_lite"]
    )
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 4, 16, 32])
    parser.add_argument(
        "--dtypes", nargs="+", default=["auto"], help="auto, float16, bfloat16, float32"
    )
    parser.add_argument("--compile", action="store_true", help="compile the image encoder")
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        choices=("kernels", "graphs", "passes", "resize"),
        help="switch these off",
    )
    parser.add_argument("--workers", type=int, help="threads of a job that read, and that write")
    parser.add_argument("--job-batch", type=int, help="photos of a job that are encoded at once")
    parser.add_argument("--processes", type=int, default=1, help="processes of a job")
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
