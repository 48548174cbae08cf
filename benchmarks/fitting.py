"""PerSAM-F's fit against the loop it replaces: a decoder pass for each of 1000 optimiser steps.

    python -m benchmarks.fitting --model sam_lite

Both start from the encoded reference and tune at its full size (``mode="reference"``), and have to
arrive at the same two weights.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from segment_anything import SamPredictor
from torch import Tensor

import fiftyone_persam as fp
from benchmarks import released
from benchmarks.measuring import Figure, parser_of, readable, run, spread
from benchmarks.models import MODELS, random_sam
from benchmarks.photos import take_photos
from fiftyone_persam.sam.model import ImageEmbedding

BAR = 100.0
BAR_WEIGHTS = 1e-3


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    sam = random_sam(arguments.model, arguments.device)
    photos = take_photos(arguments.album, 1, scratch)
    reference = fp.Reference(str(photos.files[0]), mask=photos.masks[0])
    embedding = sam.encode([photos.files[0]])[0]
    method = fp.PerSAMF(sam, mode="reference", steps=arguments.steps)
    method.fit(reference, [embedding])  # warms up
    seconds = []
    for _ in range(arguments.repeats):
        started = time.perf_counter()
        method.fit(reference, [embedding])
        seconds.append(time.perf_counter() - started)
    started = time.perf_counter()
    weights = plain_loop(sam, reference, embedding, method, arguments.steps)
    loop = time.perf_counter() - started
    difference = np.abs(weights - np.array(method.tuning.weights)).max()
    height, width = reference.size
    return [
        Figure(
            f"{arguments.steps}-pass loop / PerSAM-F fit, {arguments.model}",
            loop / statistics.median(seconds),
            "x",
            BAR,
            False,
            f"loop {readable(loop)} s, fit {spread(seconds)}; "
            f"reference of {width} x {height}, encoded before",
        ),
        Figure(
            "weights of loop and fit, largest difference",
            float(difference),
            "",
            BAR_WEIGHTS,
            True,
            f"loop {weights.round(5).tolist()}, fit {np.round(method.tuning.weights, 5).tolist()}",
        ),
    ]


def plain_loop(
    sam: fp.PromptableSam,
    reference: fp.Reference,
    embedding: ImageEmbedding,
    fitted: fp.PerSAMF,
    steps: int,
) -> np.ndarray:
    """The released tuning with the decoder inside the loop -> (3,) weights of the scales."""
    predictor = SamPredictor(sam.sam)
    predictor.features = embedding.features[None]
    predictor.original_size = embedding.original_size
    predictor.input_size = embedding.input_size
    predictor.is_image_set = True
    prior, _ = fitted.trace(embedding)
    point = prior.points[0]
    assert reference.mask is not None
    truth = torch.as_tensor(reference.mask, device=sam.device).flatten().float()

    def decode() -> Tensor:
        with torch.no_grad():
            _, _, low = predictor.predict(point, np.array([1]), multimask_output=True)
            maps = torch.as_tensor(low, device=sam.device)[None]
            sizes = (embedding.input_size, embedding.original_size)
            return predictor.model.postprocess_masks(maps, *sizes)[0].flatten(1).clone()

    weights, _ = released.tune(torch.empty(0), truth, steps, decode)
    tuned: np.ndarray = weights[:, 0].cpu().numpy()
    return tuned


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=1, repeats=7)
    parser.add_argument("--model", choices=MODELS, default="sam_lite")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--steps", type=int, default=1000)
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
