"""Proposals: mask AR@10 / @100 / @320 and decoder time, of the detector's boxes and SAM's grid.

    python -m benchmarks.proposals ../shared/data/perseg_dev --model sam_lite

The photos are training photos that the detector never saw (``--photos``: a folder laid out as
shared/data/train; by default the album's neighbour ``train``, and where that is missing the album's
own), with all their instances as ground truth; AR is COCO's own (pycocotools, classes ignored, IoU
0.5 to 0.95). *First ten*: the share of the album's photos of which one of the first ten proposals
has an IoU of at least 0.5 with the object. *Decoder* is everything between a photo's embedding and
its final masks: head, prompts, decoder, filters and repeated masks. Both proposers take turns on
each photo, and the last line divides the sums of their times. A grid takes most of a minute for a
photo on one core, so it is tried on the photos kept out alone, ten of each folder; ``--limit`` and
``--grid-everywhere`` change that.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import read_album
from benchmarks.measuring import CLOCKS
from fiftyone_persam.sam import PROPOSERS, ImageEmbedding, Proposal, load_photo
from fiftyone_persam.sam.valid_prompts import DiscoveryProposer
from training.held_out import held_out

COUNTS = (10, 100, 320)
INSTANCES = ("coco_small", "feral_cats")  # folders whose masks are instances
FOUND = 0.5  # IoU from which an object counts as found
TIMED = 100  # proposals in the timed turn
Mask = npt.NDArray[np.bool_]


@dataclass
class Tally:
    """What one proposer has found so far.

    Attributes:
        detections: in COCO's form.
        seconds: between embedding and masks, one per photo.
        ranks: per photo of the album, the place of the first proposal that is the object.
        best: per photo of the album, the best IoU among the first ten.
    """

    detections: list[dict[str, Any]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    ranks: list[int | None] = field(default_factory=list)
    best: list[float] = field(default_factory=list)


class Encoding:
    """Adds up the time that an image encoder takes, so that it can be left out."""

    def __init__(self, encoder: Any, clock: str) -> None:
        self.seconds, self._clock = 0.0, CLOCKS[clock]
        self._hooks = [
            encoder.register_forward_pre_hook(self._begin),
            encoder.register_forward_hook(self._end),
        ]

    def _begin(self, *_: Any) -> None:
        self._began = self._clock()

    def _end(self, *_: Any) -> None:
        self.seconds += self._clock() - self._began

    def remove(self) -> None:
        """Leave the encoder as it was."""
        for hook in self._hooks:
            hook.remove()


def grid(
    sam: Any, photo: Any, embedding: ImageEmbedding, clock: str
) -> tuple[list[Proposal], float]:
    """SAM's own proposals, and their seconds without the encoder's."""
    encoding = Encoding(sam.sam.image_encoder, clock)
    try:
        started = CLOCKS[clock]()
        found = PROPOSERS["grid"]().propose(sam, photo, max(COUNTS))
        return found, CLOCKS[clock]() - started - encoding.seconds
    finally:
        encoding.remove()


def discovery(
    sam: Any, photo: Any, embedding: ImageEmbedding, clock: str, lite: Any, count: int
) -> tuple[list[Proposal], float]:
    """The detector's ``count`` proposals, and the seconds that a hundred take."""
    finder = embedding if lite is None else lite.encode([photo])[0]
    proposer = DiscoveryProposer()
    started = CLOCKS[clock]()
    found = proposer.from_embedding(sam, embedding, TIMED, finder=finder)
    seconds = CLOCKS[clock]() - started
    if count == TIMED:
        return found, seconds
    return proposer.from_embedding(sam, embedding, count, finder=finder), seconds


def instances(photos: Path, limit: int | None) -> Iterator[tuple[Any, list[Mask]]]:
    """The photos kept out, each with the masks of all its instances."""
    for folder in INSTANCES:
        for photo, ids in list(held_out(photos, (folder,)))[:limit]:
            id_map = np.asarray(Image.open(ids))
            masks = [id_map == value for value in np.unique(id_map) if value]
            if masks:
                yield load_photo(photo), masks


def average_recall(
    truth: Sequence[tuple[tuple[int, int], list[Mask]]], detections: list[dict[str, Any]]
) -> list[float]:
    """COCO's mask AR at `COUNTS`, whatever the class.

    Args:
        truth: size and masks of each photo.
        detections: in COCO's form, ``image_id`` the photo's place in ``truth``.
    """
    images = [{"id": k, "height": s[0], "width": s[1]} for k, (s, _) in enumerate(truth)]
    annotations = [
        {
            "id": number,
            "image_id": k,
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": encoded(mask),
            "area": int(mask.sum()),
            "bbox": [0, 0, 1, 1],
        }
        for number, (k, mask) in enumerate(
            ((k, mask) for k, (_, masks) in enumerate(truth) for mask in masks), 1
        )
    ]
    coco = COCO()
    coco.dataset = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1}],
    }
    with contextlib.redirect_stdout(None):
        coco.createIndex()
        if not detections:
            return [0.0] * len(COUNTS)
        judged = COCOeval(coco, coco.loadRes(detections), "segm")
        judged.params.useCats = 0
        judged.params.maxDets = list(COUNTS)
        judged.params.areaRng, judged.params.areaRngLbl = [[0, 1e10]], ["all"]
        judged.evaluate()
        judged.accumulate()
    recall = judged.eval["recall"]  # (thresholds, classes, areas, counts)
    return [float(recall[:, 0, 0, k].mean()) for k in range(len(COUNTS))]


