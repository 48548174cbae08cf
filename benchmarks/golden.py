"""How far mode="reference" is from the released PerSAM pipeline: ``python -m benchmarks.golden``.

Compares every recorded number of ``../shared/golden`` (or of the copy in ``tests/data``, which
needs no photos) and prints the largest deviation of each quantity with its tolerance. The SAM that
the numbers belong to has seeded weights: each depends on its name and shape alone.

Those weights make the decoder's attention a hard choice between near ties (the rule gives every
``cross_attn_token_to_image`` projection, whose name has "token" in it, eight times the usual
scale), except where the guided attention of pass 1 smooths it. All other passes therefore turn the
last bit of a float32 embedding into visible differences, and the recorded numbers themselves are
as far from a float64 computation as ours are. So every quantity gets a second measure: its
rounding floor, the deviation from ourselves when each number of the embedding is moved by about
one part in a million, which is the embedding's own float32 error. A quantity passes if it keeps
its tolerance, or, where it depends on an unguided pass, a small multiple of that floor.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from segment_anything.modeling import (
    ImageEncoderViT,
    MaskDecoder,
    PromptEncoder,
    Sam,
    TwoWayTransformer,
)
from torch import nn

from fiftyone_persam.metrics import iou
from fiftyone_persam.personalize import PerSAM, PerSAMF, Reference
from fiftyone_persam.personalize.prior import released_foreground
from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
COPY = ROOT / "tests" / "data" / "golden_persam.npz"
OBJECTS = ("cat", "duck_toy")
PHOTOS = ("00", "01", "02")
STRIDE_LOGITS = 8
STRIDE_MASK = 4

NUDGE = 1e-6
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


class Golden:
    """The recorded numbers, and embeddings of the photos they were recorded on."""

    def __init__(self, path: Path | None = None) -> None:
        full = SHARED / "golden" / "persam_reference.npz"
        self.path = path or (full if full.is_file() else COPY)
        self.numbers = np.load(self.path, allow_pickle=False)
        self.sam = load_sam(seeded_sam(), dtype="float32")
        self.from_photos = f"{OBJECTS[0]}/ref_mask" not in self.numbers
        # The copy is thinned.
        self.strides = (1, 1) if self.from_photos else (STRIDE_LOGITS, STRIDE_MASK)

    def __getitem__(self, key: str) -> Array:
        return self.numbers[key]

    def size(self, name: str, photo: str) -> tuple[int, int]:
        height, width = self[f"{name}/{photo}/size"]
        return int(height), int(width)

    def mask(self, name: str) -> Array:
        """Reference mask (H, W) bool."""
        if self.from_photos:
            return read_mask(name)
        height, width = self.size(name, "00")
        bits = np.unpackbits(self[f"{name}/ref_mask"])[: height * width]
        return bits.reshape(height, width).astype(bool)

    def embedding(self, name: str, photo: str) -> ImageEmbedding:
        if self.from_photos:
            return self.sam.encode([SHARED / "data/perseg_dev/Images" / name / f"{photo}.jpg"])[0]
        size = self.size(name, photo)
        features = encode_tokens(self.sam, self.tokens(name, photo))
        # All recorded photos are square.
        return ImageEmbedding(features, (1024, 1024), size, 1024)

    def tokens(self, name: str, photo: str) -> Array:
        """(64, 64, 64) patch embeddings of a photo, channels last; see `golden_copy`."""
        key = f"{name}/{photo}/tokens"
        low, middle, high = self[f"{key}/planes"]
        # The highest byte carries the sign.
        coded = low.astype(np.int32) + (middle.astype(np.int32) << 8)
        coded += high.view(np.int8).astype(np.int32) << 16
        grid = (coded.T * self[f"{key}/step"]).astype(np.float32) @ self[f"{key}/basis"]
        return (grid + self[f"{key}/mean"]).reshape(64, 64, 64)


def read_mask(name: str) -> Array:
    path = SHARED / "data/perseg_dev/Annotations" / name / "00.png"
    return np.asarray(Image.open(path).convert("RGB"))[:, :, 0] > 0


@torch.inference_mode()
def encode_tokens(sam: PromptableSam, tokens: Array) -> torch.Tensor:
    """Patch embeddings (h, w, c) -> image embedding (C, h, w)."""
    encoder = sam.sam.image_encoder
    x = torch.from_numpy(tokens.astype(np.float32))[None] + encoder.pos_embed
    for block in encoder.blocks:
        x = block(x)
    return encoder.neck(x.permute(0, 3, 1, 2))[0]


@dataclass(frozen=True)
class Item:
    """One quantity of one photo or object: its name, where it is recorded, our value."""

    quantity: str
    key: str
    value: Array


def compute(golden: Golden, nudge: int | None = None) -> list[Item]:
    """Everything that is recorded, in our own numbers.

    Args:
        golden: where the embeddings come from.
        nudge: seed of a nudge to every number of every embedding, or None for none.
    """
    items: list[Item] = []
    for name in OBJECTS:
        embeddings = {photo: golden.embedding(name, photo) for photo in PHOTOS}
        if nudge is not None:
            embeddings = {photo: _nudged(e, nudge) for photo, e in embeddings.items()}
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


def rounding_floor(golden: Golden, ours: list[Item]) -> Deviations:
    """Our numbers against our own on embeddings that differ by their rounding error."""
    found = Deviations()
    for seed in range(NUDGES):
        for item, other in zip(ours, compute(golden, seed), strict=True):
            if item.key.endswith("mask"):
                loss = 1 - float(iou(item.value, other.value))
                found.record(item.quantity, loss, item.value.size)
            else:
                found.add(item.quantity, item.value, other.value)
    return found


def _nudged(embedding: ImageEmbedding, seed: int) -> ImageEmbedding:
    noise = torch.randn(embedding.features.shape, generator=torch.Generator().manual_seed(seed))
    return replace(embedding, features=embedding.features * (1 + NUDGE * noise))


def _persam(
    golden: Golden, name: str, reference: Reference, embeddings: dict[str, ImageEmbedding]
) -> list[Item]:
    first = embeddings["00"]
    model = PerSAM(golden.sam, mode="reference").fit(reference, [first])
    assert reference.mask is not None
    cells = released_foreground(golden.sam, reference.mask, reference.mask_value)
    target = model.state.embeddings.numpy()
    items = [
        Item("foreground cells that differ", f"{name}/ref_foreground", cells.numpy()),
        Item("target embedding", f"{name}/target_embedding", target),
    ]
    thin, thin_mask = golden.strides
    for photo, embedding in embeddings.items():
        features = embedding.features
        moments = np.array([features.mean().item(), features.std().item()])
        batch, outcome = model.trace(embedding)
        assert batch.attention_bias is not None
        one, two, three = outcome.passes
        assert three.boxes is not None
        final = model.predict_embeddings([embedding])[0].mask[::thin_mask, ::thin_mask]
        named = {
            "features_mean_std": ("feature mean and std", moments),
            "sim": ("similarity", batch.similarity[0].numpy()),
            "points": ("points", batch.points[0]),
            "attn": ("guided attention", batch.attention_bias[0].numpy()),
            "logits1": ("logits, pass 1", one.logits[:, ::thin, ::thin].numpy()),
            "scores1": ("score, pass 1", one.scores[0, :1].numpy()),
            "logits2": ("logits, pass 2", two.logits[0, ::thin, ::thin].numpy()),
            "scores2": ("scores, passes 2 and 3", two.scores[0].numpy()),
            "box": ("box", three.boxes[0]),
            "logits3": ("logits, pass 3", three.logits[0, ::thin, ::thin].numpy()),
            "scores3": ("scores, passes 2 and 3", three.scores[0].numpy()),
            "mask": ("1 - IoU of final masks", final),
        }
        items += [Item(q, f"{name}/{photo}/{key}", value) for key, (q, value) in named.items()]
    return items


def _persam_f(
    golden: Golden, name: str, reference: Reference, embeddings: dict[str, ImageEmbedding]
) -> list[Item]:
    first = embeddings["00"]
    model = PerSAMF(golden.sam, mode="reference").fit(reference, [first])
    losses = np.array([(dice, focal) for _, dice, focal in model.tuning.losses])
    items = [
        Item("target feature (F)", f"{name}/target_feat_f", model.state.targets.numpy()),
        Item("reference point (F)", f"{name}/F/ref_point", model.locate([first])[0].points[0]),
        Item("weights (F)", f"{name}/F/weights", np.array(model.tuning.weights)[:, None]),
        Item("losses (F)", f"{name}/F/losses", losses),
    ]
    thin, thin_mask = golden.strides
    for photo, embedding in embeddings.items():
        batch, outcome = model.trace(embedding)
        one, two, three = outcome.passes
        assert two.boxes is not None and three.boxes is not None
        final = model.predict_embeddings([embedding])[0].mask[::thin_mask, ::thin_mask]
        named = {
            "points": ("points (F)", batch.points[0]),
            "logits1": ("logits, pass 1 (F)", one.logits[0, ::thin, ::thin].numpy()),
            "box1": ("boxes (F)", two.boxes[0]),
            "scores2": ("scores (F)", two.scores[0].numpy()),
            "box2": ("boxes (F)", three.boxes[0]),
            "logits3": ("logits, pass 3 (F)", three.logits[0, ::thin, ::thin].numpy()),
            "scores3": ("scores (F)", three.scores[0].numpy()),
            "mask": ("1 - IoU of final masks (F)", final),
        }
        items += [Item(q, f"{name}/{photo}/F/{key}", value) for key, (q, value) in named.items()]
    return items


def seeded_sam() -> Sam:
    """The small SAM whose every weight depends on its name and shape alone."""
    sam = Sam(
        image_encoder=ImageEncoderViT(
            depth=2,
            embed_dim=64,
            img_size=1024,
            mlp_ratio=4,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            num_heads=2,
            patch_size=16,
            qkv_bias=True,
            use_rel_pos=True,
            global_attn_indexes=(1,),
            window_size=14,
            out_chans=256,
        ),
        prompt_encoder=PromptEncoder(256, (64, 64), (1024, 1024), mask_in_chans=16),
        mask_decoder=MaskDecoder(
            num_multimask_outputs=3,
            transformer=TwoWayTransformer(depth=2, embedding_dim=256, mlp_dim=2048, num_heads=8),
            transformer_dim=256,
            iou_head_depth=3,
            iou_head_hidden_dim=256,
        ),
    )
    shapes = {name: tuple(tensor.shape) for name, tensor in sam.state_dict().items()}
    sam.load_state_dict({name: torch.from_numpy(w) for name, w in seeded_weights(shapes)})
    return sam.eval()


def seeded_weights(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Array]]:
    """The rule of the recorded numbers' README, for each name and shape."""
    for name, shape in shapes.items():
        generator = np.random.default_rng(zlib.crc32(name.encode()))
        w = generator.standard_normal(shape).astype(np.float32)
        if name.endswith("num_batches_tracked"):
            yield name, np.zeros(shape, np.int64)
        elif name.endswith("running_var"):
            yield name, 1 + 0.02 * np.abs(w)
        elif len(shape) <= 1:
            yield name, (w * 0.02 + float(name.endswith("weight"))).astype(np.float32)
        elif "gaussian" in name:
            yield name, w
        elif "attention_biases" in name:
            yield name, w * np.float32(0.1)
        elif any(part in name for part in ("embedding", "token", "pos_embed", "rel_pos")):
            yield name, w * np.float32(0.5)
        else:
            yield name, w / np.float32(np.sqrt(np.prod(shape[1:])))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Compare with the released pipeline's numbers.")
    parser.add_argument("--copy", action="store_true", help="use the copy in tests/data")
    options = parser.parse_args(arguments)
    golden = Golden(COPY if options.copy else None)
    print(f"{golden.path.name}, {'photos' if golden.from_photos else 'stored patch embeddings'}")
    ours = compute(golden)
    found, floor = compare(golden, ours), rounding_floor(golden, ours)
    print(
        f"{'quantity':30} {'deviation':>10} {'allowed':>9} {'rounding floor':>15} {'numbers':>11}"
    )
    for quantity, limit in TOLERANCES.items():
        noise = f"{floor.largest[quantity]:15.1e}" if quantity in CHAOTIC else " " * 15
        print(
            f"{quantity:30} {found.largest[quantity]:10.1e} {limit:9.0e} {noise} "
            f"{found.compared[quantity]:11,}"
        )
    strict, failures = found.failures(), found.failures(floor)
    print(f"beyond tolerance: {', '.join(strict) or 'none'}")
    print(
        f"of these beyond {FLOOR_FACTOR:g} times the rounding floor: {', '.join(failures) or 'none'}"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
