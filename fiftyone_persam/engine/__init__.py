"""Engine: load ahead, compute in batches, write behind. Knows nothing of FiftyOne.

Names are resolved on first use, so looking at a job needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "BACKENDS": "choice",
    "Backend": "job",
    "DevicesBackend": "devices",
    "DiskCache": "disk_cache",
    "EmbeddingCache": "cache",
    "Job": "job",
    "LocalBackend": "local",
    "MemoryCache": "cache",
    "OutputSettings": "job",
    "PhotoResult": "job",
    "PhotoTask": "job",
    "RayBackend": "ray_backend",
    "WriteError": "writing",
    "available_backends": "choice",
    "backend_name": "choice",
    "choose_backend": "choice",
    "default_cache_dir": "disk_cache",
    "encode_files": "cache",
    "encode_pictures": "cache",
}

__all__ = [
    "BACKENDS",
    "Backend",
    "DevicesBackend",
    "DiskCache",
    "EmbeddingCache",
    "Job",
    "LocalBackend",
    "MemoryCache",
    "OutputSettings",
    "PhotoResult",
    "PhotoTask",
    "RayBackend",
    "WriteError",
    "available_backends",
    "backend_name",
    "choose_backend",
    "default_cache_dir",
    "encode_files",
    "encode_pictures",
]

if TYPE_CHECKING:
    from .cache import EmbeddingCache, MemoryCache, encode_files, encode_pictures
    from .choice import BACKENDS, available_backends, backend_name, choose_backend
    from .devices import DevicesBackend
    from .disk_cache import DiskCache, default_cache_dir
    from .job import Backend, Job, OutputSettings, PhotoResult, PhotoTask
    from .local import LocalBackend
    from .ray_backend import RayBackend
    from .writing import WriteError


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
