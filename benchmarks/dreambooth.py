"""What masked DreamBooth learns of the background: an object over one colour in all its photos.

    python -m benchmarks.dreambooth --picture samples.png

A cut-out of a real cup is composed over one colour, in other places and sizes: the training photos.
The model to start from is a tiny Stable Diffusion that this benchmark trains on other real cut-outs
over all colours but that one; its VAE averages 2 x 2 pixels, so that it needs no training. Then
`fiftyone_persam.dreambooth` trains the UNet on the photos: without the masks, with them, and with
them and prior preservation (images of the class that the base model has sampled). Measured in
images sampled for the photos' caption: the share of pixels of the photos' background colour. Every
number is a mean over seeds of training and of sampling.

What this can show: whether the background's colour gets into what the model draws, with the real
loss, data and pipeline. What it cannot: how good the images of a full-size model are. This one has
two hundred thousand weights, draws 24 x 24 pixels, and has seen cut-outs over plain colours only.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from benchmarks.measuring import Figure, parser_of, readable, run
from benchmarks.tiny_diffusion import build_pipeline, make_averaging
from fiftyone_persam.datasets import ConceptWriter, PhotoOptions, prepare_photo
from fiftyone_persam.datasets.compositing import Placed, over, place
from fiftyone_persam.dreambooth import Trainer, TrainSettings
from fiftyone_persam.dreambooth.sampling import sample_images

SIDE = 24
BACKGROUND = (205, 40, 200)
NEAR = 60  # largest difference of a channel that still is the background's colour
OBJECT, CAPTION = "cup", "a photo of sks cup"
OTHERS, OTHER_CAPTION = ("cat", "flower", "motorcycle_right"), "a photo of a thing"


@dataclass(frozen=True)
class Sampled:
    """What one training leads to.

    Attributes:
        images: (n, 24, 24, 3) uint8.
        share: of their pixels that have the background's colour.
        loss: on the object, over noise that no training meets.
    """

    images: NDArray[np.uint8]
    share: float
    loss: float


def compose(
    made: np.random.Generator, name: str, colour: tuple[int, int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A cut-out in some place and size over a colour: (24, 24, 3) and its mask."""
    size = made.uniform(0.5, 0.8)
    spot = Placed(
        name,
        made.uniform(0.35, 0.65),
        made.uniform(0.4, 0.6),
        size,
        flip=bool(made.integers(2)),
        light=made.uniform(0.9, 1.1),
        shadow=None,
    )
    side = 4 * SIDE  # drawn large, then averaged
    colours, alpha = place(spot, (side, side))
    below = np.full((side, side, 3), np.float32(colour) / 255, np.float32)
    picture = np.clip(over(below, colours, alpha), 0, 1)
    blocks = picture.reshape(SIDE, 4, SIDE, 4, 3).mean(axis=(1, 3))
    covered = alpha.reshape(SIDE, 4, SIDE, 4).mean(axis=(1, 3))
    return np.round(blocks * 255).astype(np.uint8), covered > 0.5


def other_colours(made: np.random.Generator) -> tuple[int, int, int]:
    """Any colour that is far from the background's."""
    while True:
        colour = made.integers(0, 256, 3)
        if np.abs(colour - BACKGROUND).max() > 2 * NEAR:
            return int(colour[0]), int(colour[1]), int(colour[2])


def background_share(images: NDArray[np.uint8]) -> float:
    """The share of pixels that have the background's colour."""
    away = np.abs(images.astype(int) - np.array(BACKGROUND)).max(axis=-1)
    return float((away <= NEAR).mean())


# --- the model to start from ------------------------------------------------------------------


def pictures(seed: int, count: int) -> Tensor:
    """(count, 3, 24, 24) in [-1, 1]: other objects over other colours."""
    made = np.random.default_rng(seed)
    drawn = [
        compose(made, OTHERS[int(made.integers(len(OTHERS)))], other_colours(made))[0]
        for _ in range(count)
    ]
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).float() / 127.5 - 1


def batches(data: Tensor, steps: int, size: int, seed: int) -> Iterator[Tensor]:
    """Random batches of some pictures."""
    made = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        yield data[torch.randint(0, len(data), (size,), generator=made)]


