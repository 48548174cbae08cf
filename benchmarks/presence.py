"""How well presence tells photos that show the object from photos that do not.

    python -m benchmarks.presence ../shared/data/perseg_dev --model sam_lite
    python -m benchmarks.presence --demo

Each object's first photo is the reference (``--every-reference``: each photo in turn), and every
other photo of the album is asked for the object. Printed are the area under the ROC curve, over all
pairs and as the mean over objects; for each threshold the share of photos with the object that keep
their mask and of photos without it that lose it; and the mean IoU over an album of which half the
photos lack the object: a photo with it counts its mask's IoU, one without it 1 if its mask is empty
and else 0.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

import fiftyone_persam as fp
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import Photo, read_album
from fiftyone_persam.datasets import build_album
from fiftyone_persam.datasets.album_scenes import SCENES
from fiftyone_persam.personalize.presence import DEFAULT_THRESHOLD

THRESHOLDS = (0.1, 0.3, 0.4, 0.5, 0.6, 0.7, 0.9)


@dataclass(frozen=True)
class Answer:
    """What one photo says when it is asked for one object.

    Attributes:
        object: what was looked for.
        there: whether it is there.
        presence: the method's answer.
        iou: of the mask before the threshold; 0 where the object is not there.
    """

    object: str
    there: bool
    presence: float
    iou: float


def auc(there: Sequence[float], missing: Sequence[float]) -> float:
    """Probability that a photo with the object has more presence than one without it."""
    with_it, without = np.asarray(there)[:, None], np.asarray(missing)[None]
    return float(np.mean((with_it > without) + 0.5 * (with_it == without)))


def ask(
    sam: fp.PromptableSam, objects: Sequence[Sequence[Photo]], every: bool, demo: bool
) -> list[Answer]:
    """Ask every photo for every object."""
    photos = [photo for group in objects for photo in group]
    embeddings = {id(photo): sam.encode([photo.image])[0] for photo in photos}
    references = [photo for group in objects for photo in (group if every else group[:1])]
    firsts = set() if every else {id(group[0]) for group in objects}
    answers = []
    for reference in references:
        method = fp.PerSAM(sam, presence_threshold=0).fit(
            fp.Reference(reference.image, mask=reference.mask), [embeddings[id(reference)]]
        )
        for photo in photos:
            there = photo.object == reference.object
            if photo is reference or id(photo) in firsts:
                continue
            if demo and not there and reference.object in _also_shown(photo):
                continue
            found = method.predict_embeddings([embeddings[id(photo)]])[0]
            iou = fp.iou(found.mask, photo.mask) if there else 0.0
            answers.append(Answer(reference.object, there, found.presence, iou))
    return answers


def _also_shown(photo: Photo) -> set[str]:
    """Objects in a photo of the demo album beside its own."""
    scene = SCENES[photo.object][int(photo.name)]
    return {item.cutout.split("_")[0] for item in (*scene.behind, *scene.front)}


def summary(answers: Iterable[Answer], threshold: float) -> dict[str, float]:
    """The figures at one threshold, by name."""
    by_object: dict[str, list[Answer]] = defaultdict(list)
    for answer in answers:
        by_object[answer.object].append(answer)
    everyone = [answer for group in by_object.values() for answer in group]
    there, missing = _split(everyone)
    mixed = []
    for group in by_object.values():
        kept = [a.iou if a.presence >= threshold else 0.0 for a in group if a.there]
        empty = [float(a.presence < threshold) for a in group if not a.there]
        mixed.append((np.mean(kept) + np.mean(empty)) / 2)
    return {
        "auc_pooled": auc(there, missing),
        "auc_per_object": float(np.mean([auc(*_split(group)) for group in by_object.values()])),
        "kept": float(np.mean(there >= threshold)),
        "lost": float(np.mean(missing < threshold)),
        "mixed_miou": float(np.mean(mixed)),
    }


def _split(
    answers: Iterable[Answer],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    answers = list(answers)
    return (
        np.array([a.presence for a in answers if a.there]),
        np.array([a.presence for a in answers if not a.there]),
    )


def report(answers: Sequence[Answer]) -> None:
    """Print the table."""
    there, missing = _split(answers)
    default = summary(answers, DEFAULT_THRESHOLD)
    print(f"{len(there)} photos with the object, {len(missing)} without")
    print(
        f"AUC {default['auc_pooled']:.3f} pooled, {default['auc_per_object']:.3f} mean per object"
    )
    print("threshold   with, mask kept   without, mask emptied   mIoU, half without")
    for threshold in sorted({*THRESHOLDS, DEFAULT_THRESHOLD}):
        row = summary(answers, threshold)
        print(
            f"{threshold:9.2f}   {row['kept']:15.1%}   {row['lost']:21.1%}"
            f"   {row['mixed_miou']:18.3f}{' (default)' if threshold == DEFAULT_THRESHOLD else ''}"
        )


def main(given: list[str] | None = None) -> None:
    parser = album_parser(__doc__, optional=True)
    parser.add_argument("--demo", action="store_true", help="the demo album, built for this")
    parser.add_argument("--every-reference", action="store_true")
    arguments = parser.parse_args(given)
    if arguments.demo == (arguments.album is not None):
        parser.error("give an album, or --demo")
    sam = load_model(arguments.model)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.album
        if arguments.demo:
            folder = build_album(Path(scratch) / "album")
        objects = list(read_album(folder, None))
    report(ask(sam, objects, arguments.every_reference, arguments.demo))


if __name__ == "__main__":
    main()
