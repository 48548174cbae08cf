"""How accuracy moves with the choice of the reference, and what a suggestion is worth.

    python -m benchmarks.reference_choice ../shared/data/perseg_dev --model sam_lite

Each photo of an object is the reference in turn, and the object's other photos are measured by
PerSAM. Printed per object are the mean IoU with the first photo as reference, with the photo that
is suggested (by whole photos; by masks), with the worst and with the best one; the rank correlation
(Spearman) of how typical a photo is with how well it serves; and the regret, what the suggested one
is behind the best.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import read_album
from fiftyone_persam.personalize.suggestion import rank_references


def main(given: list[str] | None = None) -> None:
    arguments = album_parser(__doc__).parse_args(given)
    sam = load_model(arguments.model)
    names = ("first", "by photos", "by masks", "worst", "best")
    names += ("rho photos", "rho masks", "regret ph.", "regret ma.")
    print(f"{'object':16}" + "".join(f"{name:>11}" for name in names))
    rows = []
    for photos in read_album(arguments.album):
        embeddings = [sam.encode([photo.image])[0] for photo in photos]
        accuracy = []
        for k, (photo, embedding) in enumerate(zip(photos, embeddings, strict=True)):
            fitted = fp.PerSAM(sam, presence_threshold=0).fit(
                fp.Reference(photo.image, mask=photo.mask), [embedding]
            )
            others = [i for i in range(len(photos)) if i != k]
            found = fitted.predict_embeddings([embeddings[i] for i in others])
            ious = [fp.iou(p.mask, photos[i].mask) for i, p in zip(others, found, strict=True)]
            accuracy.append(float(np.mean(ious)))
        whole = rank_references(sam, embeddings)
        masked = rank_references(sam, embeddings, [photo.mask for photo in photos])
        chosen = [accuracy[int(scores.argmax())] for scores in (whole, masked)]
        rows.append(
            (
                accuracy[0],
                *chosen,
                min(accuracy),
                max(accuracy),
                *(float(spearmanr(scores, accuracy).statistic) for scores in (whole, masked)),
                *(max(accuracy) - one for one in chosen),
            )
        )
        print(f"{photos[0].object:16}" + "".join(f"{a:11.3f}" for a in rows[-1]), flush=True)
    print(f"{'mean':16}" + "".join(f"{a:11.3f}" for a in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
