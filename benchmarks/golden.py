"""How far mode="reference" is from the released PerSAM pipeline: ``python -m benchmarks.golden``.

Compares every recorded number of ``../shared/golden`` (or of the copy in ``tests/data``, which
needs no photos) and prints the largest deviation of each quantity with its tolerance. The SAM that
the numbers belong to has seeded weights: each depends on its name and shape alone.

Those weights make the decoder's attention a hard choice between near ties (the rule gives every
``cross_attn_token_to_image`` projection, whose name has "token" in it, eight times the usual
scale), except where the guided attention of pass 1 smooths it. All other passes turn the last bit
of a float32 embedding into visible differences: segment_anything's own predictor (``--control``)
is as far from the record as ours, wherever the processor rounds otherwise than the one it was made
on. So these quantities get a second measure, their rounding floor: how far our own numbers move
when the embedding moves by its rounding error (one part in a million; for the copy, the step its
patch embeddings are stored in). And passes 2 and 3 are compared once more on the recorded logits of
the pass before (`forced`), so that errors do not add up over passes.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image

from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.personalize.prior import released_foreground
from fiftyone_persam.sam import ImageEmbedding, Prompt, load_photo

from . import released
from .golden_record import COPY, OBJECTS, PHOTOS, SHARED, Array, Golden

NUDGES = 2
FLOOR_FACTOR = 3.0

# Quantity -> largest deviation allowed. Logits are recorded in float16, whose spacing below 1 is
# at most 2^-11; IoU is recorded as 1 - IoU.
TOLERANCES = {
    "foreground cells that differ": 0.0,
    "target embedding": 1e-4,
    "target feature (F)": 1e-4,
    "feature mean and std": 1e-4,
    "similarity": 1e-4,
    "points": 0.0,
    "guided attention": 1e-4,
    "logits, pass 1": 1e-3,
    "logits, pass 2": 1e-3,
    "logits, pass 3": 1e-3,
    "score, pass 1": 1e-4,
    "scores, passes 2 and 3": 1e-4,
    "box": 0.0,
    "1 - IoU of final masks": 1e-3,
    "reference point (F)": 0.0,
    "weights (F)": 1e-4,
    "losses (F)": 1e-4,
    "points (F)": 0.0,
    "logits, pass 1 (F)": 1e-3,
    "boxes (F)": 0.0,
    "scores (F)": 1e-4,
    "logits, pass 3 (F)": 1e-3,
    "1 - IoU of final masks (F)": 1e-3,
}
# Quantities that go through an unguided pass of the seeded decoder.
CHAOTIC = (
    "logits, pass 2",
    "logits, pass 3",
    "scores, passes 2 and 3",
    "box",
    "1 - IoU of final masks",
    "weights (F)",
    "losses (F)",
    "logits, pass 1 (F)",
    "boxes (F)",
    "scores (F)",
    "logits, pass 3 (F)",
    "1 - IoU of final masks (F)",
)

# Key of a recorded number -> quantity.
QUANTITIES = {
    "ref_foreground": "foreground cells that differ",
    "target_embedding": "target embedding",
    "features_mean_std": "feature mean and std",
    "sim": "similarity",
    "points": "points",
    "attn": "guided attention",
    "logits1": "logits, pass 1",
    "scores1": "score, pass 1",
    "logits2": "logits, pass 2",
    "scores2": "scores, passes 2 and 3",
    "box": "box",
    "logits3": "logits, pass 3",
    "scores3": "scores, passes 2 and 3",
    "mask": "1 - IoU of final masks",
}
QUANTITIES_F = {
    "target_feat_f": "target feature (F)",
    "ref_point": "reference point (F)",
    "weights": "weights (F)",
    "losses": "losses (F)",
    "points": "points (F)",
    "logits1": "logits, pass 1 (F)",
    "box1": "boxes (F)",
    "scores2": "scores (F)",
    "box2": "boxes (F)",
    "logits3": "logits, pass 3 (F)",
    "scores3": "scores (F)",
    "mask": "1 - IoU of final masks (F)",
}


@dataclass
class Deviations:
    """Largest deviation of each quantity, and how many numbers were compared."""

    largest: dict[str, float] = field(default_factory=dict)
    compared: dict[str, int] = field(default_factory=dict)

    def add(self, quantity: str, ours: Any, recorded: Any) -> None:
        a, b = np.asarray(ours, dtype=np.float64), np.asarray(recorded, dtype=np.float64)
        if a.shape != b.shape:
            raise ValueError(f"{quantity}: ours is {a.shape}, the record {b.shape}")
        self.record(quantity, float(np.abs(a - b).max()), a.size)

    def record(self, quantity: str, deviation: float, count: int) -> None:
        self.largest[quantity] = max(self.largest.get(quantity, 0.0), deviation)
        self.compared[quantity] = self.compared.get(quantity, 0) + count

    def failures(self, floor: Deviations | None = None) -> list[str]:
        """Quantities beyond their tolerance and, where they may, beyond the rounding floor."""
        limits = dict(TOLERANCES)
        for quantity in CHAOTIC if floor else ():
            noise = floor.largest[quantity] if floor else 0.0
            limits[quantity] = max(limits[quantity], FLOOR_FACTOR * noise)
        return [q for q, limit in limits.items() if not self.largest.get(q, np.inf) <= limit]


@dataclass(frozen=True)
class Item:
    """One recorded number: where it is recorded, and our value."""

    key: str
    value: Array

    @property
    def quantity(self) -> str:
        """What it is called in the table."""
        last = self.key.rsplit("/", 1)[-1]
        tuned = "/F/" in self.key or last == "target_feat_f"
        return (QUANTITIES_F if tuned else QUANTITIES)[last]


def compute(golden: Golden, nudge: int | None = None) -> list[Item]:
    """Everything that is recorded, in our own numbers.

    Args:
        golden: where the embeddings come from.
        nudge: seed of a nudge to every number of every embedding, or None for none.
    """
    items: list[Item] = []
    for name in OBJECTS:
        embeddings = {photo: golden.embedding(name, photo, nudge) for photo in PHOTOS}
        mask = golden.mask(name)
        reference = Reference(np.zeros((*mask.shape, 3), np.uint8), mask=mask)
        items += _persam(golden, name, reference, embeddings)
        items += _persam_f(golden, name, reference, embeddings)
    return items


def compare(golden: Golden, ours: list[Item]) -> Deviations:
    """Our numbers against the recorded ones."""
    found = Deviations()
    for item in ours:
        recorded = golden[item.key]
        if item.key.endswith("mask"):
            bits = np.unpackbits(recorded)[: item.value.size].reshape(item.value.shape)
            found.record(item.quantity, 1 - float(iou(item.value, bits > 0)), item.value.size)
        else:
            found.add(item.quantity, item.value, recorded.reshape(item.value.shape))
    return found


@dataclass(frozen=True)
class Forced:
    """One unguided pass started from the recorded logits of the pass before it.

    Mean deviations of the logits: ours from the record; ours when those logits, recorded in
    float16, move by their rounding; and, for scale, ours without the mask prompt.
    """

    key: str
    deviation: float
    rounding: float
    without_mask: float
    overlap: float


def forced(golden: Golden) -> list[Forced]:
    """Passes 2 and 3 of PerSAM, each from the record (the full one; the copy is thinned)."""
    found = []
    for name in OBJECTS:
        for photo in PHOTOS:
            start = f"{name}/{photo}"
            embedding = golden.embedding(name, photo)
            for before, after, number in (("logits1", "logits2", 2), ("logits2", "logits3", 3)):
                record = golden[f"{start}/{after}"].astype(np.float32)
                token = 1 + int(golden[f"{start}/scores{number}"].argmax())
                given = golden[f"{start}/{before}"].reshape(record.shape).astype(np.float32)
                bits = np.random.default_rng(0).uniform(-(2.0**-11), 2.0**-11, given.shape)
                moved = (given * (1 + bits)).astype(np.float32)
                prompts = [
                    Prompt(
                        embedding,
                        golden[f"{start}/points"],
                        [1, 0],
                        golden[f"{start}/box"] if number == 3 else None,
                        mask,
                    )
                    for mask in (torch.from_numpy(given), torch.from_numpy(moved), None)
                ]
                ours, other, bare = (
                    decoded.logits[token].numpy() for decoded in golden.sam.decode(prompts)
                )
                found.append(
                    Forced(
                        f"{start}/{after}",
                        float(np.abs(ours - record).mean()),
                        float(np.abs(ours - other).mean()),
                        float(np.abs(bare - record).mean()),
                        float(iou(ours > 0, record > 0)),
                    )
                )
    return found


def rounding_floor(golden: Golden, ours: list[Item], nudges: int = NUDGES) -> Deviations:
    """Our numbers against our own on embeddings that differ by their rounding error."""
    found = Deviations()
    for seed in range(nudges):
        for item, other in zip(ours, compute(golden, seed), strict=True):
            if item.key.endswith("mask"):
                loss = 1 - float(iou(item.value, other.value))
                found.record(item.quantity, loss, item.value.size)
            else:
                found.add(item.quantity, item.value, other.value)
    return found


def control(golden: Golden) -> list[Item]:
    """The plain pipeline on segment_anything's own predictor (`released`), on this machine."""
    items = []
    for name in OBJECTS:
        folder = SHARED / "data/perseg_dev"
        photos = [load_photo(folder / "Images" / name / f"{photo}.jpg") for photo in PHOTOS]
        colours = np.asarray(Image.open(folder / "Annotations" / name / "00.png").convert("RGB"))
        found: dict[str, Array] = {}
        for photo, record in zip(
            PHOTOS, released.persam(golden.sam.sam, photos[0], colours, photos), strict=True
        ):
            found |= {f"{name}/{photo}/{key}": value for key, value in record.items()}
        tuned, records = released.persam_f(golden.sam.sam, photos[0], colours, photos)
        found[f"{name}/target_feat_f"] = tuned.pop("target_feat_f")
        found |= {f"{name}/F/{key}": value for key, value in tuned.items()}
        for photo, record in zip(PHOTOS, records, strict=True):
            found |= {f"{name}/{photo}/F/{key}": value for key, value in record.items()}
        items += [Item(key, value) for key, value in found.items()]
    return items


