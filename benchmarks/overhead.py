"""Whole job over the model's own compute.

    python -m benchmarks.overhead --model sam_lite --photos 48

The job is `segment` on a dataset: read and resize the photos, learn the object, encode, decode,
write masks, write the database. The compute is learning, encoding and the decoder's passes alone
over the same photos in memory, one batch after the other on all cores. Both take turns. A ratio
below 1 means that the job keeps the cores busier than that.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import fiftyone_persam as fp
from benchmarks.measuring import Figure, alternate, median_ratio, parser_of, run, spread
from benchmarks.models import MODELS, random_sam
from benchmarks.photos import LABELS, Photos, dataset_of, take_photos
from fiftyone_persam.engine.memory import BATCH
from fiftyone_persam.engine.stages import ENCODE_ALONE
from fiftyone_persam.personalize.cascade import run_cascade

BARS = {"sam_lite": 1.15, "vit_b": 1.03}


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    sam = random_sam(arguments.model, arguments.device)
    photos = take_photos(arguments.album, arguments.photos, scratch)
    reference = fp.Reference(str(photos.files[0]), mask=photos.masks[0])
    loaded = [sam.load_and_resize(file) for file in photos.files]
    batch_size = BATCH.get(sam.device.type, 4)
    with dataset_of(photos) as dataset:
        segment(sam, dataset, 1, scratch)  # warms up
        parts = {
            "job": lambda: segment(sam, dataset, None, scratch),
            "compute": lambda: compute(sam, reference, loaded, batch_size),
        }
        seconds = alternate(parts, arguments.repeats, arguments.clock)
    return [
        Figure(
            f"whole job / compute, {arguments.model}",
            median_ratio(seconds["job"], seconds["compute"]),
            "x",
            BARS.get(arguments.model),
            True,
            f"job {spread(seconds['job'])}, compute {spread(seconds['compute'])}; "
            f"{len(loaded)} photos of {sizes(photos)}",
        )
    ]


def segment(sam: fp.PromptableSam, dataset: Any, count: int | None, scratch: Path) -> None:
    """The whole job, as a new run."""
    name = f"run_{len(dataset.list_runs())}"
    view = dataset if count is None else dataset.limit(count)
    fp.segment(
        view,
        dataset.first().id,
        LABELS,
        model=sam,
        out_field=name,
        masks_dir=scratch / f"masks-{name}",
        presence_threshold=0,
        progress=False,
    )


@torch.inference_mode()
def compute(
    sam: fp.PromptableSam, reference: fp.Reference, loaded: list[Any], batch_size: int
) -> None:
    """Fit, encode and decode from memory; the masks stay as the decoder made them."""
    own, _ = sam.load_and_resize(np.asarray(reference.photo))
    embedding = sam.encode_resized([own], [reference.size])
    fitted = fp.PerSAMF(sam, presence_threshold=0).fit(reference, embedding)
    for start in range(0, len(loaded), batch_size):
        chunk = loaded[start : start + batch_size]
        embeddings = []
        for few in [[one] for one in chunk] if sam.device.type in ENCODE_ALONE else [chunk]:
            embeddings += sam.encode_resized([photo for photo, _ in few], [size for _, size in few])
        batch, _ = fitted.locate(embeddings)
        run_cascade(sam, batch, fitted.state.weights)
    if sam.device.type == "cuda":
        torch.cuda.synchronize()


def sizes(photos: Photos) -> str:
    """The smallest and the largest size of some photos, in words."""
    shapes = sorted({mask.shape for mask in photos.masks}, key=np.prod)
    named = [f"{width} x {height}" for height, width in (shapes[0], shapes[-1])]
    return " to ".join(dict.fromkeys(named))


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=48, repeats=3)
    parser.add_argument("--model", choices=MODELS, default="sam_lite")
    parser.add_argument("--device", default="auto")
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
