"""Datasets: PerSeg's folder layout in and out of FiftyOne, one-shot benchmarks, the demo album.

Names are resolved on first use, so building the album needs no FiftyOne.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "OneShotDataset": "one_shot.importer",
    "PerSegDataset": "perseg",
    "PerSegExporter": "perseg_exporter",
    "PerSegImporter": "perseg_importer",
    "build_album": "album",
}

__all__ = ["OneShotDataset", "PerSegDataset", "PerSegExporter", "PerSegImporter", "build_album"]

if TYPE_CHECKING:
    from .album import build_album
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
