"""A tiny pipeline, trained for a few steps on a real photo."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fiftyone_persam.dreambooth import Trainer, TrainSettings, train
from fiftyone_persam.errors import PersamError

from .concepts import CAPTION, SIDE, write_cat

Make = Callable[..., TrainSettings]

DREAM = {"class_prompt": "a photo of a cat", "class_images": 2, "sample_steps": 2}


def say_nothing(line: str) -> None:
    """For tests that look at files."""


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


# --- (a) the background is not learned --------------------------------------------------------


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


# --- (b) the loss falls -----------------------------------------------------------------------


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


# --- (c) resuming -----------------------------------------------------------------------------


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


# --- (d) diffusers' own pipeline --------------------------------------------------------------


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


# --- the rest ---------------------------------------------------------------------------------


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


def test_a_loss_that_explodes_stops_with_a_line(settings: Make) -> None:
    trainer = Trainer(settings(method="unet"))
    with torch.no_grad():
        trainer.pipe.unet.conv_out.bias.fill_(float("nan"))
    with pytest.raises(PersamError, match="not finite at step 1"):
        trainer.advance()
    assert trainer.step == 0


def test_a_damaged_checkpoint_is_one_line(settings: Make, tmp_path: Path) -> None:
    train(settings(), say=say_nothing, progress=False)
    weights = tmp_path / "out" / "checkpoints" / "step-000004" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(PersamError, match="step-000004 is damaged") as raised:
        train(settings(steps=9), resume=True, say=say_nothing, progress=False)
    assert "\n" not in str(raised.value)
