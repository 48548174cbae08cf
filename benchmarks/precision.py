"""Masks in bfloat16 against masks in float32: IoU photo by photo.

    python -m benchmarks.precision --album ../shared/data/perseg_dev

Each object is learnt from its first photo and segmented in the others, once in either precision.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import fiftyone_persam as fp
from benchmarks.album import read_album
from benchmarks.measuring import Figure, parser_of, run
from benchmarks.models import MODELS, random_sam
from fiftyone_persam.datasets import build_album
from fiftyone_persam.personalize import METHODS as REGISTRY

BAR = 0.995
METHODS = {REGISTRY[name].title: REGISTRY[name] for name in ("persam", "persam_f")}


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    album = arguments.album or build_album(scratch / "album")
    models = {
        dtype: random_sam(arguments.model, arguments.device, dtype)
        for dtype in ("float32", "bfloat16")
    }
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    taken = 0
    for photos in read_album(album):
        if taken >= arguments.photos:
            break
        targets = photos[1 : 1 + arguments.photos - taken]
        taken += len(targets)
        reference = fp.Reference(photos[0].image, mask=photos[0].mask)
        images = [photo.image for photo in [photos[0], *targets]]
        embeddings = {dtype: sam.encode(images, 1) for dtype, sam in models.items()}
        for name, method in METHODS.items():
            masks = []
            for dtype, sam in models.items():
                fitted = method(sam, presence_threshold=0).fit(reference, embeddings[dtype][:1])
                predictions = fitted.predict_embeddings(embeddings[dtype][1:])
                masks.append([prediction.mask for prediction in predictions])
            found[name] += [fp.iou(a, b) for a, b in zip(*masks, strict=True)]
    return [
        Figure(
            f"mask IoU of bfloat16 and float32, {arguments.model}, {name}",
            float(np.mean(values)),
            "",
            BAR,
            False,
            f"mean over {len(values)} photos; median {np.median(values):.4f}, "
            f"lowest {min(values):.4f}, {sum(value < BAR for value in values)} below {BAR}",
        )
        for name, values in found.items()
    ]


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=100, repeats=1)
    parser.add_argument("--model", choices=MODELS, default="sam_lite")
    parser.add_argument("--device", default="auto")
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
