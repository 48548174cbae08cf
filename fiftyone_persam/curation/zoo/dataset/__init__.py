"""PerSeg, or an album of yours in its layout, for ``foz.load_zoo_dataset``.

foz.load_zoo_dataset(<this repository>)                          # downloads PerSeg
foz.load_zoo_dataset(<this repository>, source="PerSeg.zip")     # an archive or a folder
foz.load_zoo_dataset(<this repository>, source="PerSeg.zip", objects=["cat"], max_samples=10)
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def download_and_prepare(
    dataset_dir: str, source: str | None = None, sha256: str | None = None
) -> tuple[None, int, None]:
    """Fetch, unpack or copy the album; see `fiftyone_persam.datasets.perseg_zoo.prepare_perseg`."""
    _find_library()
    from fiftyone_persam.datasets.perseg_zoo import prepare_perseg

    return None, prepare_perseg(dataset_dir, source, sha256), None


def load_dataset(
    dataset: Any,
    dataset_dir: str,
    objects: Sequence[str] | None = None,
    reference: str | Mapping[str, str] | None = None,
    on_error: str = "raise",
    gt_field: str = "ground_truth",
    masks: str = "files",
    shuffle: bool = False,
    seed: int | None = None,
    max_samples: int | None = None,
) -> None:
    """Add the album; the options are those of `fiftyone_persam.datasets.PerSegImporter`."""
    _find_library()
    from fiftyone_persam.datasets.perseg_zoo import load_perseg

    load_perseg(
        dataset,
        dataset_dir,
        objects=objects,
        reference=reference,
        on_error=on_error,
        gt_field=gt_field,
        masks=masks,
        shuffle=shuffle,
        seed=seed,
        max_samples=max_samples,
    )


def _find_library() -> None:
    """Make ``fiftyone_persam`` importable: installed by pip, or inside the downloaded plugin."""
    if importlib.util.find_spec("fiftyone_persam") is not None:
        return
    import fiftyone as fo

    plugin = Path(fo.config.plugins_dir) / "@fiftyone-persam" / "persam"
    if not (plugin / "fiftyone_persam").is_dir():
        raise ImportError(
            "the library fiftyone-persam is missing: install it with pip, or its plugin with "
            "`fiftyone plugins download`"
        )
    sys.path.append(str(plugin))
