"""Reference mode is float32 unless the user asks for less."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import fiftyone_persam as fp
from fiftyone_persam.personalize import dtype_for
from fiftyone_persam.sam import registry

from ..discs import Make, make_photos, tiny_sam


@pytest.mark.parametrize(
    ("dtype", "options", "expected"),
    [
        ("auto", {}, "auto"),
        ("auto", {"mode": "corrected"}, "auto"),
        ("auto", {"mode": "reference"}, "float32"),
        ("bfloat16", {"mode": "reference"}, "bfloat16"),
        (torch.float16, {"mode": "reference"}, torch.float16),
    ],
)
def test_dtype_for(dtype: Any, options: dict[str, Any], expected: Any) -> None:
    assert dtype_for(dtype, options) == expected


@pytest.mark.parametrize(
    ("asked", "mode", "recorded"),
    [
        ("auto", "corrected", "float16"),
        ("auto", "reference", "float32"),
        ("bfloat16", "reference", "bfloat16"),
    ],
)
def test_the_record_says_which(
    asked: str,
    mode: str,
    recorded: str,
    dataset: Make,
    tmp_path: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ordinary = registry.resolve_dtype

    def as_on_cuda(dtype: Any, device: torch.device) -> torch.dtype:
        return torch.float16 if dtype == "auto" else ordinary(dtype, device)

    monkeypatch.setattr(registry, "resolve_dtype", as_on_cuda)
    photos = dataset(make_photos(tmp_path, 2))
    run = fp.segment(
        photos,
        photos.first(),
        method="persam",
        model=tiny_sam(),
        dtype=asked,
        mode=mode,
        out_field="x",
    )
    assert run.config.dtype == recorded
