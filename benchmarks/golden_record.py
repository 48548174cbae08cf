"""The recorded numbers of the released pipeline, and the embeddings they belong to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from fiftyone_persam.sam import ImageEmbedding, PromptableSam, load_sam

from .seeded import seeded_sam

Array = npt.NDArray[Any]

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared"
COPY = ROOT / "tests" / "data" / "golden_persam.npz"
OBJECTS = ("cat", "duck_toy")
PHOTOS = ("00", "01", "02")
STRIDE_LOGITS = 8
STRIDE_MASK = 4
# A float32 embedding's own error, relative.
NUDGE = 1e-6


class Golden:
    """The recorded numbers, and embeddings of the photos they were recorded on."""

    def __init__(self, path: Path | None = None) -> None:
        full = SHARED / "golden" / "persam_reference.npz"
        self.path = path or (full if full.is_file() else COPY)
        self.numbers = np.load(self.path, allow_pickle=False)
        self.sam = load_sam(seeded_sam(), dtype="float32")
        self._encoded: dict[tuple[str, str], ImageEmbedding] = {}
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

    def thin(self, logits: Array) -> Array:
        """(..., hm, wm) as dense as they are recorded."""
        return logits[..., :: self.strides[0], :: self.strides[0]]

    def thin_mask(self, mask: Array) -> Array:
        """(H, W) as dense as they are recorded."""
        return mask[:: self.strides[1], :: self.strides[1]]

    def embedding(self, name: str, photo: str, nudge: int | None = None) -> ImageEmbedding:
        """Embedding of a photo, or one that differs by rounding only where a seed is given."""
        if self.from_photos:
            path = SHARED / "data/perseg_dev/Images" / name / f"{photo}.jpg"
            if (name, photo) not in self._encoded:
                self._encoded[name, photo] = self.sam.encode([path])[0]
            exact = self._encoded[name, photo]
            if nudge is None:
                return exact
            noise = np.random.default_rng(nudge).standard_normal(exact.features.shape)
            factors = torch.from_numpy(1 + NUDGE * noise.astype(np.float32))
            return replace(exact, features=exact.features * factors)
        size = self.size(name, photo)
        features = encode_tokens(self.sam, self.tokens(name, photo, nudge))
        # All recorded photos are square.
        return ImageEmbedding(features, (1024, 1024), size, 1024)

    def tokens(self, name: str, photo: str, nudge: int | None = None) -> Array:
        """(64, 64, 64) patch embeddings of a photo, channels last; see `golden_copy`."""
        key = f"{name}/{photo}/tokens"
        low, middle, high = self[f"{key}/planes"]
        # The highest byte carries the sign.
        coded = low.astype(np.int32) + (middle.astype(np.int32) << 8)
        steps = (coded + (high.view(np.int8).astype(np.int32) << 16)).astype(np.float64)
        if nudge is not None:
            steps += np.random.default_rng(nudge).uniform(-0.5, 0.5, steps.shape)
        grid = (steps.T * self[f"{key}/step"]).astype(np.float32) @ self[f"{key}/basis"]
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
