"""Models to measure the speed of, which does not depend on their weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from segment_anything.build_sam import build_sam_vit_b, build_sam_vit_h
from segment_anything.modeling import Sam

import fiftyone_persam as fp
from benchmarks.seeded import small_sam

_BUILDERS: dict[str, Callable[[], Sam]] = {
    "tiny": small_sam,
    "vit_b": build_sam_vit_b,
    "vit_h": build_sam_vit_h,
}
MODELS = ("sam_lite", *_BUILDERS)


def random_sam(
    name: str, device: str = "auto", dtype: str | torch.dtype = "auto"
) -> fp.PromptableSam:
    """sam_lite as it ships, or a ViT (or a tiny model of the same kind) with random weights."""
    if name == "sam_lite":
        return fp.load_sam(name, device=device, dtype=dtype)
    torch.manual_seed(0)
    where = "cuda" if device == "auto" and torch.cuda.is_available() else device
    with torch.device("cpu" if where == "auto" else where):
        sam = _BUILDERS[name]()
    return fp.load_sam(sam, device=where, dtype=dtype)
