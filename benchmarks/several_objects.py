"""Several objects in one run, against a run for each object.

    python -m benchmarks.several_objects ../shared/data/perseg_dev --model sam_lite

The first photo of each object is its reference, and PerSAM looks for all objects in all other
photos, of which each shows one of them. Printed per object are the mean IoU, how many photos keep
its mask, and how many masks of other objects are in its photos; with a run for each object, and
with one run in which they compete. Below, the seconds that decoding takes for all objects.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import read_album
from fiftyone_persam.personalize.several import SeveralObjects


def row_of(found: list[dict[str, Any]], name: str, truths: list[Any]) -> list[float]:
    """Mean IoU, photos with the mask, and masks of other objects."""
    own = [one[name] for one in found]
    others = [p.mask.any() for one in found for k, p in one.items() if k != name]
    return [
        float(np.mean([fp.iou(p.mask, truth) for p, truth in zip(own, truths, strict=True)])),
        float(np.mean([p.mask.any() for p in own])),
        float(np.sum(others)),
    ]


def main(given: list[str] | None = None) -> None:
    arguments = album_parser(__doc__).parse_args(given)
    sam = load_model(arguments.model)
    groups = list(read_album(arguments.album))
    fitted = {
        photos[0].object: fp.PerSAM(sam).fit(fp.Reference(photos[0].image, mask=photos[0].mask))
        for photos in groups
    }
    several = SeveralObjects(fitted)
    head = ("IoU alone", "kept", "wrong", "IoU all", "kept", "wrong")
    print(f"{'object':16}" + "".join(f"{name:>11}" for name in head))
    rows, seconds = [], [0.0, 0.0]
    for photos in groups:
        each: list[dict[str, Any]] = []
        together: list[dict[str, Any]] = []
        for photo in photos[1:]:
            embeddings = sam.encode([photo.image])
            started = time.perf_counter()
            each.append({k: one.predict_embeddings(embeddings)[0] for k, one in fitted.items()})
            between = time.perf_counter()
            together.append(dict(several.predict_embeddings(embeddings)[0].objects))
            seconds[0] += between - started
            seconds[1] += time.perf_counter() - between
        name, truths = photos[0].object, [photo.mask for photo in photos[1:]]
        rows.append(row_of(each, name, truths) + row_of(together, name, truths))
        print(f"{name:16}" + "".join(f"{value:11.3f}" for value in rows[-1]), flush=True)
    print(f"{'mean':16}" + "".join(f"{value:11.3f}" for value in np.mean(rows, axis=0)))
    print(f"decoding all photos: {seconds[0]:.1f} s alone, {seconds[1]:.1f} s in one run")


if __name__ == "__main__":
    main()
