"""The mean of checkpoints, against plain arithmetic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from training.average import average


def checkpoint(path: Path, value: float, size: int = 3) -> Path:
    save_file({"w": torch.full((size,), value, dtype=torch.float16)}, path, {"format": "sam_lite"})
    return path


def test_the_weighted_mean(tmp_path: Path) -> None:
    files = [checkpoint(tmp_path / "a", 1.0), checkpoint(tmp_path / "b", 5.0)]
    average(files, (0.75, 0.25), tmp_path / "mean")
    mean = load_file(tmp_path / "mean")
    assert mean["w"].dtype == torch.float16 and mean["w"].tolist() == [2.0, 2.0, 2.0]
    with safe_open(tmp_path / "mean", framework="pt") as file:
        assert file.metadata() == {"format": "sam_lite"}


@pytest.mark.parametrize(
    ("weights", "size", "message"),
    [
        ((0.5, 0.4), 3, "sum to 1"),
        ((1.0,), 3, "one weight for each"),
        ((0.5, 0.5), 4, "another model"),
    ],
)
def test_what_has_no_mean(
    tmp_path: Path, weights: tuple[float, ...], size: int, message: str
) -> None:
    files = [checkpoint(tmp_path / "a", 1.0), checkpoint(tmp_path / "b", 5.0, size)]
    with pytest.raises(ValueError, match=message):
        average(files, weights, tmp_path / "mean")
    assert not (tmp_path / "mean").exists()
