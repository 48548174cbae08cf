"""How well presence tells photos that show the object from photos that do not.

    python -m benchmarks.presence ../shared/data/perseg_dev --model sam_lite

Each object's first photo is the reference; every other photo of the album is asked for the object.
For each threshold: the share of photos with the object that would count as absent, and the share of
photos without it that would be found out.
"""

from __future__ import annotations

import numpy as np

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import read_album

THRESHOLDS = (0.1, 0.3, 0.5, 0.6, 0.65, 0.7, 0.75, 0.8)


def main() -> None:
    arguments = album_parser(__doc__).parse_args()
    sam = load_model(arguments.model)
    objects = list(read_album(arguments.album, None))
    photos = [(p.object, sam.encode([p.image])[0]) for photos in objects for p in photos[1:]]
    present, absent = [], []
    for reference, *_ in objects:
        method = fp.PerSAM(sam, presence_threshold=0).fit(
            fp.Reference(reference.image, mask=reference.mask)
        )
        for name, embedding in photos:
            found = method.predict_embeddings([embedding])[0].presence
            (present if name == reference.object else absent).append(found)
    print(f"{len(present)} photos with the object, {len(absent)} without")
    print("threshold   with, counted as absent   without, found out")
    for threshold in THRESHOLDS:
        lost, found_out = (np.mean(np.array(p) < threshold) for p in (present, absent))
        print(f"{threshold:9.2f}   {lost:23.1%}   {found_out:18.1%}")
    print(f"lowest with the object: {min(present):.2f}")


if __name__ == "__main__":
    main()
