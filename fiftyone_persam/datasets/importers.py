"""Folder layouts that can be imported, by name."""

from __future__ import annotations

from typing import Any

from ..registry import Registry

_HERE = __name__.rpartition(".")[0]

IMPORTERS: Registry[Any] = Registry(
    "importer",
    {
        "perseg": f"{_HERE}.perseg:PerSegDataset",
        "davis": f"{_HERE}.davis.importer:DavisDataset",
        "one_shot": f"{_HERE}.one_shot.importer:OneShotDataset",
    },
    required=("get_dataset_importer_cls",),
)
"""FiftyOne dataset types by name: what ``fo.Dataset.from_dir`` takes as ``dataset_type``."""
