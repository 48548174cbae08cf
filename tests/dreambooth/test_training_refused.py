"""Settings, models and training sets that cannot be trained with: one line, nothing left."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from fiftyone_persam.dreambooth import Trainer, TrainSettings, train
from fiftyone_persam.errors import PersamError

from .concepts import SIDE, say_nothing, write_cat

Make = Callable[..., TrainSettings]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"model": "nowhere"}, "not a folder"),
        ({"data": "nowhere"}, "export_dreambooth"),
        ({"resolution": 30}, "multiple of 4"),
        ({"steps": 0}, "steps 0"),
        ({"method": "dora"}, "lora, unet"),
        ({"outside_weight": 1.5}, "outside_weight 1.5"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"class_data": "cats"}, "class_prompt"),
        ({"device": "cuda:77"}, "'cuda:77'"),
        ({"device": "abacus"}, "'abacus'"),
    ],
)
def test_bad_settings_are_one_line_and_leave_nothing(
    settings: Make, tmp_path: Path, options: dict[str, Any], named: str
) -> None:
    with pytest.raises(PersamError, match=named) as raised:
        train(settings(**options), say=say_nothing, progress=False)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_models_of_other_kinds_are_refused(settings: Make, model: Path, tmp_path: Path) -> None:
    import shutil

    index = json.loads((model / "model_index.json").read_text())
    for name, change, named in (
        ("xl", {"_class_name": "StableDiffusionXLPipeline"}, "is a StableDiffusionXLPipeline"),
        ("list", None, "no model_index.json"),
    ):
        folder = tmp_path / name
        folder.mkdir()
        content = [] if change is None else {**index, **change}
        (folder / "model_index.json").write_text(json.dumps(content))
        with pytest.raises(PersamError, match=named):
            Trainer(settings(model=folder))
    # Weights that could run code are not read.
    shutil.copytree(model, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(PersamError, match="safetensors"):
        Trainer(settings(model=tmp_path / "pickled"))
    weights.write_bytes(b"cut off")
    with pytest.raises(PersamError, match="cannot be loaded") as raised:
        Trainer(settings(model=tmp_path / "pickled"))
    assert "\n" not in str(raised.value)


def test_sets_that_cannot_be_trained_on(settings: Make, tmp_path: Path) -> None:
    for number, (damage, named) in enumerate(
        (
            (lambda f: Image.new("L", (SIDE, SIDE)).save(f / "masks" / "chelsea.png"), "is empty"),
            (lambda f: Image.new("L", (9, 9)).save(f / "masks" / "chelsea.png"), "9 x 9"),
            (lambda f: (f / "images" / "chelsea.png").unlink(), "does not exist"),
            (lambda f: (f / "images" / "chelsea.png").write_text("x"), "chelsea.png"),
            (lambda f: (f / "metadata.jsonl").write_text("{}"), "line 1"),
            (lambda f: (f / "metadata.jsonl").write_text(""), "no photo"),
            (
                lambda f: (f / "metadata.jsonl").write_text(
                    '{"file_name": "../../secret.png", "text": "x"}'
                ),
                "outside",
            ),
            (
                lambda f: (f / "metadata.jsonl").write_text(
                    '{"file_name": "images/chelsea.png", "text": "x"}'
                ),
                "has no mask",
            ),
        )
    ):
        folder = write_cat(tmp_path / str(number))
        damage(folder)
        with pytest.raises(PersamError, match=named) as raised:
            Trainer(settings(data=folder))
        assert "\n" not in str(raised.value)


def test_an_occupied_folder_is_left_alone(settings: Make, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "novel.txt").write_text("chapter one")
    with pytest.raises(PersamError, match="not empty"):
        train(settings(), say=say_nothing, progress=False)
    with pytest.raises(PersamError, match="no checkpoint"):
        train(settings(), resume=True, say=say_nothing, progress=False)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["novel.txt"]
