"""Small photos of a disc, with exact masks; and what a dataset is, down to its last byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import fiftyone as fo
import fiftyone.core.odm as foo
import numpy as np
import torch
from PIL import Image
from segment_anything.modeling import Sam

from fiftyone_persam.sam.lite import build_sam_lite

SIZE = (48, 64)  # height, width
COLOURS = {"red": (220, 40, 30), "blue": (20, 60, 230)}


@cache
def tiny_sam() -> Sam:
    """A promptable model with random weights: fast, and good for everything but good masks."""
    torch.manual_seed(0)
    return build_sam_lite(64).eval()


def disc(x: int, y: int, radius: int = 12) -> np.ndarray:
    """(48, 64) bool."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    return (columns - x) ** 2 + (rows - y) ** 2 <= radius**2


def make_photos(folder: Path, count: int = 3, colours: tuple[str, ...] = ("red",)) -> list[Any]:
    """Samples with ``ground_truth``, ``colour`` and ``role``; the first of each is a reference."""
    samples = []
    for colour in colours:
        for number in range(count):
            noise = np.random.default_rng(number).integers(90, 130, (*SIZE, 3))
            mask = disc(20 + 8 * number, 24)
            photo = np.where(mask[..., None], COLOURS[colour], noise).astype(np.uint8)
            path = folder / f"{colour}_{number}.png"
            Image.fromarray(photo).save(path)
            samples.append(
                fo.Sample(
                    str(path),
                    colour=colour,
                    role="reference" if number == 0 else "target",
                    ground_truth=fo.Segmentation(mask=mask.astype(np.uint8) * 255),
                )
            )
    return samples


Make = Callable[..., fo.Dataset]


def tell_presences_apart(photos: Any, run: str) -> None:
    """Give a run's photos presences of 0.9, 0.8, and 0.1 to the last one.

    Those of the tiny model are nearly equal: what is between them is decided by rounding.
    """
    known = [0.9] + [0.8] * (len(photos) - 2) + [0.1]
    photos.set_values(f"{run}_presence", known)


def state_of(dataset: fo.Dataset) -> dict[str, Any]:
    """Everything the database and the disk have about a dataset."""
    database = foo.get_db_conn()
    document = database.datasets.find_one({"_id": dataset._doc.id})
    samples = list(database[dataset._sample_collection_name].find().sort("_id"))
    folder = Path(fo.config.default_dataset_dir) / dataset.slug
    return {
        "dataset": {k: v for k, v in document.items() if k != "last_loaded_at"},
        "samples": samples,
        "runs": list(database.runs.find({"_id": {"$in": list(document.get("runs", {}).values())}})),
        "store": list(database.execution_store.find({"dataset_id": dataset._doc.id})),
        "files": files_of(folder),
    }


def files_of(folder: Path) -> dict[str, str]:
    """Relative path -> hash of every file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
