"""What a second and a third reference of one object are worth, and how they are best put together.

    python -m benchmarks.several_references ../shared/data/perseg_dev --model sam_lite
    python -m benchmarks.several_references                         # the demo's own album

The first one, two and three photos of each object are its references; its others are measured, the
same ones for all numbers of references; one photo at least is left to be measured. Printed is
PerSAM's mean IoU over objects.
"""

from __future__ import annotations

import numpy as np

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.company import photos_of

MOST = 3
KINDS = ("max", "mean", "agreement", "parts")


def main(given: list[str] | None = None) -> None:
    arguments = album_parser(__doc__, optional=True).parse_args(given)
    sam = load_model(arguments.model)
    rows: dict[tuple[int, str], list[float]] = {}
    objects = 0
    for photos in photos_of(arguments.album):
        most = min(MOST, len(photos) - 1)
        embeddings = [sam.encode([photo.image])[0] for photo in photos]
        others = range(most, len(photos))
        objects += 1
        for count in range(1, MOST + 1):
            shown = [fp.Reference(p.image, mask=p.mask) for p in photos[: min(count, most)]]
            for kind in KINDS:
                method = fp.PerSAM(sam, several_references=kind, presence_threshold=0)
                fitted = method.fit(shown, embeddings[: len(shown)])
                found = fitted.predict_embeddings([embeddings[k] for k in others])
                ious = [fp.iou(p.mask, photos[k].mask) for k, p in zip(others, found, strict=True)]
                rows.setdefault((count, kind), []).append(float(np.mean(ious)))
    print(f"{objects} objects\n{'references':12}" + "".join(f"{kind:>11}" for kind in KINDS))
    for count in range(1, MOST + 1):
        cells = "".join(f"{np.mean(rows[count, kind]):11.3f}" for kind in KINDS)
        print(f"{count:<12}{cells}", flush=True)


if __name__ == "__main__":
    main()
