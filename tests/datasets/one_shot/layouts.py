"""Small data sets in the official layouts, written from real photos of the demo album."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from fiftyone_persam.datasets.layout import scan_album
from fiftyone_persam.datasets.mask_files import read_mask

Change = Callable[[dict[str, Any]], None]


def nothing(content: dict[str, Any]) -> None:
    """Leave annotations as they are."""


class Source:
    """Photos and masks of the demo album, by object."""

    def __init__(self, album: Path) -> None:
        self.photos: dict[str, list[tuple[Path, np.ndarray]]] = {}
        for entry in scan_album(album):
            assert entry.mask is not None
            self.photos.setdefault(entry.object, []).append((entry.photo, read_mask(entry.mask)))
        self.objects = sorted(self.photos)

    def pair(self, name: str, number: int) -> tuple[Path, np.ndarray]:
        found = self.photos[name]
        return found[number % len(found)]


def rle_of(mask: np.ndarray) -> dict[str, Any]:
    """COCO's compressed RLE as JSON has it."""
    rle = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(s) for s in rle["size"]], "counts": rle["counts"].decode("ascii")}


def runs_of(mask: np.ndarray) -> dict[str, Any]:
    """COCO's uncompressed RLE, as crowds have it."""
    flat = mask.ravel(order="F").astype(np.int8)
    ends = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff(np.concatenate([[0], ends, [flat.size]])).tolist()
    return {"size": list(mask.shape), "counts": runs if not flat[0] else [0, *runs]}


def box_of(mask: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1, end exclusive."""
    ys, xs = mask.nonzero()
    return int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1


def polygon_of(mask: np.ndarray) -> list[float]:
    """The mask's box as a polygon: enough to tell polygons from RLE."""
    x0, y0, x1, y1 = box_of(mask)
    return [float(v) for v in (x0, y0, x1, y0, x1, y1, x0, y1)]


def copy_photo(photo: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.suffix == ".jpg" and photo.suffix.lower() not in (".jpg", ".jpeg"):
        Image.open(photo).convert("RGB").save(target, quality=95)
    else:
        shutil.copyfile(photo, target)


def write_fss(root: Path, source: Source, photos: int = 10) -> Path:
    for name in source.objects:
        for number in range(1, photos + 1):
            photo, mask = source.pair(name, number)
            copy_photo(photo, root / "data" / name / f"{number}.jpg")
            grey = Image.fromarray(np.where(mask, 255, 0).astype(np.uint8))
            grey.convert("RGB").save(root / "data" / name / f"{number}.png")
    (root / "splits").mkdir()
    (root / "splits" / "test.txt").write_text("\n".join(reversed(source.objects)) + "\n")
    return root


def coco_content(
    source: Source, root: Path, folder: str, per_class: int, categories: list[str], lvis: bool
) -> dict[str, Any]:
    """Photos below ``root/folder`` and COCO's three lists; polygons and RLE take turns."""
    images, annotations = [], []
    for i, _ in enumerate(categories):
        name = source.objects[i % len(source.objects)]
        for number in range(per_class):
            photo, mask = source.pair(name, number)
            image_id = 100 * (i + 1) + number
            file = f"{image_id:012}.jpg"
            copy_photo(photo, root / folder / file)
            entry: dict[str, Any] = {
                "id": image_id,
                "height": mask.shape[0],
                "width": mask.shape[1],
            }
            if lvis:
                entry["coco_url"] = f"http://images.example/{folder}/{file}"
            else:
                entry["file_name"] = file
            images.append(entry)
            x0, y0, x1, y1 = box_of(mask)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": i + 1,
                    "iscrowd": 0,
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "segmentation": rle_of(mask) if number % 2 else [polygon_of(mask)],
                }
            )
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(categories)],
    }


def write_lvis(root: Path, source: Source, change: Change = nothing, classes: int = 10) -> Path:
    names = [f"class_{i}" for i in range(classes)]
    content = coco_content(source, root, "val2017", 3, names, lvis=True)
    change(content)
    (root / "lvis_v1_val.json").write_text(json.dumps(content))
    return root


def write_coco(root: Path, source: Source, change: Change = nothing) -> Path:
    names = [f"class_{i}" for i in range(8)]
    content = coco_content(source, root, "val2014", 3, names, lvis=False)
    change(content)
    (root / "annotations").mkdir()
    (root / "annotations" / "instances_val2014.json").write_text(json.dumps(content))
    return root


def write_paco(root: Path, source: Source, change: Change = nothing) -> Path:
    """Objects of two classes; of each the upper half is a part, and the lower one another."""
    names = source.objects[:2]
    content = coco_content(source, root, "val2017", 3, names, lvis=False)
    parts = [f"{name}:{part}" for name in names for part in ("top", "bottom")]
    content["categories"] += [{"id": 10 + i, "name": part} for i, part in enumerate(parts)]
    for owner in list(content["annotations"]):
        number = owner["image_id"] % 100
        _, mask = source.pair(names[owner["category_id"] - 1], number)
        middle = (box_of(mask)[1] + box_of(mask)[3]) // 2
        for half, rows in enumerate((slice(0, middle), slice(middle, None))):
            part = np.zeros_like(mask)
            part[rows] = mask[rows]
            content["annotations"].append(
                {
                    "id": 1000 + len(content["annotations"]),
                    "image_id": owner["image_id"],
                    "category_id": 10 + 2 * (owner["category_id"] - 1) + half,
                    "obj_ann_id": owner["id"],
                    "bbox": owner["bbox"],
                    "segmentation": rle_of(part),
                }
            )
    change(content)
    (root / "paco_lvis_v1_val.json").write_text(json.dumps(content))
    return root


def write_pascal(root: Path, source: Source, change: Change = nothing) -> Path:
    """Two animals with a top; every photo has a second object of the kind that lacks the part."""
    folder = root / "VOCdevkit" / "VOC2010"
    listing: dict[str, Any] = {group: {"object": {}} for group in ("animals", "indoor", "person")}
    listing["vehicles"] = {"object": {}}
    for name in source.objects[:2]:
        photos = []
        for number in range(3):
            photo, mask = source.pair(name, number)
            key = f"2010_{name}{number}"
            photos.append(key)
            copy_photo(photo, folder / "JPEGImages" / f"{key}.jpg")
            x0, y0, x1, y1 = box_of(mask)
            top = mask.copy()
            top[(y0 + y1) // 2 :] = False
            box = {"xmin": str(x0), "ymin": str(y0), "xmax": str(x1), "ymax": str(y1)}
            content = {
                "object": [
                    {
                        "name": name,
                        "bndbox": box,
                        "parts": [{"name": "TOP", "mask": [rle_of(top)]}],
                    },
                    {"name": name, "bndbox": box, "parts": []},
                ]
            }
            change({"key": key, **content})
            path = folder / "Annotations_Part_json_merged_part_classes" / f"{key}.json"
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(content))
        listing["animals"]["object"][name] = {
            "part": {
                "TOP": {"train": ["2010_000001"], "val": photos},
                "TAIL": {"train": [], "val": photos[:1]},
            }
        }
    (folder / "all_obj_part_to_image.json").write_text(json.dumps(listing))
    return root
