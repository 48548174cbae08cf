"""Masks in half precision against masks in float32: IoU photo by photo.

    python -m benchmarks.precision --album ../shared/data/perseg_dev
    python -m benchmarks.precision --model sam_vit_h --device cuda --dtype float16 --layers

Each object is learnt from its first photo and segmented in the others, once in either precision.
``--layers`` tells besides how large the activations of the encoder's blocks become, layer by layer,
in float32: float16 ends at 65504. `--model` takes a published model whose checkpoint is there, too.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

import fiftyone_persam as fp
from benchmarks.album import read_album
from benchmarks.measuring import Figure, parser_of, run
from benchmarks.models import MODELS, random_sam
from fiftyone_persam.datasets import build_album
from fiftyone_persam.personalize import METHODS as REGISTRY

BAR = 0.995
LARGEST = 65504.0
"""Of float16."""
METHODS = {REGISTRY[name].title: REGISTRY[name] for name in ("persam", "persam_f")}


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    album = arguments.album or build_album(scratch / "album")
    models = {
        dtype: _model(arguments.model, arguments.device, dtype)
        for dtype in ("float32", arguments.dtype)
    }
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    taken = 0
    for photos in read_album(album):
        if taken >= arguments.photos:
            break
        targets = photos[1 : 1 + arguments.photos - taken]
        taken += len(targets)
        reference = fp.Reference(photos[0].image, mask=photos[0].mask)
        images = [photo.image for photo in [photos[0], *targets]]
        embeddings = {dtype: sam.encode(images, 1) for dtype, sam in models.items()}
        for name, method in METHODS.items():
            masks = []
            for dtype, sam in models.items():
                fitted = method(sam, presence_threshold=0).fit(reference, embeddings[dtype][:1])
                predictions = fitted.predict_embeddings(embeddings[dtype][1:])
                masks.append([prediction.mask for prediction in predictions])
            found[name] += [fp.iou(a, b) for a, b in zip(*masks, strict=True)]
    figures = _layers(models["float32"], images, arguments.model) if arguments.layers else []
    return figures + [
        Figure(
            f"mask IoU of {arguments.dtype} and float32, {arguments.model}, {name}",
            float(np.mean(values)),
            "",
            BAR,
            False,
            f"mean over {len(values)} photos; median {np.median(values):.4f}, "
            f"lowest {min(values):.4f}, {sum(value < BAR for value in values)} below {BAR}",
        )
        for name, values in found.items()
    ]


def _model(name: str, device: str, dtype: str) -> fp.PromptableSam:
    if name in MODELS:
        return random_sam(name, device, dtype)
    return fp.load_sam(name, device=device, dtype=dtype, download=False)


def _layers(sam: fp.PromptableSam, images: list[Any], name: str) -> list[Figure]:
    """The largest activation of each kind of layer in the encoder's blocks, and where it is."""
    largest: dict[str, list[float]] = defaultdict(list)
    hooks = []
    blocks = getattr(sam.sam.image_encoder, "blocks", ())
    for block in blocks:
        kinds = {"residual stream": block, "qkv": block.attn.qkv, "attention": block.attn.proj}
        kinds |= {"MLP's inside": block.mlp.lin1, "MLP": block.mlp.lin2}
        for kind, module in kinds.items():
            found = largest[kind]
            hooks.append(
                module.register_forward_hook(
                    lambda _, __, out, found=found: found.append(float(out.abs().max()))
                )
            )
    sam.encode(images[:1])
    for hook in hooks:
        hook.remove()
    return [
        Figure(
            f"largest activation, {name}, {kind}",
            max(values),
            "",
            LARGEST,
            True,
            "block by block: " + ", ".join(f"{value:.3g}" for value in values),
        )
        for kind, values in largest.items()
    ]


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=100, repeats=1)
    parser.add_argument("--model", default="sam_lite")
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    parser.add_argument("--layers", action="store_true")
    parser.add_argument("--device", default="auto")
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
