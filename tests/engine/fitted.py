"""A job with a real method on a tiny model, and methods that meet or end their process."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fiftyone_persam.engine import Job, OutputSettings, PhotoTask
from fiftyone_persam.personalize import PerSAM, Reference
from fiftyone_persam.sam import ImageEmbedding, PromptableSam
from fiftyone_persam.sam.lite import build_sam_lite

DEADLY_WIDTH = 61


class Deadly(PerSAM):
    """Ends its process without a word at a photo of a certain width."""

    def predict_embeddings(
        self, embeddings: Sequence[ImageEmbedding], batch_size: int | None = None
    ) -> list[Any]:
        if any(one.original_size[1] == DEADLY_WIDTH for one in embeddings):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict_embeddings(embeddings, batch_size)


MEETING = "FIFTYONE_PERSAM_TEST_MEETING"


class Meeting(PerSAM):
    """Begins when two processes have come to this point; they meet in a folder."""

    def predict_embeddings(
        self, embeddings: Sequence[ImageEmbedding], batch_size: int | None = None
    ) -> list[Any]:
        folder = Path(os.environ[MEETING])
        (folder / str(os.getpid())).touch()
        deadline = time.monotonic() + 60
        while len(list(folder.iterdir())) < 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        return super().predict_embeddings(embeddings, batch_size)


@cache
def tiny() -> PromptableSam:
    torch.manual_seed(0)
    return PromptableSam(build_sam_lite(64).eval(), "tiny", checkpoint_sha256="random")


def paint(number: int, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A photo (48, W, 3) of a disc, and its mask (48, W)."""
    rows, columns = np.mgrid[:48, :width]
    mask = (columns - 20 - number) ** 2 + (rows - 24) ** 2 <= 144
    noise = np.random.default_rng(number).integers(90, 130, (48, width, 3))
    return np.where(mask[..., None], (220, 40, 30), noise).astype(np.uint8), mask


class FramewisePerSAM(PerSAM):
    """A real method that knows nothing of sequences: the default session serves it."""

    sequence_session = None  # not the one of PerSAM, which follows the object


def make_job(folder: Path, photos: int, method: type[PerSAM] = PerSAM, **changes: Any) -> Job:
    """A job over new photos in ``folder``; every mask is a file."""
    tasks = []
    for number in range(photos):
        path = folder / f"{number}.png"
        Image.fromarray(paint(number)[0]).save(path)
        tasks.append(PhotoTask(f"photo{number}", str(path)))
    photo, mask = paint(0)
    (folder / "masks").mkdir()
    return Job(
        tasks=tasks,
        sam=tiny(),
        predictors={"": method(tiny()).fit(Reference(photo, mask=mask))},
        output=OutputSettings(masks_dir=folder / "masks", storage="file"),
        **{"batch_size": 1, "workers": 1, **changes},
    )
