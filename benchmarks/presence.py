"""How well presence tells photos that show the object from photos that do not.

    python -m benchmarks.presence ../shared/data/perseg_dev --every-reference --held-out
    python -m benchmarks.presence ../shared/data/perseg_dev --sizes
    python -m benchmarks.presence --demo
    python -m benchmarks.presence --cutouts CUTOUTS --backgrounds BACKGROUNDS --held-out

Each object's first photo is the reference (``--every-reference``: each photo in turn), and every
other photo of the album is asked for the object. Printed are the area under the ROC curve, over all
pairs and as the mean over objects; for each threshold the share of photos with the object that keep
their mask and of photos without it that lose it; and the mean IoU over an album of which half the
photos lack the object: a photo with it counts its mask's IoU, one without it 1 if its mask is empty
and else 0. Then the same at the default threshold with the photos of a run compared with one
another, what each kind of evidence tells by itself, the same masks judged by features of other
models, and what presence costs.

``--held-out`` fits what the kinds of evidence count anew for each object, on the others, and judges
the object by that, with the leaning and the handicap of smaller looks that ship: with all models'
features, and with those of the other models alone.

``--box`` gives the references as boxes, of which the model makes masks, good and bad ones.

``--sizes`` puts the album's objects, smaller than in their references, into its photos of something
else, and asks those. ``--cutouts`` makes an album of objects that no constant was fitted on, from a
folder of cut-outs and one of photos to put them into; see `benchmarks.composed`. Both print how
many masks are kept by the object's size: of all, and of those that the passes have found (IoU of at
least 0.5), for a mask of something else is rightly emptied.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

import fiftyone_persam as fp
from benchmarks import composed
from benchmarks.accuracy import album_parser, load_model
from benchmarks.album import Photo, read_album
from benchmarks.company import photos_of
from benchmarks.presence_tables import (
    Answer,
    report,
    report_evidence,
    report_held_out,
    report_sizes,
    report_time,
)
from benchmarks.recognition import DECODER, OWN, Space, spaces
from fiftyone_persam.personalize import presence, prior
from fiftyone_persam.personalize.appearance import Appearance, describe, together
from fiftyone_persam.personalize.assembly import assemble
from fiftyone_persam.personalize.learning import drawn_mask
from fiftyone_persam.personalize.smaller_looks import described, side_by_side


class Asking:
    """Photos of an album, encoded, and what they answer.

    Attributes:
        seconds: of encoding, of the method, and of presence alone, per photo.
    """

    def __init__(self, sam: fp.PromptableSam, objects: Sequence[Sequence[Photo]]) -> None:
        self.sam = sam
        self.objects = objects
        self.photos = [photo for group in objects for photo in group]
        started = time.perf_counter()
        self.embeddings = [sam.encode([photo.image])[0] for photo in self.photos]
        encoding = (time.perf_counter() - started) / len(self.photos)
        self.spaces: dict[str, Space] = spaces(sam)
        self.features = {
            name: [space(p, e).half() for p, e in zip(self.photos, self.embeddings, strict=True)]
            for name, space in self.spaces.items()
        }
        self.seconds = {"encoding": [encoding], "method": [], "presence": []}

    def ask(self, every: bool, others: int | None = None, box: bool = False) -> list[Answer]:
        """Ask the photos for every object.

        Args:
            every: each photo is the reference in turn, and not only each object's first.
            others: photos without the object that are asked for it, drawn at random; all if None.
            box: references are the masks' boxes, of which the model makes masks.
        """
        numbers = {id(photo): number for number, photo in enumerate(self.photos)}
        references = [photo for group in self.objects for photo in (group if every else group[:1])]
        firsts = set() if every else {id(group[0]) for group in self.objects}
        rng = np.random.default_rng(0)
        answers = []
        for reference in references:
            own = numbers[id(reference)]
            label = fp.Reference(
                reference.image,
                **({"box": _box(reference.mask)} if box else {"mask": reference.mask}),
            )
            method = fp.PerSAM(self.sam, presence_threshold=0).fit(label, [self.embeddings[own]])
            known = self._known(own, drawn_mask(self.sam, label, self.embeddings[own]))
            asked = [
                photo
                for photo in self.photos
                if photo is not reference
                and id(photo) not in firsts
                and (
                    photo.object == reference.object
                    or reference.object not in composed.also_in(photo)
                )
            ]
            there = [photo for photo in asked if photo.object == reference.object]
            missing = [photo for photo in asked if photo.object != reference.object]
            if others is not None and others < len(missing):
                drawn = rng.choice(len(missing), others, replace=False)
                missing = [missing[k] for k in drawn]
            for photo in (*there, *missing):
                answers.append(self._answer(method, own, known, numbers[id(photo)]))
        return answers

    def _known(self, number: int, mask: npt.NDArray[np.bool_]) -> dict[str, Appearance]:
        """What the object looks like, as given and smaller, in each model's features."""
        photo, embedding = self.photos[number], self.embeddings[number]
        cells = prior.aligned_foreground(self.sam, mask, embedding)
        valid = prior.valid_cells([embedding], self.sam.device)[0]
        picture, smaller = side_by_side(photo.image, mask)
        beside = replace(photo, image=picture)
        seen = self.sam.encode([picture])[0]
        known = {}
        for name, maps in self.features.items():
            looks = [describe(maps[number], cells, valid)]
            # A model that tells objects by what it decodes looks at no smaller references.
            if name != DECODER:
                features = self.spaces[name](beside, seen)
                looks += described(self.sam, seen, features, smaller)
            known[name] = together(looks)
        return known

    @torch.inference_mode()
    def _answer(
        self, method: Any, own: int, known: Mapping[str, Appearance], number: int
    ) -> Answer:
        photo, embedding = self.photos[number], self.embeddings[number]
        started = time.perf_counter()
        batch, outcome = method.trace(embedding)
        (found,) = assemble(self.sam, batch, outcome, method.state.appearance, 0)
        self.seconds["method"].append(time.perf_counter() - started)
        valid = prior.valid_cells([embedding], self.sam.device)
        columns, others = {}, {}
        handicap = np.zeros(1)
        for name, maps in self.features.items():
            started = time.perf_counter()
            features = maps[number].float()[None]
            evidence = presence.gather(features, outcome.logits, valid, known[name])
            columns[name] = evidence.columns[0].double().numpy()
            if name == OWN:
                presence.probability(evidence)
                self.seconds["presence"].append(time.perf_counter() - started)
                if evidence.ring is not None and evidence.handicap is not None:
                    others["ring"] = float(evidence.ring[0, 0])
                    handicap = evidence.handicap[0].double().numpy()
        others |= {"predicted IoU": found.score, "agreement": found.agreement}
        name = self.photos[own].object
        there = photo.object == name
        return Answer(
            name,
            there,
            found.presence,
            fp.iou(found.candidate, photo.mask) if there else 0.0,
            own,
            columns,
            handicap,
            others,
            photo.size if isinstance(photo, composed.Composed) else None,
        )


