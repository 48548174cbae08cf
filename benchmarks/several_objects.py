"""Several objects in one run, against a run for each object.

    python -m benchmarks.several_objects ../shared/data/perseg_dev --model sam_lite
    python -m benchmarks.several_objects                            # the demo's own album

The first photo of each object is its reference, and PerSAM looks for all objects in all other
photos. Printed per object are the mean IoU, how many photos keep its mask, and how many masks of
objects that are not there are in its photos (some of the demo's show another one, too); with a run
for each object, and with one run in which they compete. Below, the seconds that decoding takes for
all objects.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import Photo
from benchmarks.company import photos_of
from benchmarks.composed import also_in
from fiftyone_persam.personalize.several import SeveralObjects


def row_of(found: list[dict[str, Any]], photos: list[Photo]) -> list[float]:
    """Mean IoU, photos with the mask, and masks of objects that are not there."""
    name = photos[0].object
    own = [one[name] for one in found]
    others = [
        p.mask.any()
        for one, photo in zip(found, photos, strict=True)
        for k, p in one.items()
        if k != name and k not in also_in(photo)
    ]
    return [
        float(np.mean([fp.iou(p.mask, o.mask) for p, o in zip(own, photos, strict=True)])),
        float(np.mean([p.mask.any() for p in own])),
        float(np.sum(others)),
    ]


def main(given: list[str] | None = None) -> None:
    arguments = album_parser(__doc__, optional=True).parse_args(given)
    sam = load_model(arguments.model)
    groups = photos_of(arguments.album)
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
        rows.append(row_of(each, photos[1:]) + row_of(together, photos[1:]))
        print(
            f"{photos[0].object:16}" + "".join(f"{value:11.3f}" for value in rows[-1]), flush=True
        )
    print(f"{'mean':16}" + "".join(f"{value:11.3f}" for value in np.mean(rows, axis=0)))
    print(f"decoding all photos: {seconds[0]:.1f} s alone, {seconds[1]:.1f} s in one run")


if __name__ == "__main__":
    main()
