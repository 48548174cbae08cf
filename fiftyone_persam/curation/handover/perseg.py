"""Export in PerSeg's layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...datasets import PerSegExporter
from ...errors import PersamError, PhotoError
from ..labels.masks import union_mask
from ..labels.sizes import read_shown_size
from .formats import Export, ExportFormat


def _write(export: Export) -> None:
    chosen = export.chosen
    schema = chosen.dataset.get_field_schema()
    known = [name if name in schema else None for name in (export.group_by or "object", "role")]
    with PerSegExporter.on_stage(export.stage) as exporter:
        for sample in chosen.samples():
            photo = Path(sample.filepath)
            named, role = (None if name is None else sample[name] for name in known)
            where = f"the mask of {photo.name} in {chosen.run!r}"
            try:
                size = read_shown_size(sample.filepath)
                masks: dict[Any, Any] = {named: union_mask(chosen.label_of(sample), size, where)}
                if chosen.objects:  # each in its own folder; a photo without any has none
                    masks = dict(chosen.masks_by_name(sample, size))
            except PersamError as error:
                export.left_out.append(str(error))
                continue
            try:
                for name, mask in masks.items():
                    exporter.add(photo, mask, name, role)
            except PhotoError as error:
                export.left_out.append(str(error))
                continue
            export.count += 1
        export.check_count()


PERSEG = ExportFormat("perseg", "PerSeg layout (Images/<object>/, Annotations/<object>/)", _write)
