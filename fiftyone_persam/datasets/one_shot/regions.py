"""From annotations to masks: files, COCO's RLE and polygons; whatever is malformed is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from ...errors import DatasetLayoutError, PhotoError
from ...sam import load_photo
from ...sam.photo_files import open_image
from .records import Box, Example, Region

BoolMask = npt.NDArray[np.bool_]
LARGEST_SIDE = 20_000


def load_view(example: Example) -> npt.NDArray[np.uint8]:
    """(H, W, 3) uint8 RGB pixels of an example's photo, cropped if it says so.

    Raises:
        PhotoError: the photo cannot be read.
    """
    photo = load_photo(example.photo)
    if example.crop is None:
        return photo
    x0, y0, x1, y1 = example.crop
    return np.ascontiguousarray(photo[y0:y1, x0:x1])


def load_mask(example: Example) -> BoolMask:
    """(H, W) bool mask of an example, cropped like its photo.

    Raises:
        DatasetLayoutError: the annotation is malformed or of another size than the photo.
    """
    size = example.size
    if size is None:
        size = read_stored_size(example.photo)
    union = np.zeros(size, np.bool_)
    for region in example.regions:
        mask = _region_mask(region, size, example)
        if mask.shape != size:
            raise DatasetLayoutError(
                f"a mask of {example.photo.name} is {mask.shape[1]} x {mask.shape[0]} pixels but "
                f"its photo is {size[1]} x {size[0]}: mend the annotation"
            )
        union |= mask
    if example.crop is None:
        return union
    x0, y0, x1, y1 = example.crop
    return union[y0:y1, x0:x1]


def read_stored_size(path: Path) -> tuple[int, int]:
    """(height, width) of a photo's stored pixels, from its header.

    Raises:
        PhotoError: it cannot be read.
    """
    try:
        with open_image(path) as image:
            return image.height, image.width
    except PhotoError:
        raise
    except Exception as error:  # Pillow's decoders raise many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PhotoError(f"photo {path} cannot be read ({reason})") from None


def as_region(segmentation: Any, size: tuple[int, int]) -> Region:
    """A COCO, LVIS or PACO ``segmentation`` entry, checked.

    Args:
        segmentation: polygons (list of lists) or an RLE, compressed or not.
        size: (height, width) of its photo.

    Raises:
        DatasetLayoutError: it is neither, or not of this size.
    """
    if isinstance(segmentation, dict):
        return _as_rle(segmentation, size)
    if not isinstance(segmentation, (list, tuple)) or not segmentation:
        raise DatasetLayoutError("its segmentation is neither polygons nor an RLE")
    polygons = []
    for polygon in segmentation:
        if not isinstance(polygon, (list, tuple)) or len(polygon) < 6 or len(polygon) % 2:
            raise DatasetLayoutError("one of its polygons does not have three points or more")
        if not all(_is_finite(value) for value in polygon):
            raise DatasetLayoutError("one of its polygons has coordinates that are not numbers")
        polygons.append(tuple(float(value) for value in polygon))
    return tuple(polygons)


def as_box(values: Any, size: tuple[int, int], kind: str) -> Box:
    """A box in whole pixels inside the photo, end exclusive, cut down as the published code does.

    Args:
        values: four numbers.
        size: (height, width) of the photo.
        kind: "xyxy" or "xywh".

    Raises:
        DatasetLayoutError: not four numbers, or nothing of it is inside the photo.
    """
    if not isinstance(values, (list, tuple)) or len(values) != 4:
        raise DatasetLayoutError("its box does not have four numbers")
    try:
        x0, y0, x1, y1 = (float(value) for value in values)
    except (TypeError, ValueError):
        raise DatasetLayoutError("its box has coordinates that are not numbers") from None
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise DatasetLayoutError("its box has coordinates that are not numbers")
    if kind == "xywh":
        x1, y1 = x0 + x1, y0 + y1
    box = (max(0, int(x0)), max(0, int(y0)), min(size[1], int(x1)), min(size[0], int(y1)))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise DatasetLayoutError(
            f"its box ({x0:g}, {y0:g}, {x1:g}, {y1:g}) is outside the photo of "
            f"{size[1]} x {size[0]} pixels, or empty"
        )
    return box


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        DatasetLayoutError: it is missing or not JSON.
    """
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except FileNotFoundError:
        raise DatasetLayoutError(
            f"annotations {path} are missing: put them there, or check the folder"
        ) from None
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DatasetLayoutError(f"annotations {path} cannot be read ({reason})") from None


