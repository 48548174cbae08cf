"""Make the copy of the recorded numbers that lies in the repository: ``python -m
benchmarks.golden_copy``.

The photos stay where they are. What the copy holds instead of each photo is its patch embedding,
the input of the seeded encoder's first block: turned to its principal axes, rounded to a step, and
stored in byte planes. Maps are thinned: every eighth logit, every fourth mask pixel. The recorded
numbers themselves are taken over as they are.
"""

from __future__ import annotations

import sys

import numpy as np
import torch

from .golden_record import (
    COPY,
    OBJECTS,
    PHOTOS,
    SHARED,
    STRIDE_LOGITS,
    STRIDE_MASK,
    Array,
    Golden,
    read_mask,
)

STEP = 1e-4
_PLANES = 3


def pack_tokens(tokens: Array) -> dict[str, Array]:
    """(h, w, c) float -> what `unpack_tokens` in `golden_record` needs."""
    flat = tokens.reshape(-1, tokens.shape[-1])
    mean = flat.mean(axis=0)
    _, _, basis = np.linalg.svd(flat - mean, full_matrices=False)
    coded = np.round((flat - mean) @ basis.T / STEP).astype(np.int32).T
    # Component by component and byte by byte, so that the outer planes are nearly constant.
    planes = [(coded >> (8 * k)).astype(np.uint8) for k in range(_PLANES)]
    return {
        "planes": np.stack(planes),
        "basis": basis.astype(np.float32),
        "mean": mean.astype(np.float32),
        "step": np.float32(STEP),
    }


def thinned(golden: Golden) -> dict[str, Array]:
    """The recorded numbers as the copy has them, by their keys.

    Args:
        golden: the full record.
    """
    copied: dict[str, Array] = {}
    for key in golden.numbers.files:
        value = golden[key]
        last = key.rsplit("/", 1)[-1]
        if last.startswith("logits"):
            value = value[..., ::STRIDE_LOGITS, ::STRIDE_LOGITS]
        elif last == "mask":
            height, width = golden.size(*key.split("/")[:2])
            full = np.unpackbits(value)[: height * width].reshape(height, width)
            value = np.packbits(full[::STRIDE_MASK, ::STRIDE_MASK])
        copied[key] = value
    for name in OBJECTS:
        copied[f"{name}/ref_mask"] = np.packbits(read_mask(name))
    return copied


@torch.inference_mode()
def patch_embedding(golden: Golden, name: str, photo: str) -> Array:
    """(64, 64, 64) of a photo, channels last: the input of the encoder's first block."""
    path = SHARED / "data/perseg_dev/Images" / name / f"{photo}.jpg"
    resized, _ = golden.sam.load_and_resize(path)
    tokens = golden.sam.sam.image_encoder.patch_embed(golden.sam.preprocess([resized]))
    return np.asarray(tokens[0])


def main() -> int:
    golden = Golden(SHARED / "golden" / "persam_reference.npz")
    copied = thinned(golden)
    for name in OBJECTS:
        for photo in PHOTOS:
            packed = pack_tokens(patch_embedding(golden, name, photo))
            copied |= {f"{name}/{photo}/tokens/{part}": value for part, value in packed.items()}
    np.savez_compressed(COPY, **copied)  # type: ignore[arg-type]
    print(f"{COPY.name}: {COPY.stat().st_size:,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
