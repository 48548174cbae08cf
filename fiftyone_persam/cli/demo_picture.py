"""One picture of a run: what it was shown, what it found, and where it looked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import fiftyone as fo
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from ..curation.labels.shapes import label_mask
from ..errors import PhotoError
from ..sam import load_photo
from ..sam.photo_files import use_image

TILE = (288, 216)  # width, height
CAPTION = 24
GAP = 8
PAPER, INK, MOUNT = (255, 255, 255), (40, 40, 40), (240, 240, 240)
FOUND, SHOWN = (0, 229, 255), (255, 64, 200)  # colours that objects seldom have

_COMMENT = b"fiftyone-persam demo"

Pixels = npt.NDArray[np.uint8]


def draw_picture(
    dataset: Any, run: str, objects: Sequence[str], targets: int = 2, gt_field: str = "ground_truth"
) -> Image.Image:
    """One row per object: its reference, then its first photos with mask and similarity map.

    Args:
        dataset: with ``object`` and ``role``, as `PerSegDataset` gives them.
        run: a run that has similarity maps.
        objects: the rows.
        targets: photos per object.
        gt_field: the references' masks.
    """
    width, height = TILE[0], TILE[1] + CAPTION
    columns = 1 + 2 * targets
    size = (columns * (width + GAP) + GAP, len(objects) * (height + GAP) + GAP)
    canvas = Image.new("RGB", size, PAPER)
    for row, name in enumerate(objects):
        photos = dataset.match(fo.ViewField("object") == name)
        reference = photos.match(fo.ViewField("role") == "reference").first()
        tiles = [_tile(_outlined(reference, gt_field, SHOWN), f"reference: {name}")]
        for sample in photos.match(fo.ViewField("role") != "reference").limit(targets):
            tiles.append(_tile(_outlined(sample, run, FOUND), _found(sample, run)))
            tiles.append(_tile(_heat(sample, f"{run}_similarity"), "similarity"))
        for column, tile in enumerate(tiles):
            canvas.paste(tile, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return canvas


def save_picture(picture: Image.Image, path: Path) -> Path:
    """Save as JPEG, small enough for a README, with a comment that tells whose it is."""
    draft = path.with_name(f".{path.name}.part")
    options = {"quality": 85, "optimize": True, "progressive": True, "comment": _COMMENT}
    picture.save(draft, format="JPEG", **options)
    os.replace(draft, path)
    return path


def is_picture(path: Path) -> bool:
    """Whether a file is what `save_picture` has saved."""
    try:
        return use_image(path, lambda image, _: image is not None and _said(image))
    except PhotoError:
        return False


def _said(image: Image.Image) -> bool:
    return bool(image.info.get("comment") == _COMMENT)


# ----------------------------------------------------------------------------------------------


def _found(sample: Any, run: str) -> str:
    key = f"{run}_eval_iou"
    iou = sample[key] if sample.has_field(key) else None
    return "found" if iou is None else f"found, IoU {iou:.2f}"


def _outlined(sample: Any, field: str, colour: tuple[int, int, int]) -> Pixels:
    """The photo faded, but for the object, which is tinted and has an outline."""
    photo = load_photo(sample.filepath)
    mask = label_mask(sample, sample[field], sample.filepath, size=photo.shape[:2])
    small = _small(photo)
    area = np.asarray(
        Image.fromarray(mask).resize(small.shape[1::-1], Image.Resampling.NEAREST), np.uint8
    )
    pixels = small.astype(np.float32)
    faded = 0.4 * pixels + 0.35 * pixels.mean(axis=2, keepdims=True) + 40
    tinted = 0.88 * pixels + 0.12 * np.array(colour, np.float32)
    drawn = np.where(area[..., None] > 0, tinted, faded)
    picture = np.ascontiguousarray(drawn.clip(0, 255).astype(np.uint8))
    contours, _ = cv2.findContours(area, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, contours, -1, colour, 2, cv2.LINE_AA)
    return picture


def _heat(sample: Any, field: str) -> Pixels:
    """The similarity map, stretched over its own range, over the darkened photo."""
    small = _small(load_photo(sample.filepath))
    heat = np.asarray(sample[field].map, np.float32)
    low, high = float(heat.min()), float(heat.max())
    level = cv2.resize((heat - low) / max(high - low, 1.0) * 255, small.shape[1::-1])
    colours = cv2.applyColorMap(level.clip(0, 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    mixed = 0.3 * small.astype(np.float32) + 0.75 * colours[..., ::-1]
    return np.asarray(mixed.clip(0, 255), np.uint8)


def _small(photo: Pixels) -> Pixels:
    picture = Image.fromarray(photo)
    scale = min(TILE[0] / picture.width, TILE[1] / picture.height)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    return np.asarray(picture.resize(size, Image.Resampling.LANCZOS))


def _tile(pixels: Pixels, caption: str) -> Image.Image:
    tile = Image.new("RGB", (TILE[0], CAPTION + TILE[1]), PAPER)
    mount = Image.new("RGB", TILE, MOUNT)
    picture = Image.fromarray(pixels)
    mount.paste(picture, ((TILE[0] - picture.width) // 2, (TILE[1] - picture.height) // 2))
    tile.paste(mount, (0, CAPTION))
    ImageDraw.Draw(tile).text((2, 2), caption, fill=INK, font=ImageFont.load_default(17))
    return tile
