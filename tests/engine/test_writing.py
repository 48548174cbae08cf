from __future__ import annotations

import threading
from pathlib import Path

import cv2
import numpy as np
import pytest

from fiftyone_persam.engine.writing import WriteBehind, WriteError, write_bytes, write_mask


def test_a_mask_comes_back_as_it_was(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((37, 53)) > 0.5
    write_mask(mask, tmp_path / "made" / "mask.png")
    pixels = cv2.imread(str(tmp_path / "made" / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.where(mask, 255, 0))
    assert [path.name for path in (tmp_path / "made").iterdir()] == ["mask.png"]


def test_an_older_file_stays_until_the_new_one_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(b"old")

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(WriteError, match=r"mask\.png: No space left on device.*resume"):
        write_bytes(b"new content", path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mask.png"]


def test_a_folder_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(WriteError, match="cannot write"):
        write_mask(np.ones((2, 2), np.bool_), tmp_path / "file" / "mask.png")


def test_write_behind_keeps_order_and_bounds_what_waits() -> None:
    gate = threading.Event()
    running = []

    def work(number: int) -> int:
        running.append(number)
        gate.wait(10)
        return number

    results: list[int] = []
    with WriteBehind[int](workers=2, pending=4) as writers:
        for number in range(4):
            results += writers.submit(work, number)
        assert results == []
        gate.set()  # a fifth one has to wait for the first
        results += writers.submit(work, 4)
        assert results[0] == 0
        for number in range(5, 20):
            results += writers.submit(work, number)
        results += writers.drain()
    assert results == list(range(20))


def test_write_behind_hands_over_what_was_raised() -> None:
    def work() -> None:
        raise WriteError("full")

    with pytest.raises(WriteError, match="full"), WriteBehind[None](1, 2) as writers:
        writers.submit(work)
        writers.drain()
