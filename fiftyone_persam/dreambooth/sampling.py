"""Images sampled from what is trained, by diffusers' own pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from . import randomness
from .settings import TrainSettings

Autocast = Callable[[], AbstractContextManager[None]]

_CLASS_SEEDS = 1_000_000


def sample_images(
    pipe: Any,
    prompts: Sequence[str],
    seeds: Sequence[int],
    settings: TrainSettings,
    autocast: Autocast,
) -> list[Image.Image]:
    """One image per prompt and seed; the same seed starts from the same noise.

    The training's own random numbers are left alone.
    """
    parts = [pipe.unet, pipe.text_encoder]
    modes = [part.training for part in parts]
    # A pipeline keeps a scheduler's state between calls; the training's stays as it is.
    scheduler = pipe.scheduler
    try:
        for part in parts:
            part.eval()
        made = []
        device = pipe.device
        for prompt, seed in zip(prompts, seeds, strict=True):
            pipe.scheduler = type(scheduler).from_config(scheduler.config)
            with randomness.seeded(seed, randomness.NOISE, 0, device), autocast():
                image = pipe(
                    prompt,
                    height=settings.resolution,
                    width=settings.resolution,
                    num_inference_steps=settings.sample_steps,
                    guidance_scale=settings.guidance_scale,
                    generator=torch.Generator().manual_seed(seed),
                ).images[0]
            made.append(image)
        return made
    finally:
        pipe.scheduler = scheduler
        for part, mode in zip(parts, modes, strict=True):
            part.train(mode)


def sample_grid(
    pipe: Any, prompts: Sequence[str], settings: TrainSettings, autocast: Autocast
) -> Image.Image:
    """A row of images per prompt, a column per seed."""
    seeds = [settings.seed + number for number in range(settings.sample_count)]
    side = settings.resolution
    grid = Image.new("RGB", (side * len(seeds), side * len(prompts)))
    for row, prompt in enumerate(prompts):
        images = sample_images(pipe, [prompt] * len(seeds), seeds, settings, autocast)
        for column, image in enumerate(images):
            grid.paste(image, (column * side, row * side))
    return grid


def generate_class_images(
    pipe: Any, settings: TrainSettings, folder: Path, missing: int, autocast: Autocast
) -> None:
    """Add images of the class to a folder, by the model as it is; none is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    number = 0
    while missing:
        path = folder / f"class-{number:05}.png"
        if not path.exists():
            seed = settings.seed + _CLASS_SEEDS + number
            prompt = str(settings.class_prompt)
            (image,) = sample_images(pipe, [prompt], [seed], settings, autocast)
            part = folder / f".{path.name}.part"
            image.save(part, format="PNG")
            part.replace(path)
            missing -= 1
        number += 1
