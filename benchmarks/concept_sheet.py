"""A picture of an exported training set: each photo over its mask, with its caption.

python -m benchmarks.concept_sheet SET_FOLDER sheet.webp
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fiftyone_persam.datasets import read_concept

TILE, GAP, LINE = 180, 6, 18


def draw_sheet(folder: Path, columns: int = 6) -> Image.Image:
    """Photos in a row, their masks below, their captions below these."""
    entries = read_concept(folder)[:columns]
    width = len(entries) * (TILE + GAP) - GAP
    sheet = Image.new("RGB", (width, 2 * TILE + GAP + LINE), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(size=13)
    for number, entry in enumerate(entries):
        image, mask = entry.load()
        left = number * (TILE + GAP)
        weights = np.full(image.shape[:2], 255, np.uint8) if mask is None else mask
        for row, pixels in enumerate((image, weights)):
            tile = Image.fromarray(pixels).convert("RGB")
            tile.thumbnail((TILE, TILE), Image.Resampling.LANCZOS)
            sheet.paste(tile, (left + (TILE - tile.width) // 2, row * (TILE + GAP)))
        pen.text((left + 2, 2 * TILE + GAP + 1), entry.caption, "black", font)
    return sheet


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="what export_dreambooth has written")
    parser.add_argument("picture", type=Path, help="file to write")
    parser.add_argument("--columns", type=int, default=6, help="at most so many photos")
    arguments = parser.parse_args(given)
    draw_sheet(arguments.folder, arguments.columns).save(arguments.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