def encoded(mask: Mask) -> dict[str, Any]:
    """A mask in COCO's run lengths."""
    return dict(rle.encode(np.asfortranarray(mask.astype(np.uint8))))


def overlap(a: Mask, b: Mask) -> float:
    """IoU of two masks."""
    return float((a & b).sum() / max(1, (a | b).sum()))


def main(given: list[str] | None = None) -> int:
    parser = album_parser(__doc__)
    parser.add_argument("--photos", type=Path, help="folder laid out as shared/data/train")
    parser.add_argument(
        "--limit", type=int, default=10, help="so many photos of each folder, or object (10)"
    )
    parser.add_argument("--grid-everywhere", action="store_true", help="on the album, too")
    parser.add_argument("--proposers", nargs="+", choices=("discovery", "grid"))
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu on a busy machine without a GPU"
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args(given)
    sam = load_model(arguments.model)
    lite = None if sam.name == "sam_lite" else load_model("sam_lite")
    names = arguments.proposers or ["discovery", "grid"]
    tallies = {name: Tally() for name in names}
    truth: list[tuple[tuple[int, int], list[Mask]]] = []

    def turn(photo: Any, count: int, gridded: bool = True) -> dict[str, list[Proposal]]:
        embedding = sam.encode([photo])[0]
        found = {}
        both = gridded or "grid" not in tallies
        for name, tally in tallies.items():
            if name == "grid" and not gridded:
                continue
            if name == "grid":
                found[name], seconds = grid(sam, photo, embedding, arguments.clock)
            else:
                found[name], seconds = discovery(
                    sam, photo, embedding, arguments.clock, lite, count
                )
            if both:  # the same photos for both, or their times say nothing
                tally.seconds.append(seconds)
        return found

    def judge(photo: Any, masks: list[Mask], found: dict[str, list[Proposal]]) -> None:
        for name, proposals in found.items():
            tallies[name].detections += [
                {
                    "image_id": len(truth),
                    "category_id": 1,
                    "score": one.score,
                    "segmentation": encoded(one.mask),
                }
                for one in proposals
            ]
        truth.append((photo.shape[:2], masks))

    photos = arguments.photos or arguments.album.absolute().parent / "train"
    source = f"photos kept out of {photos.name}"
    if photos.is_dir():
        for photo, masks in instances(photos, arguments.limit):
            judge(photo, masks, turn(photo, max(COUNTS)))
    apart = bool(truth)
    for group in read_album(arguments.album):
        for one in group[: arguments.limit]:
            count = TIMED if apart else max(COUNTS)
            found = turn(one.image, count, arguments.grid_everywhere or not apart)
            if not apart:
                source = "photos of the album"
                judge(one.image, [one.mask], found)
            for name, proposals in found.items():
                values = [overlap(p.mask, one.mask) for p in proposals[: max(COUNTS)]]
                place = next((k for k, value in enumerate(values, 1) if value >= FOUND), None)
                tallies[name].ranks.append(place)
                tallies[name].best.append(max(values[:10], default=0.0))
    return report(tallies, truth, source, arguments.json)


def report(
    tallies: dict[str, Tally],
    truth: Sequence[tuple[tuple[int, int], list[Mask]]],
    source: str,
    path: Path | None,
) -> int:
    """Print the figures; the last line has those that are compared with the bars."""
    count = sum(len(masks) for _, masks in truth)
    print(f"AR over {len(truth)} {source}, {count} objects; first ten over the album")
    figures: dict[str, dict[str, float]] = {}
    for name, tally in tallies.items():
        recalls = average_recall(truth, tally.detections)
        hits = [place is not None and place <= 10 for place in tally.ranks]
        first = float(np.mean(hits)) if hits else float("nan")
        figures[name] = {
            **{f"AR@{k}": value for k, value in zip(COUNTS, recalls, strict=True)},
            "first ten": first,
            "seconds": float(np.sum(tally.seconds)),
        }
        shown = ", ".join(f"AR@{k} {v:.3f}" for k, v in zip(COUNTS, recalls, strict=True))
        best = f" (mean IoU of the best {np.mean(tally.best):.3f})" if hits else ""
        print(
            f"{name:10} {shown}, first ten {first:.3f}{best}, "
            f"{len(tally.detections) / max(1, len(truth)):.0f} masks "
            f"and {1000 * np.mean(tally.seconds):.0f} ms per photo"
        )
    if path is not None:
        path.write_text(json.dumps(figures, indent=1))
    own = figures.get("discovery") or next(iter(figures.values()))
    times = figures["grid"]["seconds"] / own["seconds"] if "grid" in figures else float("nan")
    print(f"first ten {own['first ten']:.2f}, AR@100 {own['AR@100']:.2f}, decoder {times:.1f} x")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
