"""Jobs on a real CUDA device: the CPU's results, less memory, several processes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import fiftyone_persam as fp
from fiftyone_persam.engine import DevicesBackend, Job, LocalBackend, OutputSettings, PhotoTask
from fiftyone_persam.engine.job import Timings

from .fitted import paint

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PHOTOS = 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Discs on noise, large and small, as JPEG and PNG."""
    folder = tmp_path_factory.mktemp("photos")
    files = []
    for number in range(PHOTOS):
        pixels = Image.fromarray(paint(number % 20)[0])
        size = [(640, 480), (700, 500), (480, 640)][number % 3]
        form = "png" if number % 4 == 0 else "jpg"
        files.append(folder / f"{number}.{form}")
        pixels.resize(size, Image.Resampling.BICUBIC).save(files[-1], quality=95)
    return files


def job_of(
    photos: list[Path], folder: Path, device: str, dtype: str, kind: Any = fp.PerSAM, **speed: Any
) -> Job:
    sam = fp.load_sam("sam_lite", device=device, dtype=dtype).with_speed(**speed)
    photo = np.asarray(Image.open(photos[0]).convert("RGB"))
    mask = np.asarray(Image.fromarray(paint(0)[1]).resize(photo.shape[1::-1]))
    return Job(
        tasks=[PhotoTask(f"photo{n}", str(file)) for n, file in enumerate(photos)],
        sam=sam,
        predictors={"": kind(sam, presence_threshold=0).fit(fp.Reference(photo, mask=mask))},
        output=OutputSettings(masks_dir=folder, storage="file"),
        batch_size=8,
    )


def masks_of(job: Job, backend: Any = None) -> list[Any]:
    results = [one for chunk in (backend or LocalBackend()).run(job) for one in chunk]
    assert [one.error for one in results] == [None] * len(job.tasks)
    found = {one.id: np.asarray(Image.open(one.mask.path)) > 0 for one in results}  # type: ignore[union-attr, arg-type]
    return [found[task.id] for task in job.tasks]


def ious(found: list[Any], wanted: list[Any]) -> list[float]:
    return [fp.iou(one, other) for one, other in zip(found, wanted, strict=True)]


@pytest.fixture(scope="module")
def on_cpu(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[Any, list[Any]]:
    folder = tmp_path_factory.mktemp("cpu")
    return {
        kind: masks_of(job_of(photos[:16], folder, "cpu", "float32", kind))
        for kind in (fp.PerSAM, fp.PerSAMF)
    }


@pytest.mark.parametrize("kind", [fp.PerSAM, fp.PerSAMF])
def test_float32_gives_the_masks_of_the_cpu(
    kind: Any, photos: list[Path], on_cpu: dict[Any, list[Any]], tmp_path: Path
) -> None:
    exact = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        job = job_of(photos[:16], tmp_path, "cuda", "float32", kind, resize=False)
        found = ious(masks_of(job), on_cpu[kind])
    finally:
        torch.backends.cudnn.allow_tf32 = exact
    assert np.mean(found) >= 0.999


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_near(
    dtype: str, photos: list[Path], on_cpu: dict[Any, list[Any]], tmp_path: Path
) -> None:
    found = ious(masks_of(job_of(photos[:16], tmp_path, "cuda", dtype)), on_cpu[fp.PerSAM])
    assert np.mean(found) >= 0.99


@pytest.mark.parametrize("kind", [fp.PerSAM, fp.PerSAMF])
@pytest.mark.parametrize("off", ["graphs", "passes", "resize"])
def test_each_switch_changes_no_mask(
    off: str, kind: Any, photos: list[Path], tmp_path: Path
) -> None:
    """A job with five batches plays graphs; one of its switches is off in the other job."""
    fast = masks_of(job_of(photos, tmp_path / "on", "cuda", "float32", kind))
    slow = masks_of(job_of(photos, tmp_path / "off", "cuda", "float32", kind, **{off: False}))
    found = ious(fast, slow)
    assert np.mean(found) >= 0.995 and (off == "resize" or min(found) >= 0.99)


def test_compiled_gives_the_same_masks(photos: list[Path], tmp_path: Path) -> None:
    plain = masks_of(job_of(photos[:16], tmp_path / "plain", "cuda", "float32"))
    job = job_of(photos[:16], tmp_path / "compiled", "cuda", "float32", compile=True)
    assert np.mean(ious(masks_of(job), plain)) >= 0.995


def test_too_little_memory_halves_the_batches(photos: list[Path], tmp_path: Path) -> None:
    """The process may use a little more memory than it does: real allocations fail."""
    wanted = masks_of(job_of(photos, tmp_path / "all", "cuda", "float32"))
    job = job_of(photos, tmp_path / "few", "cuda", "float32", graphs=False)
    job = replace(job, batch_size=PHOTOS)
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(0).total_memory
    share = (torch.cuda.memory_allocated() + 600 * 2**20) / total
    torch.cuda.set_per_process_memory_fraction(share)
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(2**30, dtype=torch.uint8, device="cuda")
        found = masks_of(job)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert np.mean(ious(found, wanted)) >= 0.99
    assert job.timings.photos_encoded > PHOTOS  # some had to be encoded again


def test_several_processes_on_one_device(photos: list[Path], tmp_path: Path) -> None:
    wanted = masks_of(job_of(photos, tmp_path / "one", "cuda", "float32"))
    job = replace(job_of(photos, tmp_path / "two", "cuda", "float32"), timings=Timings())
    found = masks_of(job, DevicesBackend(["cuda:0", "cuda:0"]))
    assert np.mean(ious(found, wanted)) >= 0.995
    assert job.timings.photos_encoded == PHOTOS
