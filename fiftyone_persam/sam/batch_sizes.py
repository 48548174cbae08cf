"""How many photos, or prompts, a device works on at once."""

from __future__ import annotations

from numbers import Integral

import torch

from ..errors import PersamError

ENCODE_BATCH = {"cuda": 8, "mps": 4, "cpu": 4}
DECODE_BATCH = {"cuda": 64, "mps": 16, "cpu": 8}


def encode_batch_size(given: int | None, device: torch.device) -> int:
    """Photos that go through the image encoder at once: as given, or by device."""
    return check_batch_size(given) or ENCODE_BATCH.get(device.type, 4)


def decode_batch_size(given: int | None, device: torch.device) -> int:
    """Prompts that are decoded at once: as given, or by device."""
    return check_batch_size(given) or DECODE_BATCH.get(device.type, 4)


def check_batch_size(given: int | None) -> int | None:
    """Raise PersamError unless this is None or 1 or more."""
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, Integral) or given < 1:
        raise PersamError(f"batch_size {given!r} is not a number of photos: give 1 or more")
    return int(given)
