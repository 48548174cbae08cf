"""A device with too little memory costs time, never a photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fiftyone_persam.engine import Job, LocalBackend
from fiftyone_persam.engine.memory import (
    BatchLimit,
    batch_size_of,
    is_out_of_memory,
    photos_that_fit,
)
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam import PromptableSam
from fiftyone_persam.sam.lite import build_sam_lite

from .fitted import make_job, tiny


class SmallDevice(nn.Module):
    """A layer on a device that holds so many photos at once."""

    def __init__(self, layer: nn.Module, photos: int) -> None:
        super().__init__()
        self.layer = layer
        self.photos = photos
        self.refused: list[int] = []

    def forward(self, q: Tensor, k: Tensor, v: Tensor) -> Any:
        if len(q) > self.photos:
            self.refused.append(len(q))
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return self.layer(q=q, k=k, v=v)


def squeeze(job: Job, photos: int) -> SmallDevice:
    """Put the job's model on a small device."""
    torch.manual_seed(0)
    sam = PromptableSam(build_sam_lite(64).eval(), "tiny", checkpoint_sha256="random")
    block = sam.sam.mask_decoder.transformer.layers[0]
    block.self_attn = small = SmallDevice(block.self_attn, photos)
    job.sam = job.predictors[""].sam = sam  # type: ignore[attr-defined]
    return small


@pytest.mark.parametrize(
    ("batch_size", "photos", "refused"), [(8, 8, []), (8, 3, [8, 4]), (7, 1, [7, 3]), (5, 4, [5])]
)
def test_batches_are_halved_until_they_fit(
    tmp_path: Path, batch_size: int, photos: int, refused: list[int]
) -> None:
    """And the next ones have that size from the start."""
    job = make_job(tmp_path, 16, batch_size=batch_size)
    small = squeeze(job, photos)
    results = [result for chunk in LocalBackend().run(job) for result in chunk]
    assert sorted(r.id for r in results) == sorted(task.id for task in job.tasks)
    assert [result.error for result in results] == [None] * 16
    assert small.refused == refused


def test_not_even_one_photo(tmp_path: Path) -> None:
    job = make_job(tmp_path, 3, batch_size=2)
    squeeze(job, 0)
    with pytest.raises(PersamError, match=r"not enough memory for one photo with tiny: choose"):
        list(LocalBackend().run(job))


@pytest.mark.parametrize(
    ("free", "needed", "fit"),
    [(100, 1000, 1), (10_000, 1000, 8), (10_000, 500, 16), (10**12, 1, 16), (5, 0, 4), (0, 0, 1)],
)
def test_photos_that_fit(free: int, needed: int, fit: int) -> None:
    assert photos_that_fit(free, needed, 16) == fit


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory."), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling cublasCreate"), True),
        (RuntimeError("The size of tensor a (3) must match"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_out_of_memory_has_many_names(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_room_only_shrinks() -> None:
    limit = BatchLimit(16)
    limit.shrink(6)
    assert limit.size == 3
    limit.shrink(100)
    assert limit.size == 3
    limit.shrink(1)
    assert limit.size == 1


def test_a_cpu_has_its_own_size() -> None:
    assert batch_size_of(tiny()) == 4


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_asked() -> None:
    sam = PromptableSam(build_sam_lite(64).eval(), "tiny", "cuda")
    assert batch_size_of(sam) == 64