def base_model(scratch: Path, arguments: argparse.Namespace) -> Path:
    """Train a tiny Stable Diffusion from nothing; returns its folder."""
    pipe = build_pipeline(
        scratch / "tokenizer",
        unet_widths=(arguments.width, 2 * arguments.width),
        vae_widths=(8, 8),
        vae_groups=1,
        text_width=32,
        size=SIDE // 2,
    )
    make_averaging(pipe.vae)
    torch.manual_seed(0)
    data = pictures(0, arguments.pictures)
    vae = pipe.vae
    with torch.no_grad():
        latents = torch.cat([vae.encode(part).latent_dist.mean for part in data.split(64)])
        vae.register_to_config(scaling_factor=1 / float(latents.std()))
        latents = latents * vae.config.scaling_factor
        states = pipe.encode_prompt([OTHER_CAPTION, ""], "cpu", 1, False)[0]
    from diffusers import DDPMScheduler

    noise_of = DDPMScheduler.from_config(pipe.scheduler.config)
    unet = pipe.unet.train()
    optimizer = torch.optim.AdamW(unet.parameters(), lr=2e-3)
    steps = arguments.base_steps
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for batch in batches(latents, steps, 16, seed=2):
        noise = torch.randn_like(batch)
        times = torch.randint(0, 1000, (len(batch),))
        # One in eight without a caption, for guidance.
        text = states[(torch.rand(len(batch)) < 0.125).long()]
        noisy = noise_of.add_noise(batch, noise, times)
        loss = F.mse_loss(unet(noisy, times, encoder_hidden_states=text).sample, noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    print(f"base model: last loss {loss.item():.3f}", flush=True)
    pipe.save_pretrained(scratch / "base")
    return scratch / "base"


# --- DreamBooth -------------------------------------------------------------------------------


def training_set(folder: Path, photos: int) -> float:
    """Write the photos with their masks; returns their background's share of the pixels."""
    options = PhotoOptions(resolution=SIDE)
    folder.mkdir()
    writer = ConceptWriter(folder, "diffusers", options, folder)
    made = np.random.default_rng(7)
    images = []
    for number in range(photos):
        image, mask = compose(made, OBJECT, BACKGROUND)
        images.append(image)
        writer.add(f"{number}.png", prepare_photo(image, mask, options), CAPTION, {})
    writer.finish(OBJECT, {})
    return background_share(np.stack(images))


@dataclass(frozen=True)
class Way:
    """A way to train: with the masks, with images of the class beside the photos, or not at all."""

    name: str
    masked: bool = True
    prior: bool = False
    trained: bool = True


WAYS = (
    Way("before training", trained=False),
    Way("without the masks", masked=False),
    Way("with the masks", masked=True),
    Way("with the masks and class images", masked=True, prior=True),
)


def dream(
    model: Path, scratch: Path, seed: int, way: Way, arguments: argparse.Namespace
) -> Sampled:
    """Train from the base model, then sample."""
    settings = TrainSettings(
        data=scratch / "set",
        model=model,
        output=scratch / "unused",
        method="unet",
        masked=way.masked,
        resolution=SIDE,
        steps=arguments.steps,
        batch_size=4,
        learning_rate=5e-4,
        class_prompt=OTHER_CAPTION if way.prior else None,
        class_data=scratch / "class" if way.prior else None,
        class_images=2 * arguments.samples,
        sample_steps=arguments.sample_steps,
        guidance_scale=1.0,
        seed=seed,
        device="cpu",
    )
    trainer = Trainer(settings, say=lambda line: None)
    for _ in range(settings.steps if way.trained else 0):
        trainer.advance()
    prompts = [CAPTION if way.trained else OTHER_CAPTION] * arguments.samples
    seeds = [1000 * seed + number for number in range(arguments.samples)]
    drawn = sample_images(trainer.pipe, prompts, seeds, settings, trainer.autocast)
    plain = replace(settings, masked=True, class_prompt=None, class_data=None)
    judge = Trainer(plain, say=lambda line: None)
    judge.pipe.unet.load_state_dict(trainer.pipe.unet.state_dict())
    with torch.no_grad():
        passes = range(100_000, 100_000 + arguments.samples)
        loss = statistics.mean(float(judge.loss(index)) for index in passes)
    images = np.stack([np.asarray(image) for image in drawn])
    return Sampled(images, background_share(images), loss)


def measure(arguments: argparse.Namespace, scratch: Path) -> list[Figure]:
    for library in ("diffusers", "transformers"):
        logging = __import__(library).utils.logging
        logging.disable_progress_bar()
        logging.set_verbosity_error()
    started = time.perf_counter()
    model = base_model(scratch, arguments)
    share = training_set(scratch / "set", arguments.photos)
    seeds = range(arguments.repeats)
    found: dict[str, list[Sampled]] = {}
    for way in WAYS:
        found[way.name] = [dream(model, scratch, seed, way, arguments) for seed in seeds]
        print(f"{way.name}: {time.perf_counter() - started:.0f} s", flush=True)
    if arguments.picture is not None:
        draw(scratch / "set", found, arguments.picture)
    return [
        Figure(
            f"background's colour in sampled images, {name}",
            100 * statistics.mean(one.share for one in results),
            "% of pixels",
            None,
            True,
            f"seeds: {', '.join(readable(100 * one.share) for one in results)}; "
            f"{arguments.samples} images each; {100 * share:.0f} % of the training photos' pixels; "
            f"loss on the object {statistics.mean(one.loss for one in results):.3f}",
        )
        for name, results in found.items()
    ]


def draw(data: Path, found: dict[str, list[Sampled]], file: Path) -> None:
    """Rows of images: the photos, then what is sampled before training and after each way."""
    photos = [np.asarray(Image.open(path)) for path in sorted((data / "images").iterdir())]
    rows: list[Any] = [photos, *(results[0].images for results in found.values())]
    width = min(8, *(len(row) for row in rows))
    grid = np.vstack([np.hstack(list(row[:width])) for row in rows])
    picture = Image.fromarray(grid)
    picture.resize((3 * picture.width, 3 * picture.height), Image.Resampling.NEAREST).save(file)


def main(given: list[str] | None = None) -> int:
    parser = parser_of(__doc__, photos=6, repeats=3)
    parser.add_argument("--pictures", type=int, default=2000, help="that the base model learns")
    parser.add_argument("--width", type=int, default=16, help="channels of the UNet's first level")
    parser.add_argument("--base-steps", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=250, help="of DreamBooth")
    parser.add_argument("--samples", type=int, default=16, help="images per seed")
    parser.add_argument("--sample-steps", type=int, default=25)
    parser.add_argument("--picture", type=Path, help="write a grid of images here")
    return run(measure, parser, given)


if __name__ == "__main__":
    sys.exit(main())
