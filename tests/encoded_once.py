"""sam_lite encodes a picture once, however many tests show it the same one.

Two thirds of what the tests of runs, forms and commands compute is embeddings of the same few small
photos, each 1024 pixels wide to the model. What comes out is the model's own: it depends on the
pixels and the weights alone, and both are part of the key. Tests of models and methods, which are
about encoding itself, do not use this.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import cachetools
import pytest

MOST = 32
"""Embeddings that are kept, of up to 10 MB each."""


@contextmanager
def encoded_once() -> Iterator[None]:
    """As the module says, until it ends."""
    import torch

    from fiftyone_persam.sam.lite import SamLiteEncoder

    encode, lock = SamLiteEncoder.forward, threading.Lock()
    known: cachetools.LRUCache[Any, torch.Tensor] = cachetools.LRUCache(MOST)

    def forward(self: SamLiteEncoder, x: torch.Tensor, describe: bool = False) -> torch.Tensor:
        if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
            return encode(self, x, describe)
        weights = tuple(float(one.float().sum()) for one in self.state_dict().values())
        pixels = hashlib.sha256(x.float().contiguous().numpy().tobytes()).digest()
        key = (pixels, x.shape, x.dtype, describe, self.training, weights)
        with lock:
            found = known.get(key)
        if found is None:
            found = encode(self, x, describe)
            with torch.inference_mode(False), lock:  # a tensor that gradients may start from
                known[key] = found.clone()
            return found
        return found.clone()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SamLiteEncoder, "forward", forward)
        yield
