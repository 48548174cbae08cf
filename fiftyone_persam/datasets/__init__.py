"""Datasets: PerSeg's folder layout in and out of FiftyOne, one-shot benchmarks, masked training
sets, the demo album.

Names are resolved on first use, so building the album needs no FiftyOne.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "IMPORTERS": "importers",
    "ConceptWriter": "concept_layouts",
    "DavisDataset": "davis.importer",
    "OneShotDataset": "one_shot.importer",
    "PerSegDataset": "perseg",
    "PerSegExporter": "perseg_exporter",
    "PerSegImporter": "perseg_importer",
    "PhotoOptions": "concept_photo",
    "build_album": "album",
    "prepare_photo": "concept_photo",
    "read_concept": "concept_reader",
}

__all__ = [
    "IMPORTERS",
    "ConceptWriter",
    "DavisDataset",
    "OneShotDataset",
    "PerSegDataset",
    "PerSegExporter",
    "PerSegImporter",
    "PhotoOptions",
    "build_album",
    "prepare_photo",
    "read_concept",
]

if TYPE_CHECKING:
    from .album import build_album
    from .concept_layouts import ConceptWriter
    from .concept_photo import PhotoOptions, prepare_photo
    from .concept_reader import read_concept
    from .davis.importer import DavisDataset
    from .importers import IMPORTERS
    from .one_shot.importer import OneShotDataset
    from .perseg import PerSegDataset
    from .perseg_exporter import PerSegExporter
    from .perseg_importer import PerSegImporter


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
