"""Exports of photos with masks beside them: COCO's JSON, or a folder of mask PNGs."""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco_mask

from ...datasets.mask_files import write_mask
from ...datasets.named_files import folded
from ...datasets.photo_copies import copy_upright
from ...datasets.staging import Stage
from ...engine.writing import encode_mask, write_bytes
from ...errors import DatasetLayoutError, PersamError
from ..labels.masks import check_label, union_mask
from ..labels.sizes import read_shown_size
from ..runs.several import values_of
from .chosen import Chosen
from .formats import Export, ExportFormat

PHOTOS, MASKS = "data", "labels"
CLASSES = "classes.json"
"""What each value of the masks means, where a photo may have several objects."""


def coco_annotation(
    mask: npt.NDArray[np.bool_], image_id: int, annotation_id: int, category_id: int
) -> dict[str, Any]:
    """One COCO annotation: the exact mask as compressed RLE, its area, and its box x, y, w, h.

    Args:
        mask: (H, W) bool, not empty
        image_id: id of the photo's entry in ``images``
        annotation_id: this annotation's own id
        category_id: id of the object's entry in ``categories``
    """
    rle = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {
        "id": annotation_id,
        "image_id": image_id,
        "category_id": category_id,
        "segmentation": {"size": list(rle["size"]), "counts": rle["counts"].decode("ascii")},
        "area": int(coco_mask.area(rle)),
        "bbox": [float(v) for v in coco_mask.toBbox(rle)],
        "iscrowd": 0,
    }


def _write_coco(export: Export) -> None:
    chosen, stage, group_by = export.chosen, export.stage, export.group_by
    names = _FileNames(stage)
    categories: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in chosen.samples():
        label, where = chosen.label_of(sample), _where(sample, chosen.run)
        try:
            size = read_shown_size(sample.filepath)
            instances = _instances(chosen, sample, label, size)
            names.copy(sample.filepath)
        except PersamError as error:
            export.left_out.append(str(error))
            continue
        name = names.take(sample.filepath)
        export.count += 1
        height, width = size
        images.append({"id": export.count, "file_name": name, "height": height, "width": width})
        for called, instance in instances:
            mask = instance
            if not isinstance(instance, np.ndarray):
                mask = union_mask(instance, size, where)
            if not mask.any():
                continue
            named = sample[group_by] if group_by else called
            category = categories.setdefault(str(named or "object"), len(categories) + 1)
            annotation = coco_annotation(mask, export.count, len(annotations) + 1, category)
            score = chosen.value_of(sample, "score")
            annotations.append(annotation if score is None else {**annotation, "score": score})
    content = {
        "info": {"description": f"masks of run {chosen.run}", "version": "1.0"},
        "licenses": [],
        "categories": [{"id": i, "name": n} for n, i in categories.items()],
        "images": images,
        "annotations": annotations,
    }
    (stage.path / "labels.json").write_text(json.dumps(content), encoding="utf-8")


def _instances(
    chosen: Chosen, sample: Any, label: Any, size: tuple[int, int]
) -> list[tuple[str | None, Any]]:
    """Name, and label or (H, W) mask, of each object of a photo; raises as `union_mask` does."""
    where = _where(sample, chosen.run)
    if isinstance(label, fo.Detections):
        check_label(label, where)
        return [(one.label, one) for one in label.detections]  # all of them as masks may be much
    if chosen.objects:
        return list(chosen.masks_by_name(sample, size).items())
    return [(getattr(label, "label", None), union_mask(label, size, where))]


def _write_masks(export: Export) -> None:
    names = _FileNames(export.stage, masks=True)
    for sample in export.chosen.samples():
        try:
            size = read_shown_size(sample.filepath)
            values = _values(export.chosen, sample, size)
            names.copy(sample.filepath)
        except PersamError as error:
            export.left_out.append(str(error))
            continue
        if values.dtype == np.bool_:
            write_mask(values, names.mask)
        else:
            write_bytes(encode_mask(values), names.mask)
        names.take(sample.filepath)
        export.count += 1
    if objects := export.chosen.objects:
        content = json.dumps(values_of(objects), indent=1, ensure_ascii=False)
        (export.stage.path / CLASSES).write_text(content, encoding="utf-8")
    names.check_complete()


def _values(chosen: Chosen, sample: Any, size: tuple[int, int]) -> npt.NDArray[Any]:
    """(H, W) bool mask of a photo; of a run of several objects uint8, see `CLASSES`."""
    if not chosen.objects:
        return union_mask(chosen.label_of(sample), size, _where(sample, chosen.run))
    values = np.zeros(size, np.uint8)
    for name, mask in chosen.masks_by_name(sample, size).items():
        if name in chosen.objects:  # others were drawn by hand
            values[mask] = chosen.objects.index(name) + 1
    return values


def _where(sample: Any, run: str) -> str:
    return f"the mask of {Path(sample.filepath).name} in {run!r}"


class _FileNames:
    """File names for photos from several folders: unique stems, so that masks stay unique too.

    Unique also where a file system ignores case. Photos of datasets that are in the exported folder
    keep their names, and no other file gets one of theirs.
    """

    def __init__(self, stage: Stage, masks: bool = False) -> None:
        self._stage = stage
        self._stems: set[str] = set()
        self._taken: set[str] = set()
        self._photo = stage.path / f".{PHOTOS}"
        self.mask = stage.path / f".{MASKS}.png"
        self._masks = masks
        for folder in (PHOTOS, *([MASKS] if masks else [])):
            (stage.path / folder).mkdir()

    def copy(self, filepath: str) -> None:
        """Copy a photo aside."""
        copy_upright(Path(filepath), self._photo)

    def take(self, filepath: str) -> str:
        """Give the photo, and its mask, their names; the photo's."""
        own = self._stage.own_name(filepath) or ""
        path = Path(own if own.startswith(f"{PHOTOS}/") else filepath)
        further = (f"{path.stem}-{number}" for number in itertools.count(2))
        stems = itertools.chain([path.stem], further)
        stem = next(one for one in stems if self._is_free(one, path.suffix))
        self._stems.add(folded(stem))
        name = stem + path.suffix
        os.replace(self._photo, self._stage.path / PHOTOS / name)
        self._taken.add(f"{PHOTOS}/{name}")
        if self._masks:
            os.replace(self.mask, self._stage.path / MASKS / f"{stem}.png")
            self._taken.add(f"{MASKS}/{stem}.png")
        return name

    def check_complete(self) -> None:
        """Raise PersamError if a file that must stay would be taken for a part of the export."""
        places = (f"{PHOTOS}/", f"{MASKS}/")
        left = {name for name in self._stage.named if name.startswith(places)} - self._taken
        if left:
            raise DatasetLayoutError(
                f"{self._stage.folder / min(left)} is a file of a dataset, which stays as it is, "
                "and not what is exported now: choose another folder"
            )

    def _is_free(self, stem: str, suffix: str) -> bool:
        fits = self._stage.fits
        return (
            folded(stem) not in self._stems
            and fits(f"{PHOTOS}/{stem}{suffix}", self._photo)
            and (not self._masks or fits(f"{MASKS}/{stem}.png", self.mask))
        )


COCO = ExportFormat("coco", "COCO JSON with run-length encoded masks", _write_coco)
MASKS_ONLY = ExportFormat("masks", "folder of photos and folder of mask PNGs", _write_masks)