def _box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 around a mask, x1 and y1 inclusive."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]), int(rows[-1])


def main(given: list[str] | None = None) -> None:
    parser = album_parser(__doc__, optional=True)
    parser.add_argument("--demo", action="store_true", help="the demo album, built for this")
    parser.add_argument("--cutouts", type=Path, help="folder of RGBA pictures to compose photos of")
    parser.add_argument("--backgrounds", type=Path, help="folder of photos that they are put into")
    parser.add_argument("--objects", type=int, default=44, help="of the cut-outs, at most")
    parser.add_argument("--others", type=int, help="photos without each object, drawn at random")
    parser.add_argument("--sizes", action="store_true", help="the objects smaller than they are")
    parser.add_argument("--every-reference", action="store_true")
    parser.add_argument("--box", action="store_true", help="references are boxes, not masks")
    parser.add_argument("--held-out", action="store_true")
    arguments = parser.parse_args(given)
    sources = (arguments.album is not None, arguments.demo, arguments.cutouts is not None)
    if sum(sources) != 1 or (arguments.cutouts is None) != (arguments.backgrounds is None):
        parser.error("give an album, --demo, or --cutouts with --backgrounds")
    sam = load_model(arguments.model)
    objects: Sequence[Sequence[Photo]]
    if arguments.cutouts is not None:
        objects = composed.from_cutouts(arguments.cutouts, arguments.backgrounds, arguments.objects)
    else:
        objects = photos_of(None) if arguments.demo else list(read_album(arguments.album, None))
        if arguments.sizes:
            objects = composed.at_sizes(objects)
    asking = Asking(sam, objects)
    answers = asking.ask(arguments.every_reference, arguments.others, arguments.box)
    report(answers)
    report_sizes(answers)
    report_evidence(answers)
    if arguments.held_out:
        report_held_out(answers)
    report_time(asking.seconds)


if __name__ == "__main__":
    main()
