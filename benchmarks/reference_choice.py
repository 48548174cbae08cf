"""How accuracy moves with the choice of the reference, and what a suggestion is worth.

    python -m benchmarks.reference_choice ../shared/data/perseg_dev --model sam_lite

Each photo of an object is the reference in turn, and the object's other photos are measured by
PerSAM. Printed per object are the mean IoU with the first photo as reference, with the worst and
with the best one, over all photos, and with the photo that each criterion suggests: before any
label, and by the masks that a run with the first photo has found. Below stand the means over
objects, how each criterion's order agrees with the true one (Spearman's rank correlation), and the
regret: what the suggested photo is behind the best. Last is how often what the photos have in
common, by which they are compared before any label, is the object (IoU above 0.5, cell by cell).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.albums import Encoded, chosen_album, encode_album
from fiftyone_persam.personalize.common_object import common_object
from fiftyone_persam.personalize.prior import aligned_foreground
from fiftyone_persam.personalize.registries import CRITERIA
from fiftyone_persam.personalize.suggestion import rank_references

Mask = npt.NDArray[np.bool_]
FOUND = 0.5


def served(sam: fp.PromptableSam, photos: Sequence[Encoded]) -> tuple[list[float], list[Mask]]:
    """Mean IoU of the others with each photo as reference, and what the first one's run masks."""
    accuracy, first = [], []
    for reference, embedding in photos:
        fitted = fp.PerSAM(sam, presence_threshold=0).fit(
            fp.Reference(reference.image, mask=reference.mask), [embedding]
        )
        others = [(photo, at) for photo, at in photos if photo is not reference]
        found = [one.mask for one in fitted.predict_embeddings([at for _, at in others])]
        first = first or [reference.mask, *found]
        ious = [fp.iou(m, photo.mask) for m, (photo, _) in zip(found, others, strict=True)]
        accuracy.append(float(np.mean(ious)))
    return accuracy, first


def main(given: list[str] | None = None) -> None:
    arguments = album_parser(__doc__, optional=True).parse_args(given)
    sam = load_model(arguments.model)
    with chosen_album(arguments.album) as folder:
        album = encode_album(sam, folder)
    chosen = [f"{by}, {what}" for what in ("no label", "masks") for by in CRITERIA]
    names = ("first", "worst", "mean", "best", *chosen)
    print(f"{'object':16}" + "".join(f"{name:>{_width(name)}}" for name in names))
    rows, agreements, regrets, common = [], [], [], []
    for photos in album:
        embeddings = [embedding for _, embedding in photos]
        accuracy, masks = served(sam, photos)
        ranks = [
            rank_references(sam, embeddings, shown, by)
            for shown in (None, masks)
            for by in CRITERIA
        ]
        suggested = [accuracy[int(scores.argmax())] for scores in ranks]
        row = [accuracy[0], min(accuracy), float(np.mean(accuracy)), max(accuracy), *suggested]
        rows.append(row)
        agreements.append([float(spearmanr(scores, accuracy).statistic) for scores in ranks])
        regrets.append([max(accuracy) - one for one in suggested])
        for (photo, at), cells in zip(photos, common_object(sam, embeddings), strict=True):
            truth = aligned_foreground(sam, photo.mask, at)
            common.append(fp.iou(cells.cpu().numpy(), truth.cpu().numpy()) > FOUND)
        print(_line(photos[0][0].object, names, row), flush=True)
    print(_line("mean", names, np.mean(rows, axis=0)))
    blank = [None] * (len(names) - len(chosen))
    print(_line("rank correlation", names, [*blank, *np.mean(agreements, axis=0)]))
    print(_line("regret", names, [*blank, *np.mean(regrets, axis=0)]))
    print(f"the object is what photos have in common in {sum(common)} of {len(common)} photos")


def _line(title: str, names: Sequence[str], values: Sequence[float | None]) -> str:
    cells = ("" if value is None else f"{value:.3f}" for value in values)
    return f"{title:16}" + "".join(f"{c:>{_width(n)}}" for c, n in zip(cells, names, strict=True))


def _width(name: str) -> int:
    return max(8, len(name) + 2)


if __name__ == "__main__":
    main()
