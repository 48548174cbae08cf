"""The labels that one promotion writes, photo by photo."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np

from ...engine.writing import MASK_VALUE
from ...errors import PersamError
from ...sam.masks import check_mask_file
from ..database import photos_of
from ..labels.masks import check_label, shown_mask
from ..labels.pixels import found_object
from ..labels.sizes import read_shown_size
from ..runs.several import values_of
from .chosen import Chosen
from .earlier_labels import run_of
from .label_field import is_numbered


class Labels:
    """The labels that a promotion writes.

    Args:
        chosen: the photos, with the run and its review.
        target: ``fo.Segmentation`` or ``fo.Detections``.
        label_field: where they go.
        label: the class of new detections.
        pixel: the object's value in masks, for runs of one object.
        values: the value of each object of a run of several.
    """

    def __init__(
        self,
        chosen: Chosen,
        target: Any,
        label_field: str,
        label: str,
        pixel: int,
        values: Mapping[str, int],
    ) -> None:
        self._chosen, self._target, self._pixel = chosen, target, pixel
        self._values = values
        self._field, self._label = label_field, label
        self._numbered = not chosen.objects and is_numbered(chosen.dataset, chosen.run)

    def files(self) -> dict[str, str]:
        """Sample id -> the mask file that is copied as it is."""
        own = values_of(self._chosen.objects)
        plain = self._target is fo.Segmentation and self._pixel == MASK_VALUE
        plain = plain and not self._numbered
        plain = plain and own == {value: name for name, value in self._values.items()}
        return self._chosen.mask_paths() if plain else {}

    def faulty(self, copied: Mapping[str, str]) -> dict[str, str]:
        """Sample id -> what is wrong with its mask."""
        found: dict[str, str] = {}
        for i, path in copied.items():
            try:
                check_mask_file(Path(path))
            except PersamError as error:
                found[i] = str(error)
        if found:
            named = photos_of(self._chosen.dataset).select(list(found)).values(["id", "filepath"])
            for i, photo in zip(*named, strict=True):
                found[i] = f"the mask of {os.path.basename(photo)} cannot be read ({found[i]})"
        ids, run = [i for i in self._chosen.ids if i not in copied], self._chosen.run
        for sample in replace(self._chosen, ids=ids).samples():
            where = f"the mask of {os.path.basename(sample.filepath)} in {run!r}"
            try:
                check_label(self._chosen.label_of(sample), where)
                self._made(sample, None)
            except PersamError as error:
                found[sample.id] = str(error)
        return found

    def chunks(self, copies: Mapping[str, str]) -> Iterator[dict[str, dict[str, Any]]]:
        """Sample id -> field -> label, some photos at a time."""
        for samples in self._chosen.chunks():
            yield {s.id: {self._field: self._made(s, copies.get(s.id))} for s in samples}

    def _made(self, sample: Any, copy: str | None) -> Any:
        run = self._chosen.run
        provenance = {
            "persam_run": run,
            "persam_score": self._chosen.value_of(sample, "score"),
            "persam_presence": self._chosen.value_of(sample, "presence"),
            "persam_review": self._chosen.states[sample.id],
        }
        source = self._chosen.label_of(sample)
        if self._target is fo.Detections:
            objects = self._named(sample, source, provenance)
            present = sample[self._field] if sample.has_field(self._field) else None
            foreign = [d for d in _objects(present) if run_of(d) != run]
            return fo.Detections(detections=[*foreign, *objects])
        if copy is not None:
            return fo.Segmentation(mask_path=copy, **provenance)
        if self._values:
            size = read_shown_size(sample.filepath)
            pixels = np.zeros(size, np.uint8)
            for name, mask in self._chosen.masks_by_name(sample, size).items():
                pixels[mask] = self._values.get(name, 0)
            return fo.Segmentation(mask=pixels, **provenance)
        plain = self._pixel == MASK_VALUE and not self._numbered
        if isinstance(source, fo.Segmentation) and plain:
            return fo.Segmentation(mask=source.mask, **provenance)
        mask = shown_mask(sample, run, source)
        return fo.Segmentation(mask=np.where(mask, self._pixel, 0).astype(np.uint8), **provenance)

    def _named(self, sample: Any, source: Any, provenance: dict[str, Any]) -> list[Any]:
        if not self._chosen.objects or isinstance(source, fo.Detections):
            return _detections(sample, self._chosen.run, source, self._label, provenance)
        named = self._chosen.masks_by_name(sample, read_shown_size(sample.filepath))
        return [fo.Detection.from_mask(m, label=n, **provenance) for n, m in named.items()]


def _objects(label: Any) -> list[Any]:
    return [] if label is None else list(label.detections)


def _detections(
    sample: Any, run: str, source: Any, label: str, provenance: dict[str, Any]
) -> list[Any]:
    if isinstance(source, fo.Detections):
        copies = []
        for found in source.detections:
            own = found_object(found, f"the mask of {sample.filepath} in {run!r}")
            copies.append(
                fo.Detection(
                    label=found.label or label,
                    bounding_box=list(found.bounding_box),
                    mask=None if own is None else own.mask,
                    **provenance,
                )
            )
        return copies
    mask = shown_mask(sample, run, source)
    return [fo.Detection.from_mask(mask, label=label, **provenance)] if mask.any() else []
