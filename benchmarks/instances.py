"""How many there are, and which of two that look alike: photos composed of an album's objects.

    python -m benchmarks.instances ../shared/data/perseg_dev
    python -m benchmarks.instances                                  # the demo's own album

*Lookalikes*: two objects of one kind (`KINDS`; the demo album's cat is another cat) in a photo of
something else; in the demo's album, which has no two of a kind, an object and the same in another
colour. Each is asked for by its own reference. At the default presence threshold the mask
is the right one's, the twin's, or there is none; an IoU of 0.5 decides. *Several*: the object two
and three times; the share of photos in which as many were found as there are, and the mean IoU over
all of them, 0 where one is not found. *None left*: up to five are looked for where there is one,
beside a lookalike: the mean number of masks too many, and the share of photos in which one of the
masks is the twin's.

The last row is what users of the published script do (``mode="reference"``): take out of the
similarity map what was found, and ask again. Nothing stops that loop but its number of rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import Photo, read_album
from benchmarks.albums import album_or_perseg
from benchmarks.company import photos_of
from benchmarks.composed import also_in
from benchmarks.several_scenes import Several, compose, scenes
from fiftyone_persam.datasets import build_album
from fiftyone_persam.personalize import CANDIDATES
from fiftyone_persam.personalize.prior import mask_coverage
from fiftyone_persam.sam import ImageEmbedding

KINDS = (
    ("cat", "dog", "demo cat"),
    ("bear_plushie", "duck_toy", "monster_toy", "robot_toy"),
)
"""Objects of which any two look alike, at least to a small model."""
MOST = 5
RIGHT = 0.5  # IoU
REPEATS = 2
DYED = "dyed "
_HUE, _SATURATION = 60, 110  # of 180 degrees, added; of 255, at least
Mask = npt.NDArray[np.bool_]
Kinds = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Twins:
    """A photo of two objects that look alike; ``scene.masks`` are theirs in this order."""

    objects: tuple[str, str]
    scene: Several


def twins(groups: dict[str, list[Photo]], kinds: Kinds = KINDS, seed: int = 0) -> list[Twins]:
    """Photos of every two objects of a kind, in photos of objects of no kind, or of other kinds."""
    made = []
    for kind in kinds:
        there = [name for name in kind if name in groups]
        backgrounds = [
            next(photo for photo in reversed(group) if not also_in(photo) & set(kind))
            for name, group in groups.items()
            if name not in kind and not name.startswith(DYED)
        ]
        pairs = [(a, b) for k, a in enumerate(there) for b in there[k + 1 :]]
        for number, (one, other) in enumerate(pairs):
            for repeat in range(REPEATS):
                rng = np.random.default_rng([seed, number, repeat])
                background = backgrounds[(number + repeat) % len(backgrounds)]
                sources = [_target(groups[name], repeat) for name in (one, other)]
                scene = compose(background, sources, 2, rng)
                if len(scene.masks) == 2:
                    made.append(Twins((one, other), scene))
    return made


def dyed(photo: Photo) -> Photo:
    """The same photo with the object in another colour."""
    hue, saturation, value = cv2.split(cv2.cvtColor(photo.image, cv2.COLOR_RGB2HSV))
    hue = ((hue.astype(np.int64) + _HUE) % 180).astype(np.uint8)
    colours = cv2.merge([hue, np.maximum(saturation, np.uint8(_SATURATION)), value])
    other = cv2.cvtColor(colours, cv2.COLOR_HSV2RGB)
    image = np.where(photo.mask[..., None], other, photo.image)
    return replace(photo, object=DYED + photo.object, image=image)


def albums_own_twins(groups: dict[str, list[Photo]]) -> tuple[dict[str, list[Photo]], Kinds]:
    """The objects and their dyed twins, and which are twins."""
    more = {DYED + name: [dyed(photo) for photo in group] for name, group in groups.items()}
    return {**groups, **more}, [(name, DYED + name) for name in groups]


def _target(group: Sequence[Photo], number: int) -> Photo:
    """One of an object's photos that is not its reference, if it has another one."""
    others = [photo for photo in group[1:] if photo.mask.any()] or list(group)
    return others[number % len(others)]


def verdict(mask: Mask, right: Mask, twin: Mask) -> str:
    """Whose mask this is: "right", "twin", "none" for an empty one, else "other"."""
    if not mask.any():
        return "none"
    if fp.iou(mask, right) >= RIGHT:
        return "right"
    return "twin" if fp.iou(mask, twin) >= RIGHT else "other"


def found_of(masks: Sequence[Mask], truth: Sequence[Mask]) -> list[float]:
    """The IoU of each true mask with the one found for it; 0 where there is none."""
    table = np.array([[fp.iou(mask, one) for one in truth] for mask in masks])
    table = table.reshape(len(masks), len(truth))
    rows, columns = linear_sum_assignment(-table)
    best = np.zeros(len(truth))
    best[columns] = table[rows, columns]
    return best.tolist()


