"""The one-shot benchmarks of the paper (table 3) and of its rivals: data, episodes, runner.

Names are resolved on first use. A further benchmark is one file with a `read` function and one line
in `benchmarks`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOME = {
    "BENCHMARKS": "benchmarks",
    "Benchmark": "benchmarks",
    "Episode": "records",
    "Example": "records",
    "OneShotDataset": "importer",
    "OneShotImporter": "importer",
    "OneShotIndex": "records",
    "benchmark": "benchmarks",
    "episodes": "sampling",
    "read_benchmark": "benchmarks",
    "run_episodes": "runner",
}

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "Episode",
    "Example",
    "OneShotDataset",
    "OneShotImporter",
    "OneShotIndex",
    "benchmark",
    "episodes",
    "read_benchmark",
    "run_episodes",
]

if TYPE_CHECKING:
    from .benchmarks import BENCHMARKS, Benchmark, benchmark, read_benchmark
    from .importer import OneShotDataset, OneShotImporter
    from .records import Episode, Example, OneShotIndex
    from .runner import run_episodes
    from .sampling import episodes


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value
