"""The demo: an album, one reference per object, PerSAM and PerSAM-F, their scores, one picture."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from ..engine import MemoryCache
from ..errors import PersamError
from ..metrics import PerSegScores
from ..sam import load_photo
from . import runs
from .evaluation import evaluate
from .label_shapes import label_mask
from .segmentation import segment

DATASET = "persam-demo"
METHODS = {"persam": "PerSAM", "persam_f": "PerSAM-F"}
PUBLISHED = {"persam": (89.3, 71.7), "persam_f": (95.3, 77.9)}
"""mIoU and bIoU on PerSeg with ViT-H (Zhang et al. 2023, tables 1 and 4)."""

TILE = 200
GAP = 6
ORANGE = np.array([255, 109, 4], np.float32)


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes:
        dataset: name of the dataset, with both runs and evaluations.
        scores: by method.
        table: the scores as text.
        picture: file of the picture.
    """

    dataset: str
    scores: dict[str, PerSegScores]
    table: str
    picture: Path


def run_demo(
    out_dir: str | os.PathLike[str],
    perseg_dir: str | os.PathLike[str] | None = None,
    model: str = "sam_lite",
    device: str = "auto",
    name: str = DATASET,
    progress: bool | None = None,
) -> Demo:
    """Build an album (or take PerSeg), segment it from one photo per object, and score it.

    Args:
        out_dir: where the album and the picture go.
        perseg_dir: PerSeg, or another album in its layout; the demo's own album if None.
        model: see `load_sam`.
        device: see `load_sam`.
        name: the dataset's name; one that an earlier demo left is replaced.
        progress: whether to show progress bars; FiftyOne's own setting if None.

    Raises:
        PersamError: a dataset of that name is there and not of a demo, or the album is unusable.
    """
    out = Path(out_dir).expanduser().absolute()
    album = _album(out) if perseg_dir is None else Path(perseg_dir).expanduser().absolute()
    dataset = _import(album, name)
    references = dataset.match(fo.ViewField("role") == "reference")
    cache = MemoryCache()  # the second method needs no encoding
    scores = {}
    for method in METHODS:
        run = segment(
            dataset,
            references,
            method=method,
            model=model,
            device=device,
            out_field=method,
            group_by="object",
            similarity=True,
            cache=cache,
            progress=progress,
        )
        if run.errors:
            reason = next(iter(run.errors.values()))
            raise PersamError(f"{len(run.errors)} photos of {album} failed, first: {reason}")
        results = evaluate(
            dataset, method, eval_key=f"{method}_eval", group_by="object", progress=False
        )
        scores[method] = results.scores
    picture = out / "demo.png"
    out.mkdir(parents=True, exist_ok=True)
    draw_picture(dataset, "persam_f").save(picture)
    return Demo(name, scores, format_table(scores, published=perseg_dir is not None), picture)


def format_table(scores: dict[str, PerSegScores], published: bool = False) -> str:
    """IoU and boundary IoU of several methods side by side, in percent.

    Args:
        scores: by method.
        published: add the paper's numbers.
    """
    first = next(iter(scores.values()))
    names = [row.name for row in first.objects]
    last = ["mean over objects", "mean over photos", "published (ViT-H)"]
    width = max(len(name) for name in [*names, *last])
    head = " " * width + "  photos" + "".join(f"{METHODS[m]:>18}" for m in scores)
    under = " " * (width + 8) + "".join(f"{'IoU':>10}{'bIoU':>8}" for _ in scores)
    rule = "-" * len(head)

    def line(name: str, photos: str, pairs: Sequence[tuple[float, float]]) -> str:
        cells = "".join(f"{iou:>10.1f}{biou:>8.1f}" for iou, biou in pairs)
        return f"{name:<{width}}{photos:>8}{cells}"

    lines = [head, under, rule]
    for index, name in enumerate(names):
        rows = [one.objects[index] for one in scores.values()]
        pairs = [(100 * row.iou, 100 * row.boundary_iou) for row in rows]
        lines.append(line(name, str(rows[0].photos), pairs))
    lines.append(rule)
    over_objects = [(100 * s.miou, 100 * s.mean_boundary_iou) for s in scores.values()]
    over_photos = [(100 * s.photo_miou, 100 * s.photo_mean_boundary_iou) for s in scores.values()]
    lines.append(line(last[0], str(first.photos), over_objects))
    lines.append(line(last[1], str(first.photos), over_photos))
    if published:
        lines.append(line(last[2], "", [PUBLISHED[method] for method in scores]))
    return "\n".join(lines)


