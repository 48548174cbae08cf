"""Accuracy and time of a model on an album in PerSeg's layout.

    python -m benchmarks.accuracy ../shared/data/perseg_dev --model sam_lite

For each object the first photo is the reference and the others are measured: PerSAM and PerSAM-F in
both modes (IoU and boundary IoU summed over the object's photos, then averaged over objects), masks
from one point inside the object and from its box, how often the location prior's two points are
right, and seconds per photo.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

import fiftyone_persam as fp
from benchmarks.album import Photo, read_album
from fiftyone_persam.metrics import PerSegAccumulator
from fiftyone_persam.personalize import METHODS as REGISTRY
from fiftyone_persam.sam.lite import build_sam_lite
from fiftyone_persam.sam.model import ImageEmbedding, Prompt, PromptableSam

METHODS: dict[str, tuple[Any, str]] = {
    **{name: (REGISTRY[name], "corrected") for name in ("persam", "persam_f")},
    **{f"{name}/reference": (REGISTRY[name], "reference") for name in ("persam", "persam_f")},
}


def prompted_mask(
    sam: PromptableSam, embedding: ImageEmbedding, truth: npt.NDArray[np.bool_], kind: str
) -> npt.NDArray[np.bool_]:
    """The mask from one point (the best of three scales) or the tight box (the single mask)."""
    if kind == "point":
        distance = cv2.distanceTransform(np.pad(truth, 1).astype(np.uint8), cv2.DIST_L2, 5)[
            1:-1, 1:-1
        ]
        y, x = np.unravel_index(int(distance.argmax()), truth.shape)
        prompt = Prompt(embedding, points=np.array([[x, y]]), labels=np.array([1]))
    else:
        ys, xs = truth.nonzero()
        prompt = Prompt(embedding, box=np.array([xs.min(), ys.min(), xs.max(), ys.max()]))
    decoded = sam.decode([prompt])[0]
    index = 0 if kind == "box" else 1 + int(decoded.scores[1:].argmax())
    logits = sam.upscale(decoded.logits[index : index + 1], embedding)
    return (logits[0] > 0).cpu().numpy()


def measure_object(
    sam: PromptableSam, photos: list[Photo], totals: dict[str, PerSegAccumulator]
) -> dict[str, float]:
    """Update the accumulators with one object's photos and return its hit rates and seconds."""
    reference, targets = photos[0], photos[1:]
    started = time.perf_counter()
    embeddings = [embedding for photo in targets for embedding in sam.encode([photo.image])]
    row = {"encode_s": (time.perf_counter() - started) / len(targets)}
    for name, (method, mode) in METHODS.items():
        fitted = method(sam, mode=mode).fit(fp.Reference(reference.image, mask=reference.mask))
        started = time.perf_counter()
        predictions = [fitted.predict_embeddings([embedding])[0] for embedding in embeddings]
        row[f"{name}_s"] = (time.perf_counter() - started) / len(targets)
        for photo, prediction in zip(targets, predictions, strict=True):
            totals[name].update(photo.object, prediction.mask, photo.mask)
        if name == "persam":
            hits = [
                [
                    bool(photo.mask[int(y), int(x)]) == bool(label)
                    for (x, y), label in zip(p.points, p.labels, strict=True)
                ]
                for photo, p in zip(targets, predictions, strict=True)
            ]
            row["positive_hits"] = float(np.mean([hit[0] for hit in hits]))
            row["negative_hits"] = float(np.mean([hit[1] for hit in hits]))
            row["presence_min"] = float(min(p.presence for p in predictions))
    for photo, embedding in zip(targets, embeddings, strict=True):
        for kind in ("point", "box"):
            totals[kind].update(
                photo.object, prompted_mask(sam, embedding, photo.mask, kind), photo.mask
            )
    return row


def load_model(name: str) -> PromptableSam:
    """A model by name, or a sam_lite checkpoint by file."""
    if not name.endswith(".safetensors"):
        return fp.load_sam(name)
    sam = build_sam_lite()
    sam.load_state_dict({key: tensor.float() for key, tensor in load_file(name).items()})
    return fp.load_sam(sam.eval())


def album_parser(description: str | None, optional: bool = False) -> argparse.ArgumentParser:
    """The arguments of a benchmark that looks at masks: an album, if need be, and a model."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("album", type=Path, nargs="?" if optional else None)
    parser.add_argument(
        "--model", default="sam_lite", help="a model's name or a sam_lite .safetensors file"
    )
    return parser


def main() -> None:
    parser = album_parser(__doc__)
    parser.add_argument("--objects", nargs="*")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    arguments = parser.parse_args()
    sam = load_model(arguments.model)
    totals: dict[str, PerSegAccumulator] = defaultdict(PerSegAccumulator)
    rows: dict[str, dict[str, float]] = {}
    for photos in read_album(arguments.album, arguments.objects):
        rows[photos[0].object] = measure_object(sam, photos, totals)
    report(totals, rows, arguments.json)


def report(
    totals: dict[str, PerSegAccumulator], rows: dict[str, dict[str, float]], path: Path | None
) -> None:
    """Print the table per object and the means; optionally write them as JSON."""
    scores = {name: total.compute() for name, total in totals.items()}
    kinds = [name for name in ("persam", "persam_f", "point", "box", *METHODS) if name in scores]
    kinds = list(dict.fromkeys(kinds))
    print(
        f"{'object':16}"
        + "".join(f"{kind:>20}" for kind in kinds)
        + "   hits +/-   presence  encode s"
    )
    figures = {kind: {row.name: row for row in scores[kind].objects} for kind in kinds}
    for name, row in rows.items():
        cells = "".join(
            f"{figures[k][name].iou:>11.3f} / {figures[k][name].boundary_iou:.3f} " for k in kinds
        )
        hits = f"{row['positive_hits']:.2f} {row['negative_hits']:.2f}"
        print(f"{name:16}{cells}   {hits}   {row['presence_min']:.2f}     {row['encode_s']:.3f}")
    means = "".join(f"{scores[k].miou:>11.3f} / {scores[k].mean_boundary_iou:.3f} " for k in kinds)
    average = {
        key: float(np.mean([row[key] for row in rows.values()]))
        for key in next(iter(rows.values()))
    }
    print(f"{'mean':16}{means}   {average['positive_hits']:.2f} {average['negative_hits']:.2f}")
    print(", ".join(f"{key} {value:.3f}" for key, value in average.items() if key.endswith("_s")))
    print(f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    if path is not None:
        summary = {
            k: {"mIoU": scores[k].miou, "bIoU": scores[k].mean_boundary_iou} for k in kinds
        } | {"mean": average}
        path.write_text(json.dumps({"summary": summary, "objects": rows}, indent=1))


if __name__ == "__main__":
    main()
