"""What this machine has of what the package needs, and what to do about the rest."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

OK, MISSING, WARNING = "ok", "missing", "warning"
Row = dict[str, str]

PACKAGES = ("fiftyone", "torch", "torchvision", "segment-anything", "timm", "safetensors", "numpy")


def doctor() -> list[Row]:
    """Look at versions, device, checkpoints, database, plugin and disk of this machine.

    Returns:
        one row per check: ``check``, ``result`` (begins with "ok", "missing" or "warning") and
        ``advice``, which is empty where nothing has to be done
    """
    rows: list[Row] = []
    for examine in (_versions, _device, _checkpoints, _database, _plugin, _disk):
        rows += _safely(examine)
    return rows


def _safely(examine: Callable[[], Iterator[Row]]) -> list[Row]:
    name = examine.__name__.strip("_")
    try:
        return list(examine())
    except Exception as error:  # the doctor's own trouble is a finding, not an end
        return [_row(name, f"{WARNING}: {error}", "this check itself failed")]


def _row(check: str, result: str, advice: str = "") -> Row:
    return {"check": check, "result": result, "advice": advice}


def _versions() -> Iterator[Row]:
    from .. import __version__

    yield _row("fiftyone-persam", f"{OK}: {__version__}, Python {platform.python_version()}")
    for name in PACKAGES:
        try:
            yield _row(name, f"{OK}: {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            yield _row(name, MISSING, f"pip install {name}")


def _device() -> Iterator[Row]:
    import torch

    from ..sam import resolve_device

    device = resolve_device("auto")
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        name = torch.cuda.get_device_name(device)
        yield _row("device", f"{OK}: {name}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free")
    elif device.type == "mps":
        yield _row("device", f"{OK}: Apple GPU (mps)")
    else:
        advice = "sam_lite and mobile_sam are made for this; ViT-B/L/H take up to a minute a photo"
        yield _row("device", f"{OK}: CPU, {torch.get_num_threads()} threads", advice)


def _checkpoints() -> Iterator[Row]:
    from ..sam import list_models
    from ..sam.text.tokens import INSTALL

    for model in list_models():
        if model.available:
            yield _row(f"model {model.name}", f"{OK}: {model.path}")
        elif model.text and model.path.is_file():
            advice = f"{INSTALL}, then fiftyone-persam models download {model.name}"
            yield _row(f"model {model.name}", f"{MISSING}: a part of what takes phrases", advice)
        elif model.source == "bundled":
            yield _row(f"model {model.name}", MISSING, "install the package again")
        else:
            size = f"{model.bytes / 1e6:.0f} MB"
            advice = (
                f"fiftyone-persam models download {model.name}, or put the file at {model.path}"
            )
            yield _row(f"model {model.name}", f"not downloaded ({size})", advice)


def _database() -> Iterator[Row]:
    import fiftyone as fo
    import fiftyone.core.odm as foo

    version = foo.get_db_conn().client.server_info()["version"]
    where = "at FIFTYONE_DATABASE_URI" if fo.config.database_uri else fo.config.database_dir
    yield _row("database", f"{OK}: MongoDB {version}, {where}")


def _plugin() -> Iterator[Row]:
    import fiftyone as fo
    import fiftyone.plugins as fop

    found = [p for p in fop.list_plugins() if p.name == "@fiftyone-persam/persam"]
    if found:
        yield _row("plugin", f"{OK}: {found[0].directory}")
    else:
        advice = "fiftyone-persam install-plugin"
        yield _row("plugin", f"{MISSING}: not in {fo.config.plugins_dir}", advice)


def _disk() -> Iterator[Row]:
    import fiftyone as fo

    folder = Path(os.path.expanduser(fo.config.default_dataset_dir))
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    free = shutil.disk_usage(folder).free / 2**30
    state, advice = (OK, "") if free > 1 else (WARNING, "masks need about 5 kB per photo")
    yield _row("disk", f"{state}: {free:.0f} GiB free at {folder}", advice)