def as_size(entry: Any) -> tuple[int, int]:
    """(height, width) that an image entry of a COCO file states.

    Raises:
        DatasetLayoutError: it states none that could be.
    """
    sides = tuple(entry.get(name) if isinstance(entry, dict) else None for name in _SIDES)
    if not all(isinstance(s, int) and 0 < s <= LARGEST_SIDE for s in sides):
        raise DatasetLayoutError("its height and width are not numbers of pixels")
    return sides  # type: ignore[return-value]


_SIDES = ("height", "width")


def _region_mask(region: Region, size: tuple[int, int], example: Example) -> BoolMask:
    if isinstance(region, Path):
        return _file_mask(region, example)
    height, width = size
    if isinstance(region, dict):
        return coco_mask.decode(region).astype(np.bool_)
    rles = coco_mask.frPyObjects([list(polygon) for polygon in region], height, width)
    return coco_mask.decode(coco_mask.merge(rles)).astype(np.bool_)


def _file_mask(path: Path, example: Example) -> BoolMask:
    try:
        with open_image(path, "mask") as image:
            # Palette files hold ids; their colours say nothing.
            ids = np.asarray(image if image.mode in ("L", "P", "I", "I;16") else image.convert("L"))
    except PhotoError as error:
        missing = f"mask {path} is missing"
        raise DatasetLayoutError(str(error) if path.exists() else missing) from None
    except Exception as error:  # Pillow's decoders raise many kinds
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetLayoutError(f"mask {path} cannot be read ({reason})") from None
    if example.threshold is not None:
        return np.asarray(ids >= example.threshold)
    return np.asarray(ids > 0 if example.mask_value is None else ids == example.mask_value)


def _as_rle(rle: dict[str, Any], size: tuple[int, int]) -> dict[str, Any]:
    counts, stated = rle.get("counts"), rle.get("size")
    if not isinstance(stated, (list, tuple)) or tuple(stated) != size:
        raise DatasetLayoutError(f"its RLE is of size {stated}, its photo of {list(size)}")
    area = size[0] * size[1]
    if isinstance(counts, list):
        whole = all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in counts)
        if not whole or sum(counts) != area:
            raise DatasetLayoutError("the runs of its RLE do not cover its photo")
        converted: dict[str, Any] = coco_mask.frPyObjects(
            {"counts": counts, "size": list(size)}, *size
        )
        return converted
    if isinstance(counts, str):
        counts = counts.encode("ascii", "replace")
    if not isinstance(counts, bytes) or sum(_runs(counts)) != area:
        raise DatasetLayoutError("the runs of its RLE do not cover its photo")
    return {"counts": counts, "size": list(size)}


def _runs(counts: bytes) -> list[int]:
    """The run lengths of a compressed RLE: pycocotools trusts them, and would write past its mask.

    Each run is in groups of five bits, lowest first; from the third run on it is the difference to
    the run before the last one.
    """
    runs: list[int] = []
    place = 0
    while place < len(counts):
        value, shift, more = 0, 0, True
        while more:
            if place >= len(counts):
                return []
            group = counts[place] - 48
            if not 0 <= group < 64:
                return []
            value |= (group & 0x1F) << shift
            more = bool(group & 0x20)
            place, shift = place + 1, shift + 5
            if not more and group & 0x10:
                value -= 1 << shift
        if len(runs) > 2:
            value += runs[-2]
        if value < 0:
            return []
        runs.append(value)
    return runs


def _is_finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
