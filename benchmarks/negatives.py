"""What negative references are worth: masks that a review has rejected teach the next run.

    python -m benchmarks.negatives ../shared/data/perseg_dev --model sam_lite
    python -m benchmarks.negatives                                  # the demo's own album

Each object's first photo is the reference, and PerSAM looks for it in every photo of the album.
What it masks in photos without it is rejected, and of each other object one of these masks,
the surest, is a negative reference. Printed are, without and with them, the mean IoU over the
object's other photos, how many of those keep their mask, and how many of the photos of other
objects that were not rejected keep a wrong one. Besides, the same where the object's own mask in
its second photo was rejected too, as one that is badly cut, and the others were accepted: all of
it learnt from, and without what `is_badly_cut` leaves out, as `segment` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import Photo
from benchmarks.company import photos_of
from benchmarks.composed import also_in
from fiftyone_persam.curation.segmentation.rejected import is_badly_cut

Photos = Sequence[tuple[Photo, Any]]


def figures(method: Any, own: Photos, others: Photos) -> tuple[float, float, float]:
    """Mean IoU and share of masks in photos of the object, and share of wrong ones in others."""
    found = method.predict_embeddings([e for _, e in own])
    ious = [fp.iou(p.mask, photo.mask) for p, (photo, _) in zip(found, own, strict=True)]
    wrong = method.predict_embeddings([e for _, e in others]) if others else []
    return (
        float(np.mean(ious)),
        float(np.mean([p.mask.any() for p in found])),
        float(np.sum([p.mask.any() for p in wrong])),
    )


def rejected(method: Any, others: Photos) -> dict[str, tuple[float, int, Any]]:
    """Of each other object the surest wrong mask: presence, number of the photo, prediction."""
    surest: dict[str, tuple[float, int, Any]] = {}
    found = method.predict_embeddings([e for _, e in others])
    for number, (p, (photo, _)) in enumerate(zip(found, others, strict=True)):
        best = surest.get(photo.object)
        if p.mask.any() and (best is None or p.presence > best[0]):
            surest[photo.object] = (p.presence, number, p)
    return surest


def main(given: list[str] | None = None) -> None:
    arguments = album_parser(__doc__, optional=True).parse_args(given)
    sam = load_model(arguments.model)
    groups = [[(p, sam.encode([p.image])[0]) for p in g] for g in photos_of(arguments.album)]
    head = ("IoU", "kept", "wrong", "IoU neg", "kept neg", "wrong neg", "IoU bad", "guarded")
    print(f"{'object':16}" + "".join(f"{name:>11}" for name in head))
    rows = []
    for number, ((reference, embedding), *own) in enumerate(groups):
        others = [
            (photo, at)
            for k, group in enumerate(groups)
            for photo, at in (group if k != number else ())
            if reference.object not in also_in(photo)
        ]
        shown = fp.Reference(reference.image, mask=reference.mask)
        plain = fp.PerSAM(sam).fit(shown, [embedding])
        wrong = rejected(plain, others)
        negatives = [
            fp.Reference(others[k][0].image, mask=found.mask) for _, k, found in wrong.values()
        ]
        used = {k for _, k, _ in wrong.values()}
        left = [one for k, one in enumerate(others) if k not in used]
        row = list(figures(plain, own, left))
        learnt = fp.PerSAM(sam).fit(shown, [embedding], negatives=negatives)
        row += figures(learnt, own, left)
        found = plain.predict_embeddings([e for _, e in own])
        badly = fp.Reference(own[0][0].image, mask=found[0].candidate)
        mistaken = fp.PerSAM(sam).fit(shown, [embedding], negatives=[*negatives, badly])
        row.append(figures(mistaken, own, [])[0])
        accepted = min(p.presence for p in found[1:])
        presences = [p for p, _, _ in wrong.values()]
        good = [
            one
            for one, p in zip([*negatives, badly], [*presences, found[0].presence], strict=True)
            if not is_badly_cut(p, accepted)
        ]
        guarded = fp.PerSAM(sam).fit(shown, [embedding], negatives=good)
        row.append(figures(guarded, own, [])[0])
        rows.append(row)
        print(f"{reference.object:16}" + "".join(f"{value:11.3f}" for value in row), flush=True)
    mean = np.mean(rows, axis=0)
    print(f"{'mean':16}" + "".join(f"{value:11.3f}" for value in mean))


if __name__ == "__main__":
    main()