class Asked:
    """An object that one source of candidates looks for, alone or with its like."""

    def __init__(self, sam: fp.PromptableSam, reference: fp.Reference, source: str) -> None:
        encoded = sam.encode([reference.photo])
        self._one = fp.PerSAM(sam, candidates=source).fit(reference, encoded)
        self._all = fp.PerSAM(sam, candidates=source, max_instances=MOST).fit(reference, encoded)

    def one(self, photo: ImageEmbedding) -> Mask:
        """The mask of the one object that is asked for; empty where it is absent."""
        return self._one.predict_embeddings([photo])[0].mask

    def all(self, photo: ImageEmbedding) -> list[Mask]:
        """The masks of up to `MOST`."""
        (found,) = self._all.predict_embeddings([photo])
        return [one.mask for one in found.instances or (found,) if one.mask.any()]


class PublishedLoop(Asked):
    """The published script, asked again without what it found, `MOST` times."""

    def __init__(self, sam: fp.PromptableSam, reference: fp.Reference) -> None:
        self._method = fp.PerSAM(sam, mode="reference").fit(reference)

    def one(self, photo: ImageEmbedding) -> Mask:
        """See `Asked.one`; there is always one."""
        return self._method.predict_embeddings([photo])[0].mask

    @torch.inference_mode()
    def all(self, photo: ImageEmbedding) -> list[Mask]:
        """See `Asked.all`."""
        features, similarity, valid, best = self._method.similarities([photo])
        masks = []
        for _ in range(MOST):
            ((found,), _) = self._method.predict_located([photo], features, similarity, valid, best)
            masks.append(found.mask)
            taken = mask_coverage(self._method.sam, found.mask, photo) > 0
            similarity = torch.where(taken, similarity.amin(), similarity)
        return [mask for mask in masks if mask.any()]


def measure(
    asked: dict[str, Asked],
    pairs: Sequence[tuple[Twins, ImageEmbedding]],
    several: Sequence[tuple[Several, ImageEmbedding]],
) -> str:
    """The figures of one source of candidates, as a line."""
    verdicts, extra, taken = [], [], []
    for pair, embedding in pairs:
        for number, name in enumerate(pair.objects):
            right, twin = pair.scene.masks[number], pair.scene.masks[1 - number]
            verdicts.append(verdict(asked[name].one(embedding), right, twin))
            masks = asked[name].all(embedding)
            extra.append(max(0, len(masks) - 1))
            taken.append(any(verdict(mask, right, twin) == "twin" for mask in masks))
    counts, ious = [], []
    for scene, embedding in several:
        masks = asked[scene.object].all(embedding)
        counts.append(len(masks) == len(scene.masks))
        ious += found_of(masks, scene.masks)
    shares = [np.mean([one == what for one in verdicts]) for what in ("right", "twin", "none")]
    cells = "".join(f"{share:8.0%}" for share in shares)
    return (
        f"{cells}   {np.mean(counts):14.0%}{np.mean(ious):8.2f}   {np.mean(extra):9.2f}"
        f"{np.mean(taken):10.0%}"
    )


def main(given: list[str] | None = None) -> None:
    parser = album_parser(__doc__, optional=True)
    parser.add_argument("--sources", nargs="+", choices=list(CANDIDATES), default=list(CANDIDATES))
    parser.add_argument("--objects", nargs="+", help="only these of the album")
    arguments = parser.parse_args(given)
    sam = load_model(arguments.model)
    albums = photos_of(arguments.album, arguments.objects)
    groups = {group[0].object: list(group) for group in albums}
    kinds: Kinds = KINDS
    if album_or_perseg(arguments.album) is None:
        groups, kinds = albums_own_twins(groups)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            folder = build_album(Path(scratch) / "album", objects=["cat"])
            (cats,) = read_album(folder, None)
        groups["demo cat"] = [replace(photo, object="demo cat") for photo in cats]
    pairs = [(one, sam.encode([one.scene.image])[0]) for one in twins(groups, kinds)]
    several = [(one, sam.encode([one.image])[0]) for one in scenes(albums)]
    print(f"{2 * len(pairs)} questions about two that look alike, {len(several)} photos of several")
    print(
        f"{'':12}lookalikes: right, twin, none   several: counted, IoU   none left: too many, twin"
    )
    names = {name for one, _ in pairs for name in one.objects} | {s.object for s, _ in several}
    references = {
        name: fp.Reference(groups[name][0].image, mask=groups[name][0].mask) for name in names
    }
    for source in arguments.sources:
        asked = {name: Asked(sam, one, source) for name, one in references.items()}
        print(f"{source:12}{measure(asked, pairs, several)}", flush=True)
    loops: dict[str, Asked] = {name: PublishedLoop(sam, one) for name, one in references.items()}
    print(f"{'published':12}{measure(loops, pairs, several)}", flush=True)


if __name__ == "__main__":
    main()
