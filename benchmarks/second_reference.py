"""A run with a second reference over photos that a first run has encoded.

    python -m benchmarks.second_reference --model vit_b --photos 6

Both runs are whole jobs with an embedding cache on disk: the first finds it empty.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import fiftyone_persam as fp
from benchmarks.measuring import Figure, parser_of, readable, run, spread
from benchmarks.models import MODELS, random_sam
from benchmarks.photos import LABELS, dataset_of, take_photos
from fiftyone_persam.engine import DiskCache

BAR = 1 / 20


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    sam = random_sam(arguments.model, arguments.device)
    photos = take_photos(arguments.album, arguments.photos, scratch)
    again = min(arguments.repeats, len(photos.files) - 1)
    seconds: list[float] = []
    with dataset_of(photos, labelled=again + 1) as dataset:
        ids = dataset.values("id")
        _segment(sam, dataset.limit(1), ids[0], "warm", DiskCache(scratch / "other"), scratch)
        cache = DiskCache(scratch / "embeddings")
        for number in range(again + 1):
            started = time.perf_counter()
            _segment(sam, dataset, ids[number], f"run_{number}", cache, scratch)
            seconds.append(time.perf_counter() - started)
    first, second = seconds[0], seconds[1:]
    return [
        Figure(
            f"second reference / first, {arguments.model}",
            statistics.median(second) / first,
            "x",
            BAR if arguments.model == "vit_b" else None,
            True,
            f"first run {readable(first)} s, further ones {spread(second)}; "
            f"{len(ids)} photos, embeddings on disk",
        )
    ]


def _segment(
    sam: fp.PromptableSam, samples: Any, reference: str, name: str, cache: DiskCache, scratch: Path
) -> None:
    fp.segment(
        samples,
        reference,
        LABELS,
        model=sam,
        out_field=name,
        masks_dir=scratch / f"masks-{name}",
        presence_threshold=0,
        cache=cache,
        progress=False,
    )


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=6, repeats=3)
    parser.add_argument("--model", choices=MODELS, default="vit_b")
    parser.add_argument("--device", default="auto")
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
