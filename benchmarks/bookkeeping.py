"""What a job costs per sample beside the model: time, and peak memory, over growing datasets.

    python -m benchmarks.bookkeeping --counts 100 1000 10000

`segment` runs over small photos with a model that answers at once: reading, writing masks and the
database, the run's record, everything but preprocessing, encoding and decoding (the photos have the
model's size, so that there is nothing to resize). Every count has a process of its own, whose
growth from before the jobs to its peak is its memory.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import fiftyone_persam as fp
from benchmarks.measuring import Figure, parser_of, readable, run, spread
from benchmarks.photos import LABELS, Photos, dataset_of
from benchmarks.seeded import small_sam
from fiftyone_persam.engine import Job, LocalBackend, PhotoResult
from fiftyone_persam.personalize import Prediction
from fiftyone_persam.sam.model import ImageEmbedding

SIZE = (48, 64)
BAR_MS = 2.0
BAR_GROWTH = 1.5


@dataclass(frozen=True)
class Instant:
    """Stands for model and method: reads and resizes photos as they do, and answers at once."""

    model: fp.PromptableSam

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def encode_resized(
        self, resized: Sequence[Any], sizes: Sequence[tuple[int, int]]
    ) -> list[ImageEmbedding]:
        """Embeddings of nothing."""
        empty = torch.zeros(1, 1, 1)
        pairs = zip(resized, sizes, strict=True)
        return [
            ImageEmbedding(empty, p.shape[:2], size, self.model.image_size) for p, size in pairs
        ]

    def predict_embeddings(self, embeddings: Sequence[ImageEmbedding]) -> list[Prediction]:
        """The middle of every photo."""
        return [_prediction(embedding.original_size) for embedding in embeddings]


class InstantBackend:
    """The local back end, without the model's work."""

    def run(self, job: Job) -> Iterator[list[PhotoResult]]:
        """See `Backend.run`."""
        instant: Any = Instant(job.sam)
        return LocalBackend().run(
            replace(job, sam=instant, predictors=dict.fromkeys(job.predictors, instant))
        )


def _prediction(size: tuple[int, int]) -> Prediction:
    mask = np.zeros(size, np.bool_)
    mask[size[0] // 4 : -size[0] // 4, size[1] // 4 : -size[1] // 4] = True
    return Prediction(
        mask,
        0.9,
        0.9,
        np.zeros((3, 4), np.float32),
        np.array([[size[1] // 2, size[0] // 2]]),
        np.array([1]),
        None,
        "refinement_2",
        0.9,
        mask,
    )


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    rows = [_in_own_process(count, scratch, arguments.repeats) for count in arguments.counts]
    figures = [
        Figure(
            f"bookkeeping per sample, {count:,} samples",
            row["ms"],
            "ms",
            BAR_MS,
            True,
            f"{spread(row['seconds'])} without learning the object; {count:,} photos of "
            f"{SIZE[1]} x {SIZE[0]}; memory grew by {readable(row['mb'])} MB",
        )
        for count, row in zip(arguments.counts, rows, strict=True)
    ]
    first, last = rows[0], rows[-1]
    figures.append(
        Figure(
            "peak memory, most samples / fewest",
            last["peak_mb"] / first["peak_mb"],
            "x",
            BAR_GROWTH,
            True,
            f"{readable(first['peak_mb'])} MB with {arguments.counts[0]:,} samples, "
            f"{readable(last['peak_mb'])} MB with {arguments.counts[-1]:,}; the whole process",
        )
    )
    return figures


def _in_own_process(count: int, scratch: Path, repeats: int) -> dict[str, Any]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(measure_one, count, scratch / f"bookkeeping-{count}", repeats).result()


def measure_one(count: int, scratch: Path, repeats: int = 1) -> dict[str, Any]:
    """Seconds of each job, the median's milliseconds per sample, and memory."""
    photos = _small_photos(count, scratch)
    sam = fp.load_sam(small_sam(max(SIZE)), device="cpu")
    with dataset_of(photos) as dataset:
        _segment(sam, dataset.limit(8), "warm", scratch)
        before = _peak_mb()
        seconds = []
        for _ in range(repeats):
            started = time.perf_counter()
            done = _segment(sam, dataset, "bench", scratch)
            seconds.append(time.perf_counter() - started - done.timings["fitting"])
            if done.counts["segmented"] != count:
                raise RuntimeError(f"{done.counts} of {count} photos: the figures mean nothing")
            fp.delete_run(dataset, "bench")
        peak = _peak_mb()
    return {
        "seconds": seconds,
        "ms": 1000 * statistics.median(seconds) / count,
        "mb": peak - before,
        "peak_mb": peak,
    }


def _segment(sam: fp.PromptableSam, samples: Any, name: str, scratch: Path) -> Any:
    return fp.segment(
        samples,
        samples.first().id,
        LABELS,
        model=sam,
        out_field=name,
        mask_storage="file",
        masks_dir=scratch / f"masks-{name}",
        presence_threshold=0,
        backend=InstantBackend(),
        progress=False,
    )


def _small_photos(count: int, scratch: Path) -> Photos:
    folder = scratch / "small"
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    original = folder / "original.jpg"
    Image.fromarray(pixels).save(original)
    files = [folder / f"{number:05}.jpg" for number in range(count)]
    for file in files:
        shutil.copyfile(original, file)
    mask = _prediction(SIZE).mask
    return Photos(files, [mask] * count)


def _peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts what its parent had into a new process's ru_maxrss
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=0, repeats=3)
    parser.add_argument("--counts", type=int, nargs="+", default=[100, 1000, 10_000])
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
