"""A training that was stopped ends like one that was not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fiftyone_persam.dreambooth import TrainSettings, train
from fiftyone_persam.errors import PersamError

from .concepts import SIDE, say_nothing, write_cat

Make = Callable[..., TrainSettings]
DREAM = {"class_prompt": "a photo of a cat", "class_images": 2, "sample_steps": 2}


@pytest.mark.parametrize(
    "options",
    [
        {"method": "lora", "schedule": "cosine", "warmup_steps": 2, "gradient_accumulation": 2},
        {"method": "unet", "train_text_encoder": True, "batch_size": 2},
        {"method": "lora", "train_text_encoder": True, **DREAM},
        {"precision": "bf16", "sample_every": 2, "sample_steps": 2, "sample_count": 1},
    ],
    ids=["schedule", "unet", "prior", "bf16"],
)
def test_a_resumed_run_equals_one_that_was_never_stopped(
    settings: Make, tmp_path: Path, options: dict[str, Any]
) -> None:
    whole, halves = (settings(output=tmp_path / name, **options) for name in ("whole", "halves"))
    at_once = train(whole, say=say_nothing, progress=False)
    asked = iter([False, True])
    first = train(halves, say=say_nothing, stop=lambda: next(asked), progress=False)
    assert (first.folder, first.step) == (None, 2)
    second = train(halves, resume=True, say=say_nothing, progress=False)
    assert second.step == at_once.step == 4
    assert first.losses + second.losses == at_once.losses
    ends = [
        load_file(tmp_path / name / "checkpoints" / "step-000004" / "weights.safetensors")
        for name in ("whole", "halves")
    ]
    assert ends[0] and ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    log = [json.loads(line) for line in (tmp_path / "halves" / "log.jsonl").open()]
    assert [line["step"] for line in log] == [1, 2, 3, 4]
    assert [line["loss"] for line in log] == at_once.losses


def test_samples_and_checkpoints_change_nothing(settings: Make, tmp_path: Path) -> None:
    plain = train(settings(output=tmp_path / "a"), say=say_nothing, progress=False)
    watched = settings(
        output=tmp_path / "b",
        sample_every=2,
        sample_steps=2,
        sample_count=3,
        sample_prompts=["a cat", "a dog"],
        checkpoint_every=1,
        keep_checkpoints=2,
    )
    assert train(watched, say=say_nothing, progress=False).losses == plain.losses
    grids = sorted((tmp_path / "b" / "samples").iterdir())
    assert [grid.name for grid in grids] == ["step-000002.png", "step-000004.png"]
    assert Image.open(grids[0]).size == (3 * SIDE, 2 * SIDE)
    kept = sorted(path.name for path in (tmp_path / "b" / "checkpoints").iterdir())
    assert kept == ["step-000003", "step-000004"]


def test_a_checkpoint_of_other_settings_is_refused(settings: Make, tmp_path: Path) -> None:
    train(settings(steps=2), say=say_nothing, progress=False)
    other = write_cat(tmp_path / "other", padding=0.1)
    for options, named in (
        ({"learning_rate": 2e-3}, r"learning_rate \(0.001, not 0.002\)"),
        ({"data": other}, "other photos"),
        ({"outside_weight": 0.5}, "outside_weight"),
    ):
        with pytest.raises(PersamError, match=named):
            train(settings(**options), resume=True, say=say_nothing, progress=False)
    with pytest.raises(PersamError, match="all of 2 steps"):
        train(settings(steps=2), resume=True, say=say_nothing, progress=False)
    assert train(settings(steps=3), resume=True, say=say_nothing, progress=False).step == 3


def test_a_damaged_checkpoint_is_one_line(settings: Make, tmp_path: Path) -> None:
    train(settings(), say=say_nothing, progress=False)
    weights = tmp_path / "out" / "checkpoints" / "step-000004" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(PersamError, match="step-000004 is damaged") as raised:
        train(settings(steps=9), resume=True, say=say_nothing, progress=False)
    assert "\n" not in str(raised.value)
