"""Export as FiftyOne's own dataset type: all fields, photos and masks, to be loaded again."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo

from ...datasets.named_files import files_below, folded
from ...datasets.photo_copies import copy_upright, orientation_of
from ...datasets.staging import Stage
from ...errors import PhotoError
from ...sam.photo_files import open_regular
from ..database import photos_of
from ..fiftyone_api import media_files
from ..labels.sizes import read_shown_size
from .formats import Export, ExportFormat

_LISTS = ("samples.json", "frames.json")


def _write(export: Export) -> None:
    chosen, stage = export.chosen, export.stage
    photos = photos_of(chosen.dataset)
    view = photos.select(chosen.ids, ordered=True)
    files = media_files(view)
    whole = []
    for sample_id, filepath in zip(*view.values(["id", "filepath"]), strict=True):
        try:
            read_shown_size(filepath)
            for named in files.get(sample_id, ()):
                with open_regular(Path(named), f"{os.path.basename(filepath)} names a file:"):
                    pass
            whole.append(sample_id)
        except PhotoError as error:
            export.left_out.append(str(error))
    export.count = len(whole)
    export.check_count()
    if export.left_out:
        view = photos.select(whole, ordered=True)
    stage.path.rmdir()  # FiftyOne warns of folders that are there
    view.export(export_dir=str(stage.path), dataset_type=fo.types.FiftyOneDataset)
    turned = _turn_upright(stage.path / "data")
    renamed = _new_names(stage)
    for old, new in renamed.items():
        os.replace(stage.path / old, stage.path / new)
    if turned or renamed:
        _rewrite_lists(stage.path, turned, renamed)


def _turn_upright(folder: Path) -> dict[str, tuple[int, int]]:
    """Turn copies as their EXIF says; file -> (H, W) of those that were turned."""
    turned = {}
    for path in files_below(folder):
        if orientation_of(path) != 1:
            upright = path.with_name(f".{path.name}")
            size = copy_upright(path, upright)
            os.replace(upright, path)
            turned[path.relative_to(folder.parent).as_posix()] = size
    return turned


def _new_names(stage: Stage) -> dict[str, str]:
    """Other names for files that would clash, where case is ignored or with a dataset's file."""
    files = [
        path.relative_to(stage.path)
        for path in files_below(stage.path)
        if path.parent != stage.path
    ]
    taken: set[str] = set()
    renamed = {}
    for path in files:
        further = (path.with_stem(f"{path.stem}-{number}") for number in itertools.count(2))
        for candidate in itertools.chain([path], further):
            name = candidate.as_posix()
            is_new = candidate == path or candidate not in files
            if is_new and folded(name) not in taken and stage.fits(name, stage.path / path):
                break
        taken.add(folded(name))
        if candidate != path:
            renamed[path.as_posix()] = name
    return renamed


def _rewrite_lists(
    folder: Path, turned: dict[str, tuple[int, int]], renamed: dict[str, str]
) -> None:
    for name in _LISTS:
        file = folder / name
        if not file.is_file():
            continue
        content = json.loads(file.read_text(encoding="utf-8"))
        for document in _documents(content):
            stored, metadata = document.get("filepath"), document.get("metadata")
            if stored in turned and isinstance(metadata, dict):
                metadata["height"], metadata["width"] = turned[stored]
                copy = folder / renamed.get(stored, stored)
                metadata["size_bytes"] = copy.stat().st_size
        content = _replaced(content, lambda text: renamed.get(text, text))
        file.write_text(json.dumps(content), encoding="utf-8")


def _documents(content: Any) -> list[dict[str, Any]]:
    found = content.get("samples", []) if isinstance(content, dict) else []
    return [one for one in found if isinstance(one, dict)]


def _replaced(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [_replaced(one, change) for one in value]
    if isinstance(value, dict):
        return {key: _replaced(one, change) for key, one in value.items()}
    return value


WHOLE = ExportFormat("fiftyone", "FiftyOneDataset (everything, loads again with from_dir)", _write)