def _persam(
    golden: Golden, name: str, reference: Reference, embeddings: dict[str, ImageEmbedding]
) -> list[Item]:
    first = embeddings["00"]
    model = PerSAM(golden.sam, mode="reference").fit(reference, [first])
    if reference.channel is None:
        raise ValueError(f"{name}: the recorded numbers belong to a mask")
    cells = released_foreground(golden.sam, reference.channel)
    items = [
        Item(f"{name}/ref_foreground", cells.numpy()),
        Item(f"{name}/target_embedding", model.state.embeddings.numpy()),
    ]
    for photo, embedding in embeddings.items():
        features = embedding.features
        batch, outcome = model.trace(embedding)
        one, two, three = outcome.passes
        if batch.attention_bias is None or three.boxes is None:
            raise ValueError(f"{name}/{photo}: a part of the method did not run")
        named = {
            "features_mean_std": np.array([features.mean().item(), features.std().item()]),
            "sim": batch.similarity[0].numpy(),
            "points": batch.points[0],
            "attn": batch.attention_bias[0].numpy(),
            "logits1": golden.thin(one.logits.numpy()),
            "scores1": one.scores[0, :1].numpy(),
            "logits2": golden.thin(two.logits[0].numpy()),
            "scores2": two.scores[0].numpy(),
            "box": three.boxes[0],
            "logits3": golden.thin(three.logits[0].numpy()),
            "scores3": three.scores[0].numpy(),
            "mask": golden.thin_mask(model.predict_embeddings([embedding])[0].mask),
        }
        items += [Item(f"{name}/{photo}/{key}", value) for key, value in named.items()]
    return items


