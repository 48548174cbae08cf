"""What was trained is read by diffusers' own pipeline."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fiftyone_persam.dreambooth import Trainer, TrainSettings, train
from fiftyone_persam.errors import PersamError

from .concepts import CAPTION, SIDE, say_nothing

Make = Callable[..., TrainSettings]


def draw(pipe: Any) -> np.ndarray:
    pipe.set_progress_bar_config(disable=True)
    image = pipe(
        CAPTION,
        height=SIDE,
        width=SIDE,
        num_inference_steps=3,
        generator=torch.Generator().manual_seed(0),
        output_type="np",
    ).images[0]
    return np.asarray(image)


@pytest.mark.parametrize("text", [False, True], ids=["unet", "unet and text"])
@pytest.mark.parametrize("method", ["lora", "unet"])
def test_what_was_trained_loads_in_diffusers(
    settings: Make, model: Path, method: str, text: bool
) -> None:
    from diffusers import StableDiffusionPipeline

    asked = settings(method=method, train_text_encoder=text, learning_rate=2e-2)
    trained = train(asked, say=say_nothing, progress=False)
    assert trained.folder is not None
    before = draw(StableDiffusionPipeline.from_pretrained(model))
    if method == "lora":
        pipe = StableDiffusionPipeline.from_pretrained(model)
        pipe.load_lora_weights(trained.folder)
    else:
        pipe = StableDiffusionPipeline.from_pretrained(trained.folder)
    trainer = Trainer(asked, say_nothing)
    from fiftyone_persam.dreambooth.checkpoints import load_checkpoint

    trainer.restore(load_checkpoint(asked.output))
    trainer.pipe.unet.eval()
    drawn = draw(pipe)
    assert np.abs(drawn - before).max() > 1e-3
    assert np.allclose(drawn, draw(trainer.pipe), atol=1e-5)


def test_what_is_frozen_is_saved_unrounded(settings: Make, model: Path) -> None:
    asked = settings(method="unet", precision="bf16")
    trained = train(asked, say=say_nothing, progress=False)
    assert trained.folder is not None
    for part, name in (("text_encoder", "model"), ("vae", "diffusion_pytorch_model")):
        before, after = (
            load_file(folder / part / f"{name}.safetensors") for folder in (model, trained.folder)
        )
        assert all(torch.equal(before[key], after[key]) for key in before)
    unet = load_file(trained.folder / "unet" / "diffusion_pytorch_model.safetensors")
    assert {value.dtype for value in unet.values()} == {torch.float32}


def test_folders_as_they_are_published(settings: Make, model: Path, tmp_path: Path) -> None:
    """With a safety checker in the index, and weights of half precision under another name."""
    from diffusers import StableDiffusionPipeline

    published = tmp_path / "published"
    pipe = StableDiffusionPipeline.from_pretrained(model)
    pipe.to(torch.float16).save_pretrained(published, variant="fp16")
    index = json.loads((published / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    index["feature_extractor"] = ["transformers", "CLIPImageProcessor"]
    (published / "model_index.json").write_text(json.dumps(index))
    trainer = Trainer(settings(model=published, variant="fp16"))
    assert trainer.pipe.unet.dtype == trainer.pipe.text_encoder.dtype == torch.float32
    assert float(trainer.loss(0).detach()) == pytest.approx(
        float(Trainer(settings()).loss(0).detach()), rel=1e-2
    )
    with pytest.raises(PersamError, match="cannot be loaded") as raised:
        Trainer(settings(model=published))
    assert "\n" not in str(raised.value)
