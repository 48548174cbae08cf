"""Small data sets in DAVIS's layout, made of moving things."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from tests.personalize.moving import Film, film

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0] + [0] * 759


def moving(frames: int = 4) -> Film:
    return film(
        {
            "cat": [(20 + 28 * n, 30 + 6 * n) for n in range(frames)],
            "cup": [(350 - 20 * n, 150) for n in range(frames)],
        }
    )


def write_davis(
    root: Path, names: tuple[str, ...] = ("pets",), year: str = "2017", frames: int = 4
) -> Path:
    """Every sequence is the same film; in 2016 all things are one object of value 255."""
    made = moving(frames)
    for name in names:
        for number, frame in enumerate(made.frames):
            map_ = sum(np.uint8(k + 1) * m[number] for k, m in enumerate(made.masks.values()))
            photo = root / "JPEGImages" / "480p" / name / f"{number:05}.jpg"
            label = root / "Annotations" / "480p" / name / f"{number:05}.png"
            for path in (photo, label):
                path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(frame).save(photo, quality=95)
            if year == "2016":
                Image.fromarray(np.where(map_ > 0, np.uint8(255), np.uint8(0))).save(label)
            else:
                image = Image.fromarray(np.asarray(map_, np.uint8), mode="P")
                image.putpalette(PALETTE)
                image.save(label)
    lists = root / "ImageSets" / year
    lists.mkdir(parents=True, exist_ok=True)
    (lists / "val.txt").write_text("\n".join(names) + "\n")
    return root


def zipped(root: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(root.rglob("*")):
            file.write(path, Path("DAVIS") / path.relative_to(root))
    return archive
