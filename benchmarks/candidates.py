"""Where a photo's objects come from: "repeat" and "proposals" on one object, none, and several.

    python -m benchmarks.candidates ../shared/data/perseg_dev
    python -m benchmarks.candidates                                 # the demo's own album

Each object's first photo is the reference. *One*: mIoU as in PerSeg over the object's other photos,
presence threshold off. *None*: other objects' photos without it are asked for it; AUC of presence,
and at the default threshold the share of photos with the object that keep their mask and of those
without it that lose it. *Several*: photos with the object two and three times, composed by
`benchmarks.several_scenes`; an object counts as found by a mask of an IoU of at least 0.5, one mask
for one object; *IoU* is the mean over all objects, 0 where one is not found.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import Photo
from benchmarks.company import photos_of
from benchmarks.composed import also_in
from benchmarks.presence_tables import auc
from benchmarks.several_scenes import Several, scenes
from fiftyone_persam.metrics import PerSegAccumulator
from fiftyone_persam.personalize import CANDIDATES
from fiftyone_persam.personalize.presence import DEFAULT_THRESHOLD
from fiftyone_persam.sam import ImageEmbedding

METHODS = {"persam": fp.PerSAM, "persam_f": fp.PerSAMF}
FOUND = 0.5  # IoU
MOST = 5  # instances that are looked for
Mask = npt.NDArray[np.bool_]


@dataclass
class Tally:
    """What one source of candidates has found."""

    one: PerSegAccumulator = field(default_factory=PerSegAccumulator)
    there: list[float] = field(default_factory=list)
    missing: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    found: int = 0
    wrong: int = 0
    missed: int = 0
    ious: list[float] = field(default_factory=list)

    def several(self, masks: Sequence[Mask], truth: Sequence[Mask]) -> None:
        """Count a photo with several objects."""
        table = np.array([[fp.iou(mask, one) for one in truth] for mask in masks])
        table = table.reshape(len(masks), len(truth))
        rows, columns = linear_sum_assignment(-table)
        best = np.zeros(len(truth))
        best[columns] = table[rows, columns]
        hits = int((best >= FOUND).sum())
        self.found += hits
        self.wrong += len(masks) - hits
        self.missed += len(truth) - hits
        self.ious += best.tolist()

    def __str__(self) -> str:
        there, missing = np.array(self.there), np.array(self.missing)
        return (
            f"{100 * self.one.compute().miou:5.1f}   {auc(there, missing):.3f}"
            f"{(there >= DEFAULT_THRESHOLD).mean():7.0%}{(missing < DEFAULT_THRESHOLD).mean():7.0%}"
            f"   {self.found / max(1, self.found + self.wrong):9.2f}"
            f"{self.found / max(1, self.found + self.missed):8.2f}"
            f"{2 * self.found / max(1, 2 * self.found + self.wrong + self.missed):6.2f}"
            f"{np.mean(self.ious):6.2f}   {1000 * np.median(self.seconds):6.0f} ms"
        )


def measure(
    method: Any,
    sam: fp.PromptableSam,
    groups: Sequence[Sequence[Photo]],
    encoded: dict[int, ImageEmbedding],
    composed: Sequence[tuple[Several, ImageEmbedding]],
    source: str,
) -> Tally:
    """One source of candidates on all photos."""
    tally = Tally()
    for group in groups:
        first = group[0]
        reference = fp.Reference(first.image, mask=first.mask), [encoded[id(first)]]
        single = method(sam, candidates=source, presence_threshold=0).fit(*reference)
        for photo in (one for other in groups for one in other[1:]):
            started = time.perf_counter()
            found = single.predict_embeddings([encoded[id(photo)]])[0]
            tally.seconds.append(time.perf_counter() - started)
            if photo.object == first.object:
                tally.one.update(photo.object, found.mask, photo.mask)
                tally.there.append(found.presence)
            elif first.object not in also_in(photo):
                tally.missing.append(found.presence)
        many = method(sam, candidates=source, max_instances=MOST).fit(*reference)
        for scene, embedding in composed:
            if scene.object == first.object:
                found = many.predict_embeddings([embedding])[0]
                masks = [one.mask for one in found.instances or (found,)]
                tally.several([mask for mask in masks if mask.any()], scene.masks)
    return tally


def main(given: list[str] | None = None) -> None:
    parser = album_parser(__doc__, optional=True)
    parser.add_argument("--method", choices=METHODS, default="persam")
    parser.add_argument("--sources", nargs="+", default=list(CANDIDATES))
    parser.add_argument("--objects", nargs="+", help="only these")
    arguments = parser.parse_args(given)
    sam = load_model(arguments.model)
    groups = photos_of(arguments.album, arguments.objects)
    encoded = {id(one): sam.encode([one.image])[0] for group in groups for one in group}
    composed = [(one, sam.encode([one.image])[0]) for one in scenes(groups)]
    print(f"{'':12}    one    none: AUC, kept, lost    several: precision, recall, F1, IoU")
    for source in arguments.sources:
        found = measure(METHODS[arguments.method], sam, groups, encoded, composed, source)
        print(f"{source:12}  {found}", flush=True)


if __name__ == "__main__":
    main()
