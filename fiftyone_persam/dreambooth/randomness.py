"""Random numbers that depend on the seed and the step alone.

A training that was stopped and goes on draws what it would have drawn: nothing has to be stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

NOISE, ORDER, CLASS_ORDER, WEIGHTS, DROPOUT = range(5)


def number(seed: int, stream: int, index: int) -> int:
    """A seed of 63 bits for one use of random numbers."""
    state = np.random.SeedSequence([seed, stream, index]).generate_state(1, np.uint64)
    return int(state[0] >> np.uint64(1))


def generator(seed: int, stream: int, index: int) -> torch.Generator:
    """A generator on the CPU, so that every device gets the same numbers."""
    return torch.Generator().manual_seed(number(seed, stream, index))


@contextmanager
def seeded(seed: int, stream: int, index: int, device: torch.device) -> Iterator[None]:
    """PyTorch's own random state set for a block of code, and put back after it."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(number(seed, stream, index))
        yield


def picks(seed: int, stream: int, count: int, first: int, amount: int) -> list[int]:
    """Which of ``count`` photos come at places ``first``, ``first + 1``, ...: shuffled rounds."""
    found: list[int] = []
    for place in range(first, first + amount):
        order = np.random.default_rng(number(seed, stream, place // count)).permutation(count)
        found.append(int(order[place % count]))
    return found
