"""A tiny pipeline learns from a real photo: the object alone, from every layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fiftyone_persam.dreambooth import Trainer, TrainSettings
from fiftyone_persam.errors import PersamError

from .concepts import say_nothing, write_cat

Make = Callable[..., TrainSettings]
DREAM = {"class_prompt": "a photo of a cat", "class_images": 2, "sample_steps": 2}


def gradients(trainer: Trainer) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Of the first pass's loss: (n, 4, 16, 16) by the UNet's output, and by each parameter."""
    seen: list[torch.Tensor] = []

    def keep(module: Any, arguments: Any, output: Any) -> None:
        output.sample.retain_grad()
        seen.append(output.sample)

    hook = trainer.pipe.unet.register_forward_hook(keep)
    trainer.loss(0).backward()
    hook.remove()
    assert seen[0].grad is not None
    return seen[0].grad, {n: p.grad for n, p in trainer.parameters().items() if p.grad is not None}


def background_cells(concept: Path, names: list[str]) -> np.ndarray:
    """(n, 16, 16) bool: latent cells in which no pixel is the object's."""
    masks = np.stack([np.asarray(Image.open(concept / "masks" / name)) for name in names])
    return masks.reshape(len(names), 16, 2, 16, 2).max(axis=(2, 4)) == 0


@pytest.mark.parametrize("method", ["lora", "unet"])
def test_the_background_has_no_gradient_with_the_mask_and_one_without(
    settings: Make, tmp_path: Path, method: str
) -> None:
    concept = write_cat(tmp_path / "one", photos=1)
    outside = background_cells(concept, ["chelsea.png"])[0]
    assert 0.2 < outside.mean() < 0.8
    found = {
        masked: gradients(Trainer(settings(data=concept, method=method, masked=masked)))[0][0]
        for masked in (True, False)
    }
    assert not found[True][:, outside].any()
    assert found[True][:, ~outside].all()
    assert found[False][:, outside].all()


def test_parameters_learn_nothing_of_the_background(settings: Make, tmp_path: Path) -> None:
    concept = write_cat(tmp_path / "one", photos=1)
    outside = torch.from_numpy(background_cells(concept, ["chelsea.png"])[0])
    learned = {}
    for masked in (True, False):
        trainer = Trainer(settings(data=concept, method="unet", masked=masked))

        def let_background_through(module: Any, arguments: Any, output: Any) -> None:
            output.sample.register_hook(lambda gradient: gradient * outside)

        trainer.pipe.unet.register_forward_hook(let_background_through)
        _, by_parameter = gradients(trainer)
        learned[masked] = max(float(value.abs().max()) for value in by_parameter.values())
    assert learned[True] == 0
    assert learned[False] > 0


def test_the_weight_outside_is_adjustable(settings: Make, tmp_path: Path) -> None:
    concept = write_cat(tmp_path / "one", photos=1)
    outside = background_cells(concept, ["chelsea.png"])[0]
    options = {"data": concept, "method": "unet", "normalize_by_area": False}
    full, _ = gradients(Trainer(settings(**options, masked=False)))
    tenth, _ = gradients(Trainer(settings(**options, outside_weight=0.1)))
    assert torch.allclose(tenth[0][:, outside], 0.1 * full[0][:, outside], rtol=1e-4)


@pytest.mark.parametrize(("method", "rate"), [("unet", 3e-3), ("lora", 5e-2)])
def test_the_loss_falls_on_a_real_photo(settings: Make, method: str, rate: float) -> None:
    trainer = Trainer(settings(method=method, steps=30, learning_rate=rate, batch_size=4))

    def measured() -> float:
        """Over noise and times that training does not meet."""
        with torch.no_grad():
            return float(np.mean([float(trainer.loss(10_000 + index)) for index in range(8)]))

    before = measured()
    for _ in range(30):
        trainer.advance()
    assert measured() < 0.9 * before


@pytest.mark.parametrize("layout", ["diffusers", "kohya", "onetrainer", "rgba"])
def test_every_layout_is_trained_on_alike(settings: Make, tmp_path: Path, layout: str) -> None:
    data = write_cat(tmp_path / layout, layout)
    reference = write_cat(tmp_path / "reference", "diffusers")
    losses = {
        float(Trainer(settings(data=folder)).loss(0).detach()) for folder in (data, reference)
    }
    assert len(losses) == 1


def test_a_model_that_predicts_velocity(settings: Make, tmp_path: Path) -> None:
    from benchmarks.tiny_diffusion import build_pipeline

    velocity = tmp_path / "velocity"
    build_pipeline(tmp_path / "words", prediction="v_prediction").save_pretrained(velocity)
    found = [
        float(Trainer(settings(model=m)).loss(0).detach()) for m in (velocity, settings().model)
    ]
    assert np.isfinite(found).all() and found[0] != found[1]


def test_photos_take_turns(settings: Make, tmp_path: Path) -> None:
    data = write_cat(tmp_path / "many", photos=5)
    trainer = Trainer(settings(data=data, batch_size=2))
    chosen = [i for index in range(10) for i in trainer._chosen(1, 5, index)]
    rounds = [chosen[start : start + 5] for start in range(0, 20, 5)]
    assert [sorted(one) for one in rounds] == [list(range(5))] * 4
    assert len({tuple(one) for one in rounds}) > 1


def test_prior_preservation_learns_the_class_beside_the_object(
    settings: Make, tmp_path: Path
) -> None:
    asked = settings(**DREAM, class_data=tmp_path / "cats", prior_weight=0.5)
    (tmp_path / "cats").mkdir()
    Image.new("RGB", (50, 40), "red").save(tmp_path / "cats" / "mine.jpg")
    before = (tmp_path / "cats" / "mine.jpg").read_bytes()
    trainer = Trainer(asked, say_nothing)
    assert sorted(p.name for p in (tmp_path / "cats").iterdir()) == ["class-00000.png", "mine.jpg"]
    assert (tmp_path / "cats" / "mine.jpg").read_bytes() == before
    gradient, _ = gradients(trainer)
    assert gradient.shape[0] == 2
    assert gradient[1].all()  # no mask for the class image


def test_a_loss_that_explodes_stops_with_a_line(settings: Make) -> None:
    trainer = Trainer(settings(method="unet"))
    with torch.no_grad():
        trainer.pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(PersamError, match="not finite at step 1"):
        trainer.advance()
    assert trainer.step == 0
