"""One training: its parts, its loss, its steps. No files are written here but class images."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import PersamError
from . import randomness
from .checkpoints import Checkpoint
from .loss import latent_weights, weighted_mse
from .parts import check_extra, load_pipeline, make_trainable, smallest_step
from .photos import fingerprint, list_class_images, load_class_image, load_photos
from .sampling import generate_class_images
from .settings import TrainSettings

CLASS_FOLDER = "class_images"


@dataclass(frozen=True)
class _Encoded:
    """Photos as distributions of latents: what the VAE makes of them, computed once.

    Attributes:
        mean: (n, c, h, w).
        std: (n, c, h, w).
        weights: (n, 1, h, w) of the loss, or None.
        captions: of each photo.
    """

    mean: Tensor
    std: Tensor
    weights: Tensor | None
    captions: list[str]

    def draw(self, chosen: list[int], source: torch.Generator) -> Tensor:
        """Latents of some photos, drawn anew each time."""
        mean, std = self.mean[chosen], self.std[chosen]
        return mean + std * torch.randn(mean.shape, generator=source).to(mean.device)


class Trainer:
    """DreamBooth with a masked loss.

    Attributes:
        settings: what was asked for.
        step: optimizer steps so far.
        pipe: the ``StableDiffusionPipeline`` whose parts are trained.
        trained: name -> module, of the parts that are trained.
        device: where it runs.
    """

    def __init__(self, settings: TrainSettings, say: Callable[[str], None] = print) -> None:
        """Load photos and model.

        Args:
            settings: what to train on and how.
            say: told of what takes long.

        Raises:
            PersamError: photos or model cannot be used, or a package is missing.
        """
        check_extra()
        self.settings = settings
        self.step = 0
        self.device = _device(settings.device)
        self._half = _wants_half(settings.precision, self.device)
        photos = load_photos(settings.data, settings.resolution, settings.masked)
        self.pipe = load_pipeline(settings.model, settings.variant)
        unit = smallest_step(self.pipe)
        if settings.resolution % unit:
            raise PersamError(
                f"resolution {settings.resolution} cannot be used with this model: give a multiple "
                f"of {unit}"
            )
        from diffusers import DDPMScheduler

        self._noise = DDPMScheduler.from_config(self.pipe.scheduler.config)
        self.pipe.to(self.device)
        self._photos = self._encode(
            [photo.image for photo in photos],
            [photo.caption for photo in photos],
            [photo.weights for photo in photos],
        )
        self._identity = {
            "photos": fingerprint(photos),
            "model": _fingerprint_of(self.pipe.unet),
            **settings.fixed(),
        }
        self._class = self._encode_class(say) if settings.class_prompt else None
        with randomness.seeded(settings.seed, randomness.WEIGHTS, 0, self.device):
            half = torch.bfloat16 if self._half else torch.float32
            self.trained = make_trainable(self.pipe, settings, half)
        self._texts: dict[str, Tensor] = {}
        self._start_optimizer()

    def __len__(self) -> int:
        """How many photos are learned from."""
        return len(self._photos.captions)

    @property
    def captions(self) -> list[str]:
        """The photos' captions."""
        return list(self._photos.captions)

    @property
    def learning_rate(self) -> float:
        """Of the UNet, for the next step."""
        return float(self._schedule.get_last_lr()[0])

    def parameters(self) -> dict[str, nn.Parameter]:
        """What is trained, by name."""
        return {
            f"{name}.{key}": value
            for name, part in self.trained.items()
            for key, value in part.named_parameters()
            if value.requires_grad
        }

    def loss(self, index: int) -> Tensor:
        """The loss of one forward pass; the same index gives the same photos, noise and times.

        Args:
            index: number of the pass, from 0.
        """
        settings = self.settings
        source = randomness.generator(settings.seed, randomness.NOISE, index)
        size = settings.batch_size
        chosen = self._chosen(randomness.ORDER, len(self), index)
        latents = self._photos.draw(chosen, source)
        captions = [self._photos.captions[i] for i in chosen]
        if self._class is not None:
            others = self._chosen(randomness.CLASS_ORDER, len(self._class.captions), index)
            latents = torch.cat([latents, self._class.draw(others, source)])
            captions += [self._class.captions[i] for i in others]
        latents = latents * self.pipe.vae.config.scaling_factor
        noise = torch.randn(latents.shape, generator=source).to(self.device)
        last = self._noise.config.num_train_timesteps
        times = torch.randint(0, last, (len(latents),), generator=source).to(self.device)
        noisy = self._noise.add_noise(latents, noise, times)
        with (
            randomness.seeded(settings.seed, randomness.DROPOUT, index, self.device),
            self.autocast(),
        ):
            states = self._embed(captions)
            prediction = self.pipe.unet(noisy, times, encoder_hidden_states=states).sample
        target = noise
        if self._noise.config.prediction_type == "v_prediction":
            target = self._noise.get_velocity(latents, noise, times)
        weights = None if self._photos.weights is None else self._photos.weights[chosen]
        loss = weighted_mse(prediction[:size], target[:size], weights, settings.normalize_by_area)
        if self._class is not None:
            loss = loss + settings.prior_weight * weighted_mse(prediction[size:], target[size:])
        return loss

    def advance(self) -> float:
        """One optimizer step.

        Returns:
            the mean loss of its forward passes

        Raises:
            PersamError: the loss is not finite; the weights are as they were.
        """
        passes = self.settings.gradient_accumulation
        total = 0.0
        for number in range(passes):
            loss = self.loss(self.step * passes + number) / passes
            loss.backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        values = list(self.parameters().values())
        norm = nn.utils.clip_grad_norm_(values, self.settings.max_grad_norm)
        if not torch.isfinite(norm) or not total < float("inf"):
            self._optimizer.zero_grad(set_to_none=True)
            raise PersamError(
                f"the loss is not finite at step {self.step + 1}: resume from the last checkpoint "
                "with a lower learning rate, or with precision float32"
            )
        self._optimizer.step()
        self._schedule.step()
        self._optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return total

    @contextmanager
    def autocast(self) -> Iterator[None]:
        """bfloat16 for networks, where it was chosen."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            yield

    def checkpoint(self) -> Checkpoint:
        """Everything that going on needs."""
        parameters = self.parameters()
        moments = {
            f"{name}/{key}": torch.as_tensor(value)
            for name, parameter in parameters.items()
            for key, value in self._optimizer.state[parameter].items()
        }
        weights = {name: parameter.data for name, parameter in parameters.items()}
        return Checkpoint(self.step, weights, moments, self._identity)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            PersamError: it is of other photos, another model or other settings.
        """
        for key, value in self._identity.items():
            before = checkpoint.identity.get(key)
            if before != value:
                shown = "" if key in ("photos", "model") else f" ({before!r}, not {value!r})"
                raise PersamError(
                    f"the checkpoint was trained with other {key}{shown}: resume with the same, or "
                    "start in another folder"
                )
        parameters = self.parameters()
        with torch.no_grad():
            for name, parameter in parameters.items():
                parameter.copy_(checkpoint.weights[name])
        for key, value in checkpoint.moments.items():
            name, _, moment = key.rpartition("/")
            parameter = parameters[name]
            where = value if moment == "step" else value.to(parameter.device)
            self._optimizer.state[parameter][moment] = where
        self.step = checkpoint.step
        self._start_schedule()

    # ------------------------------------------------------------------------------------------

    def _start_optimizer(self) -> None:
        rates = {"unet": self.settings.unet_rate, "text_encoder": self.settings.text_rate}
        groups = [
            {
                "params": [value for value in part.parameters() if value.requires_grad],
                "lr": rates[name],
                "initial_lr": rates[name],
            }
            for name, part in self.trained.items()
        ]
        self._optimizer = torch.optim.AdamW(groups, weight_decay=self.settings.weight_decay)
        self._start_schedule()

    def _start_schedule(self) -> None:
        from diffusers.optimization import get_scheduler

        name = self.settings.schedule
        if name == "constant" and self.settings.warmup_steps:
            name = "constant_with_warmup"
        self._schedule: Any = get_scheduler(
            name,
            self._optimizer,
            num_warmup_steps=self.settings.warmup_steps,
            num_training_steps=self.settings.steps,
            last_epoch=self.step - 1,
        )

    def _chosen(self, stream: int, count: int, index: int) -> list[int]:
        size = self.settings.batch_size
        return randomness.picks(self.settings.seed, stream, count, index * size, size)

    def _embed(self, captions: list[str]) -> Tensor:
        """(n, tokens, width) of the text encoder; kept if it is frozen."""
        if "text_encoder" in self.trained:
            return self._encode_text(captions)
        for caption in captions:
            if caption not in self._texts:
                with torch.no_grad():
                    self._texts[caption] = self._encode_text([caption])
        return torch.cat([self._texts[caption] for caption in captions])

    def _encode_text(self, captions: list[str]) -> Tensor:
        encoded: Tensor = self.pipe.encode_prompt(
            captions, self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )[0]
        return encoded

    @torch.no_grad()
    def _encode(
        self, images: list[Tensor], captions: list[str], weights: list[Tensor | None]
    ) -> _Encoded:
        means, stds = [], []
        for image in images:
            found = self.pipe.vae.encode(image[None].to(self.device)).latent_dist
            means.append(found.mean)
            stds.append(found.std)
        mean, given = torch.cat(means), [value for value in weights if value is not None]
        cells = None
        if given:
            height, width = mean.shape[-2:]
            outside = self.settings.outside_weight
            cells = latent_weights(torch.stack(given), (height, width), outside).to(self.device)
        return _Encoded(mean, torch.cat(stds), cells, captions)

    def _encode_class(self, say: Callable[[str], None]) -> _Encoded:
        settings = self.settings
        assert settings.class_prompt is not None  # the caller has asked
        folder = settings.class_data or settings.output / CLASS_FOLDER
        missing = settings.class_images - len(list_class_images(folder))
        if missing > 0:
            say(f"generating {missing} images of {settings.class_prompt!r} into {folder}")
            generate_class_images(self.pipe, settings, folder, missing, self.autocast)
        files: list[Path] = list_class_images(folder)[: settings.class_images]
        images = [load_class_image(file, settings.resolution) for file in files]
        return self._encode(images, [settings.class_prompt] * len(images), [])


def _device(name: str) -> torch.device:
    if name == "auto":
        mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if mps else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise PersamError(f"device {name!r} is not here: choose auto, cpu, cuda or mps") from None
    return device


def _wants_half(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bf16"


def _fingerprint_of(unet: Any) -> str:
    digest = hashlib.sha256()
    for layer in (unet.conv_in, unet.conv_out):
        digest.update(layer.weight.detach().float().cpu().numpy().tobytes())
    return digest.hexdigest()
