"""Photos that cannot be read, or are odd, cost a run only themselves."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest
from PIL import Image

from .. import jobs
from ..discs import Make, make_photos
from .survivors import (
    persistent,
)

PHOTOS = 12


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return persistent(dataset(make_photos(tmp_path, PHOTOS)))


def write_truncated(path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:2000])


def write_animated(path: Path) -> None:
    frames = [Image.new("RGB", (40, 30), (60 * n, 90, 30)) for n in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def write_odd_name(path: Path) -> None:
    Image.new("RGB", (40, 30), (200, 50, 30)).save(path, "PNG")


def write_vast(path: Path) -> None:
    """One bit per pixel: a small file that would fill gigabytes."""
    Image.new("1", (20_000, 20_000)).save(path)


ODD_PHOTOS: list[tuple[str, Callable[[Path], Any], tuple[int, int] | str]] = [
    ("zero.jpg", lambda p: p.write_bytes(b""), "zero.jpg is empty"),
    ("truncated.png", write_truncated, "truncated.png cannot be decoded"),
    ("text.jpg", lambda p: p.write_text("no photo"), "text.jpg is not an image"),
    ("folder.jpg", lambda p: p.mkdir(), "folder.jpg is not a file"),
    ("pipe.jpg", os.mkfifo, "pipe.jpg is not a file"),
    ("vast.png", write_vast, "vast.png has more than"),
    ("png.jpg", write_odd_name, (30, 40)),
    ("no_suffix", write_odd_name, (30, 40)),
    ("one.png", lambda p: Image.new("RGB", (1, 1)).save(p), (1, 1)),
    ("strip.jpg", lambda p: Image.new("RGB", (20_000, 300), "red").save(p), (300, 20_000)),
    ("animated.gif", write_animated, (30, 40)),
    ("animated.webp", write_animated, (30, 40)),
    ("cmyk.jpg", lambda p: Image.new("CMYK", (40, 30), (9, 99, 9, 9)).save(p), (30, 40)),
    ("grey16.png", lambda p: Image.new("I;16", (40, 30), 9000).save(p), (30, 40)),
    ("ünï çödé\n.png", lambda p: Image.new("RGB", (40, 30)).save(p), (30, 40)),
]


def test_odd_photos_cost_only_themselves(photos: fo.Dataset, tmp_path: Path) -> None:
    expected: dict[str, tuple[int, int] | str] = {}
    for name, write, outcome in ODD_PHOTOS:
        path = tmp_path / name
        write(path)
        expected[photos.add_sample(fo.Sample(str(path), media_type="image"))] = outcome
    gone, deleted, changed = photos.skip(2).limit(3)
    expected[gone.id] = f"{gone.filename} does not exist"
    expected[changed.id] = (70, 50)
    done_with = [*photos.values("id")]

    def meddle(done: int, total: int) -> None:
        """Between listing and reading."""
        if done == 0:
            Path(gone.filepath).unlink()
            Image.new("RGB", (50, 70), (9, 90, 200)).save(changed.filepath)
            photos.delete_samples([deleted.id])

    run = jobs.run_on(photos, progress=meddle)
    assert run.state == "done"
    done_with.remove(deleted.id)
    assert photos.values("id") == done_with
    for sample in photos:
        outcome = expected.get(sample.id, (48, 64))
        error = sample["x_error"]
        if isinstance(outcome, str):
            assert error is not None and outcome in error and "\n" not in error
            assert sample["x"] is None and run.errors[sample.id] == error
        else:
            assert error is None, error
            assert sample["x"].get_mask().shape == outcome, sample.filename
    assert run.counts["remaining"] == 0
    assert run.counts["segmented"] + run.counts["failed"] == len(done_with)
