"""How many photos fit into a device's memory at once: found out, and learned from failures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from ..sam import Promptable

BATCH = {"cuda": 16, "mps": 4, "cpu": 4}
"""Photos at once where memory is no matter: more make no device faster."""
SMALL_ENCODER, SMALL_BATCH = 20_000_000, 64
"""Parameters of a small image encoder: MobileSAM's has 6 million. A GPU is through with one so soon
that it needs more photos at once; on a CPU photos go side by side."""
USABLE = 0.8
"""Of the free memory; the rest is for what decoding needs and for other processes."""

_SIGNS = ("out of memory", "not enough memory", "alloc_failed")


class BatchLimit:
    """How many photos go through a model at once; less from a failure on.

    Args:
        size: to begin with.
    """

    def __init__(self, size: int) -> None:
        self.size = max(1, size)

    def shrink(self, failed: int) -> None:
        """A batch of ``failed`` photos did not fit: half of it may."""
        self.size = max(1, min(self.size, failed // 2))


def batch_size_of(sam: Promptable) -> int:
    """Photos at once for a model on its device, by that device's free memory where it tells it."""
    most = BATCH.get(sam.device.type, 4)
    if sam.device.type != "cuda":
        return most
    if sam.encoder_parameters <= SMALL_ENCODER:
        most = SMALL_BATCH
    torch.cuda.reset_peak_memory_stats(sam.device)
    before = torch.cuda.memory_allocated(sam.device)
    side = sam.image_size
    try:
        sam.encode_resized([np.zeros((side, side, 3), np.uint8)], [(side, side)])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return 1
    needed = torch.cuda.max_memory_allocated(sam.device) - before
    free, _ = torch.cuda.mem_get_info(sam.device)
    # What torch has reserved but does not use is free for us alone.
    idle = torch.cuda.memory_reserved(sam.device) - torch.cuda.memory_allocated(sam.device)
    return photos_that_fit(free + idle, needed, most)


def photos_that_fit(free: int, needed: int, most: int) -> int:
    """Photos of ``needed`` bytes each in ``free`` bytes: at least 1, at most ``most``."""
    return max(1, min(most, int(USABLE * free) // max(1, needed)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device had too little memory; not all of them have an exception of their own."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in _SIGNS)
