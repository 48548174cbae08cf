"""The PerSeg layout as a FiftyOne dataset type."""

from __future__ import annotations

import fiftyone as fo

from .perseg_exporter import PerSegExporter
from .perseg_importer import PerSegImporter


class PerSegDataset(fo.types.Dataset):
    """Personal objects in PerSeg's layout, one reference photo per object::

        <dataset_dir>/
            Images/<object>/00.jpg         the reference
            Images/<object>/01.jpg
            Annotations/<object>/00.png    its mask: black is background
            Annotations/<object>/01.png

    Import::

        dataset = fo.Dataset.from_dir(dataset_dir="album", dataset_type=fp.PerSegDataset)

    Export::

        view.export(export_dir="out", dataset_type=fp.PerSegDataset, label_field="ground_truth")

    For the options see :class:`PerSegImporter` and :class:`PerSegExporter`; pass them as keyword
    arguments of ``from_dir`` and ``export``.
    """

    def get_dataset_importer_cls(self) -> type[PerSegImporter]:
        """The importer that ``from_dir`` uses."""
        return PerSegImporter

    def get_dataset_exporter_cls(self) -> type[PerSegExporter]:
        """The exporter that ``export`` uses."""
        return PerSegExporter
