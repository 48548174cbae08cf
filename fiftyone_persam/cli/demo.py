"""The demo: an album, one reference per object, PerSAM and PerSAM-F, their scores, one picture."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone as fo

from ..curation import lifecycle
from ..curation.evaluation.evaluate import evaluate
from ..curation.handover.importing import import_perseg
from ..curation.runs import naming
from ..curation.segmentation.segment import segment
from ..engine import MemoryCache
from ..errors import PersamError
from ..metrics import PerSegScores
from ..personalize import method_info
from .demo_picture import draw_picture, save_picture

DATASET = "persam-demo"
PUBLISHED = {"persam": (89.3, 71.7), "persam_f": (95.3, 77.9)}
"""The demo's methods: mIoU and bIoU on PerSeg with ViT-H (Zhang et al. 2023, tables 1 and 4)."""
PICTURED = ("cat", "cup", "flower")
"""Objects of the demo's own album in the picture: those whose photos state a free licence."""
MADE_BY = f"{naming.TOOL} demo"


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes:
        dataset: name of the dataset, with both runs and evaluations.
        scores: by method.
        seconds: by method, for learning the objects and segmenting all photos.
        table: scores and seconds as text.
        picture: file of the picture.
    """

    dataset: str
    scores: dict[str, PerSegScores]
    seconds: dict[str, float]
    table: str
    picture: Path


def run_demo(
    out_dir: str | os.PathLike[str],
    perseg_dir: str | os.PathLike[str] | None = None,
    model: str = "sam_lite",
    device: str = "auto",
    name: str = DATASET,
    progress: bool | None = None,
    say: Callable[[str], Any] = lambda text: None,
) -> Demo:
    """Build an album (or take PerSeg), segment it from one photo per object, and score it.

    Args:
        out_dir: where the album and the picture go.
        perseg_dir: PerSeg, or another album in its layout; the demo's own album if None.
        model: see `load_sam`.
        device: see `load_sam`.
        name: the dataset's name; one that an earlier demo left is replaced.
        progress: whether to show progress bars; FiftyOne's own setting if None.
        say: is told what happens next, a line at a time.

    Raises:
        PersamError: a dataset of that name is there and not of a demo, or the album is unusable.
    """
    from ..sam import load_sam

    _earlier(name)
    sam = load_sam(model, device=device)
    out = Path(out_dir).expanduser().absolute()
    if perseg_dir is None:
        say(f"Album: {out / 'album'}, composed of photos that scikit-image and scikit-learn carry")
        album = _album(out)
    else:
        album = Path(os.path.abspath(Path(perseg_dir).expanduser()))
        say(f"Album: {album}")
    dataset = _import(album, name, progress)
    references = dataset.match(fo.ViewField("role") == "reference")
    cache = MemoryCache()  # the second method needs no encoding
    scores, seconds = {}, {}
    for method in PUBLISHED:
        called = method_info(method).title
        say(f"{called}: {len(dataset)} photos, {len(references)} references, {model}, {sam.device}")
        started = time.perf_counter()
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
        seconds[method] = time.perf_counter() - started
        if run.errors:
            reason = next(iter(run.errors.values()))
            raise PersamError(f"{len(run.errors)} photos of {album} failed, first: {reason}")
        results = evaluate(
            dataset, method, eval_key=f"{method}_eval", group_by="object", progress=False
        )
        scores[method] = results.scores
    objects = PICTURED if perseg_dir is None else sorted(dataset.distinct("object"))[:4]
    out.mkdir(parents=True, exist_ok=True)
    picture = save_picture(draw_picture(dataset, "persam_f", objects), out / "demo.jpg")
    table = format_table(scores, seconds, published=perseg_dir is not None)
    return Demo(name, scores, seconds, table, picture)


def format_table(
    scores: dict[str, PerSegScores], seconds: dict[str, float], published: bool = False
) -> str:
    """IoU and boundary IoU of several methods side by side, in percent.

    Args:
        scores: by method.
        seconds: by method.
        published: add the paper's numbers.
    """
    first = next(iter(scores.values()))
    names = [row.name for row in first.objects]
    last = ["mean over objects", "mean over photos", "published (ViT-H)", "seconds"]
    width = max(len(name) for name in [*names, *last])
    head = " " * width + "  photos" + "".join(f"{method_info(m).title:>18}" for m in scores)
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
    lines.append(f"{last[3]:<{width + 8}}" + "".join(f"{s:>18.1f}" for s in seconds.values()))
    first_title, *titles = (method_info(method).title for method in seconds)
    if titles:
        lines.append(f"({' and '.join(titles)} reused the encoded photos of {first_title})")
    return "\n".join(lines)


# ----------------------------------------------------------------------------------------------


def _album(out: Path) -> Path:
    from ..datasets import build_album

    album = out / "album"
    return album if (album / "Images").is_dir() else build_album(album)


def _earlier(name: str) -> Any:
    """The dataset that an earlier demo left, or None.

    Raises:
        PersamError: it is somebody else's.
    """
    if not fo.dataset_exists(name):
        return None
    old = fo.load_dataset(name)
    if old.info.get("made_by") != MADE_BY:
        raise PersamError(
            f"there is a dataset {name!r} that no demo has made: rename or delete it first"
        )
    return old


def _import(album: Path, name: str, progress: bool | None) -> Any:
    """The album as a persistent dataset; an earlier demo's goes only when the new one is there."""

    def make_room() -> None:
        if (old := _earlier(name)) is not None:
            for run in naming.run_names(old):
                lifecycle.delete_run(old, run)
            old.delete()

    dataset = import_perseg(album, name, before_naming=make_room, progress=progress)
    dataset.info["made_by"] = MADE_BY
    dataset.save()
    return dataset