def draw_picture(dataset: Any, run: str, targets: int = 3, objects: int = 6) -> Image.Image:
    """One row per object: its reference, then photos with the mask found and the similarity map.

    Args:
        dataset: with ``object``, ``role`` and ``ground_truth``, as `PerSegDataset` gives them.
        run: a run that has similarity maps.
        targets: photos per object.
        objects: rows at most.
    """
    rows = []
    for name in sorted(dataset.distinct("object"))[:objects]:
        photos = dataset.match(fo.ViewField("object") == name)
        reference = photos.match(fo.ViewField("role") == "reference").first()
        tiles = [_masked(reference, "ground_truth", f"{name}: reference")]
        for sample in photos.match(fo.ViewField("role") != "reference").limit(targets):
            score = sample[f"{run}_score"] or 0.0
            tiles.append(_masked(sample, run, f"found, score {score:.2f}"))
            tiles.append(_heat(sample, f"{run}_similarity"))
        rows.append(tiles)
    columns = max(len(tiles) for tiles in rows)
    size = (columns * (TILE + GAP) + GAP, len(rows) * (TILE + GAP) + GAP)
    canvas = Image.new("RGB", size, (255, 255, 255))
    for row, tiles in enumerate(rows):
        for column, tile in enumerate(tiles):
            canvas.paste(tile, (GAP + column * (TILE + GAP), GAP + row * (TILE + GAP)))
    return canvas


# ----------------------------------------------------------------------------------------------


def _album(out: Path) -> Path:
    from ..datasets import build_album

    album = out / "album"
    return album if (album / "Images").is_dir() else build_album(album)


def _import(album: Path, name: str) -> Any:
    from ..datasets import PerSegDataset

    made_by = {"made_by": f"{runs.TOOL} demo"}
    if fo.dataset_exists(name):
        old = fo.load_dataset(name)
        if old.info.get("made_by") != made_by["made_by"]:
            raise PersamError(f"there is a dataset {name!r} that no demo has made: rename it")
        for run in runs.run_names(old):
            runs.delete_run(old, run)
        old.delete()
    dataset = fo.Dataset.from_dir(dataset_dir=str(album), dataset_type=PerSegDataset, name=name)
    dataset.info.update(made_by)
    dataset.persistent = True
    dataset.save()
    return dataset


def _masked(sample: Any, field: str, caption: str) -> Image.Image:
    photo = load_photo(sample.filepath)
    mask = label_mask(sample, sample[field], sample.filepath, size=photo.shape[:2])
    tinted = photo.astype(np.float32)
    tinted[mask] = 0.5 * tinted[mask] + 0.5 * ORANGE
    return _tile(tinted.astype(np.uint8), caption)


def _heat(sample: Any, field: str) -> Image.Image:
    photo = load_photo(sample.filepath)
    heat = np.asarray(sample[field].map, np.float32)
    low, high = float(heat.min()), float(heat.max())
    grey = (heat - low) / max(high - low, 1.0) * 255
    full = Image.fromarray(grey.astype(np.uint8)).resize(photo.shape[1::-1])
    weight = np.asarray(full, np.float32)[..., None] / 255
    cold, hot = np.array([20, 30, 90], np.float32), np.array([255, 225, 60], np.float32)
    colours = cold + (hot - cold) * weight
    return _tile((0.3 * photo + 0.7 * colours).astype(np.uint8), "similarity")


def _tile(pixels: npt.NDArray[np.uint8], caption: str) -> Image.Image:
    picture = Image.fromarray(pixels)
    picture.thumbnail((TILE, TILE - 16))
    tile = Image.new("RGB", (TILE, TILE), (255, 255, 255))
    tile.paste(picture, ((TILE - picture.width) // 2, 16 + (TILE - 16 - picture.height) // 2))
    ImageDraw.Draw(tile).text((2, 2), caption, fill=(40, 40, 40))
    return tile
