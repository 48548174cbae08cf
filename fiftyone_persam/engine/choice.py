"""Back ends by name."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from ..errors import PersamError, did_you_mean
from .job import Backend

LOCAL, DEVICES, RAY = "local", "devices", "ray"
BACKENDS = (LOCAL, DEVICES, RAY)
_CLASSES = {"LocalBackend": LOCAL, "DevicesBackend": DEVICES, "RayBackend": RAY}


def choose_backend(backend: Any = None, cache: Any = None) -> Backend:
    """The back end that a ``backend`` argument means.

    Args:
        backend: "local": this process; "devices": every CUDA device of this machine; "ray": a Ray
            cluster; or an object, such as ``DevicesBackend(["cuda:0", "cuda:2"])``. "local" if
            None.
        cache: the job's, which other processes must be able to use.

    Raises:
        PersamError: there is no such back end, this machine has not what it needs, or the cache
            belongs to this process alone.
    """
    chosen = _choose(backend)
    from .cache import MemoryCache
    from .local import LocalBackend

    if isinstance(cache, MemoryCache) and not isinstance(chosen, LocalBackend):
        raise PersamError(
            "a MemoryCache belongs to one process: give cache=True or a folder, or backend='local'"
        )
    return chosen


def backend_name(backend: Backend) -> str:
    """What a run's record says of its back end: one of `BACKENDS`, or the name of its class."""
    name = type(backend).__name__
    return _CLASSES.get(name, name)


def available_backends() -> list[str]:
    """Those of `BACKENDS` that have something to work with: several CUDA devices, a Ray cluster.

    A cluster counts where RAY_ADDRESS names one; nothing is started or connected to.
    """
    import torch

    found = [LOCAL]
    if torch.cuda.device_count() > 1:
        found.append(DEVICES)
    if os.environ.get("RAY_ADDRESS") and importlib.util.find_spec("ray") is not None:
        found.append(RAY)
    return found


def _choose(backend: Any) -> Backend:
    if backend is None or backend == LOCAL:
        from .local import LocalBackend

        return LocalBackend()
    if backend == DEVICES:
        from .devices import DevicesBackend

        return DevicesBackend()
    if backend == RAY:
        from .ray_backend import RayBackend

        return RayBackend()
    if isinstance(backend, str):
        meant = did_you_mean(backend, BACKENDS)
        raise PersamError(
            f"backend {backend!r} is not known: give {', '.join(BACKENDS)}, or an object such as "
            f"DevicesBackend(['cuda:0']){meant}"
        )
    if isinstance(backend, type) or not callable(getattr(backend, "run", None)):
        raise PersamError(
            f"backend {backend!r} runs no jobs: give {', '.join(BACKENDS)}, or an object such as "
            "DevicesBackend(['cuda:0'])"
        )
    return backend  # type: ignore[no-any-return]
