"""Photos of two objects side by side, of one of them, and of none, made of the demo's album."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
from PIL import Image

NAMES = ("cat", "cup")
HEIGHT = 240


def tiles(album: Path, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """(H, W, 3) photos and (H, W) bool masks of an object, 240 pixels high."""
    found = []
    for mask in sorted((album / "Annotations" / name).glob("*.png")):
        photo = Image.open(album / "Images" / name / f"{mask.stem}.jpg").convert("RGB")
        size = (round(photo.width * HEIGHT / photo.height), HEIGHT)
        pixels = np.asarray(photo.resize(size))
        truth = np.asarray(Image.open(mask).convert("L").resize(size, Image.Resampling.NEAREST))
        found.append((pixels, truth > 0))
    return found


def scenes(album: Path, folder: Path) -> list[Any]:
    """Five samples with ``labels``, Detections that are called "cat" and "cup".

    In their order: the cat, the cup (for references), both, the cat alone, and neither of them.
    """
    cats, cups = (tiles(album, name) for name in NAMES)
    plain = np.random.default_rng(0).integers(100, 140, (HEIGHT, 320, 3), np.uint8)
    photos: dict[str, list[tuple[str, tuple[np.ndarray, np.ndarray]]]] = {
        "cat": [("cat", cats[0])],
        "cup": [("cup", cups[0])],
        "both": [("cat", cats[1]), ("cup", cups[1])],
        "only_cat": [("cat", cats[2])],
        "nothing": [("", (plain, np.zeros(plain.shape[:2], np.bool_)))],
    }
    samples = []
    for name, parts in photos.items():
        path = folder / f"{name}.png"
        pixels = np.concatenate([photo for _, (photo, _) in parts], axis=1)
        Image.fromarray(pixels).save(path)
        sample, left, objects = fo.Sample(str(path), shows=name), 0, []
        for label, (photo, mask) in parts:
            whole = np.zeros(pixels.shape[:2], np.bool_)
            whole[:, left : left + photo.shape[1]] = mask
            left += photo.shape[1]
            if label:
                objects.append(fo.Detection.from_mask(whole, label=label))
        sample["labels"] = fo.Detections(detections=objects)
        samples.append(sample)
    return samples