def _persam_f(
    golden: Golden, name: str, reference: Reference, embeddings: dict[str, ImageEmbedding]
) -> list[Item]:
    first = embeddings["00"]
    model = PerSAMF(golden.sam, mode="reference").fit(reference, [first])
    losses = np.array([(dice, focal) for _, dice, focal in model.tuning.losses])
    items = [
        Item(f"{name}/target_feat_f", model.state.targets.numpy()),
        Item(f"{name}/F/ref_point", model.locate([first])[0].points[0]),
        Item(f"{name}/F/weights", np.array(model.tuning.weights)[:, None]),
        Item(f"{name}/F/losses", losses),
    ]
    for photo, embedding in embeddings.items():
        batch, outcome = model.trace(embedding)
        one, two, three = outcome.passes
        if two.boxes is None or three.boxes is None:
            raise ValueError(f"{name}/{photo}: a pass had no box")
        named = {
            "points": batch.points[0],
            "logits1": golden.thin(one.logits[0].numpy()),
            "box1": two.boxes[0],
            "scores2": two.scores[0].numpy(),
            "box2": three.boxes[0],
            "logits3": golden.thin(three.logits[0].numpy()),
            "scores3": three.scores[0].numpy(),
            "mask": golden.thin_mask(model.predict_embeddings([embedding])[0].mask),
        }
        items += [Item(f"{name}/{photo}/F/{key}", value) for key, value in named.items()]
    return items


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare with the released pipeline's numbers.")
    parser.add_argument("--copy", action="store_true", help="use the copy in tests/data")
    parser.add_argument(
        "--control",
        action="store_true",
        help="also run the plain pipeline on this machine (minutes; needs the photos)",
    )
    options = parser.parse_args(arguments)
    golden = Golden(COPY if options.copy else None)
    print(f"{golden.path.name}, {'photos' if golden.from_photos else 'stored patch embeddings'}")
    ours = compute(golden)
    found, floor = compare(golden, ours), rounding_floor(golden, ours)
    columns = [found, floor]
    titles = f"{'quantity':28} {'numbers':>10} {'allowed':>9} {'deviation':>10} {'rounding':>10}"
    if options.control:
        columns.append(compare(golden, control(golden)))
        titles += f" {'control':>10}"
    print(titles)
    for quantity, limit in TOLERANCES.items():
        figures = " ".join(f"{c.largest.get(quantity, np.nan):10.1e}" for c in columns)
        print(f"{quantity:28} {found.compared[quantity]:10,} {limit:9.0e} {figures}")
    strict, failures = found.failures(), found.failures(floor)
    print("deviation: ours from the record. rounding: ours from ours when embeddings move by their")
    print("own rounding error. control: segment_anything's predictor from the record.")
    if golden.from_photos:
        print(
            f"{'one pass, from the record':28} {'mean dev.':>10} {'rounding':>10} "
            f"{'no mask':>10} {'IoU':>7}"
        )
        for one in forced(golden):
            print(
                f"{one.key:28} {one.deviation:10.1e} {one.rounding:10.1e} "
                f"{one.without_mask:10.1e} {one.overlap:7.3f}"
            )
    print(f"beyond tolerance: {', '.join(strict) or 'none'}")
    print(
        f"beyond {FLOOR_FACTOR:g} times the rounding floor as well: {', '.join(failures) or 'none'}"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
