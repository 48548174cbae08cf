"""Back ends by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..errors import PersamError, did_you_mean
from ..registry import Registry

if TYPE_CHECKING:
    from .job import Backend

_HERE = __name__.rpartition(".")[0]
LOCAL = "local"

BACKENDS: Registry[Any] = Registry(
    "back end",
    {
        LOCAL: f"{_HERE}.local:LocalBackend",
        "devices": f"{_HERE}.devices:DevicesBackend",
        "ray": f"{_HERE}.ray_backend:RayBackend",
    },
    group="fiftyone_persam.backends",
    required=("run", "help", "available"),
)
"""Classes of back ends by name; the first one is the default."""


def choose_backend(backend: Any = None, cache: Any = None) -> Backend:
    """The back end that a ``backend`` argument means.

    Args:
        backend: a name in `BACKENDS`: "local" for this process; "devices" for every CUDA device of
            this machine; "ray" for a Ray cluster; or an object, such as
            ``DevicesBackend(["cuda:0", "cuda:2"])``. "local" if None.
        cache: the job's, which other processes must be able to use.

    Raises:
        PersamError: there is no such back end, this machine lacks what it needs, or the cache
            belongs to this process alone.
    """
    chosen = _choose(backend)
    from .cache import MemoryCache

    if isinstance(cache, MemoryCache) and not getattr(chosen, "in_process", False):
        raise PersamError(
            "a MemoryCache belongs to one process: give cache=True or a folder, or backend='local'"
        )
    return chosen


def backend_name(backend: Backend) -> str:
    """What a run's record says of its back end: its name, or that of its class."""
    kind = type(backend)
    return str(vars(kind).get("name", kind.__name__))


def available_backends() -> list[str]:
    """Those of `BACKENDS` that have something to work with: several CUDA devices, a Ray cluster.

    A cluster counts where RAY_ADDRESS names one; nothing is started or connected to.
    """
    return [name for name, backend in BACKENDS.items() if backend.available()]


def _choose(backend: Any) -> Backend:
    if backend is None:
        backend = LOCAL
    if isinstance(backend, str):
        if backend not in BACKENDS:
            raise PersamError(
                f"backend {backend!r} is not known: give {', '.join(BACKENDS)}, or an object such "
                f"as DevicesBackend(['cuda:0']){did_you_mean(backend, BACKENDS)}"
            )
        named: Backend = BACKENDS[backend]()
        return named
    if isinstance(backend, type) or not callable(getattr(backend, "run", None)):
        raise PersamError(
            f"backend {backend!r} runs no jobs: give {', '.join(BACKENDS)}, or an object such as "
            "DevicesBackend(['cuda:0'])"
        )
    given: Backend = backend
    return given
