"""What a training is asked for."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import PersamError
from ..options import as_number

METHODS = ("lora", "unet")
SCHEDULES = ("constant", "linear", "cosine")
PRECISIONS = ("auto", "bf16", "float32")

LORA_RATE, UNET_RATE, TEXT_RATE = 1e-4, 5e-6, 5e-6

# Another value of these makes no other training: a checkpoint can be gone on with.
_MAY_CHANGE = {
    "data",
    "model",
    "output",
    "steps",
    "checkpoint_every",
    "keep_checkpoints",
    "sample_every",
    "sample_prompts",
    "sample_count",
    "sample_steps",
    "guidance_scale",
    "gradient_checkpointing",
    "device",
    "class_data",
    "variant",
}


@dataclass(frozen=True)
class TrainSettings:
    """What to train on, what to train, and how.

    Attributes:
        data: a folder that ``export_dreambooth`` has written, in any layout.
        model: a Stable Diffusion 1.x or 2.x folder in diffusers' layout, with safetensors.
        output: folder for what is trained; new or empty, unless a training is resumed.
        method: "lora" (adapters in the UNet's attention) or "unet" (all of the UNet).
        rank: of the LoRA matrices.
        train_text_encoder: train the text encoder too, by the same method. Frozen by default.
        masked: weigh the loss by the masks.
        outside_weight: the loss's weight where the mask is 0, from 0 (the paper's) to 1.
        normalize_by_area: divide each photo's loss by its mask's area, see
            :func:`~.loss.weighted_mse`.
        resolution: of the square photos that are trained on, in pixels.
        steps: optimizer steps.
        batch_size: photos per forward pass.
        gradient_accumulation: forward passes per optimizer step.
        learning_rate: None for 1e-4 (LoRA) or 5e-6 (UNet).
        text_learning_rate: of the text encoder; None for 5e-6, or LoRA's own rate.
        schedule: of the learning rate: "constant", "linear" or "cosine" down to 0.
        warmup_steps: steps in which the learning rate rises from 0.
        weight_decay: of AdamW.
        max_grad_norm: gradients are clipped to this norm.
        precision: "bf16" runs the networks in bfloat16 while trained weights stay in float32;
            "auto" takes it on CUDA devices that can.
        gradient_checkpointing: less memory for more time.
        class_prompt: with it, prior preservation: images of the class are learned beside the
            object, such as "a photo of a mug".
        class_data: folder of class images; those that are missing are generated into it. None for
            a folder in ``output``.
        class_images: how many class images.
        prior_weight: of their loss, which no mask applies to.
        checkpoint_every: steps between checkpoints; 0 for one at the end only.
        keep_checkpoints: how many of the latest to keep.
        sample_every: steps between grids of sampled images; 0 for none.
        sample_prompts: a row of the grid each; empty for the photos' own first caption.
        sample_count: images in a row, each with a seed of its own.
        sample_steps: denoising steps of a sample.
        guidance_scale: of samples and class images.
        seed: of everything random.
        device: "auto", "cpu", "cuda", "cuda:1", "mps".
        variant: of the model's files, such as "fp16".

    Raises:
        PersamError: a value that cannot be used.
    """

    data: Path
    model: Path
    output: Path
    method: str = "lora"
    rank: int = 16
    train_text_encoder: bool = False
    masked: bool = True
    outside_weight: float = 0.0
    normalize_by_area: bool = True
    resolution: int = 512
    steps: int = 800
    batch_size: int = 1
    gradient_accumulation: int = 1
    learning_rate: float | None = None
    text_learning_rate: float | None = None
    schedule: str = "constant"
    warmup_steps: int = 0
    weight_decay: float = 1e-2
    max_grad_norm: float = 1.0
    precision: str = "auto"
    gradient_checkpointing: bool = False
    class_prompt: str | None = None
    class_data: Path | None = None
    class_images: int = 100
    prior_weight: float = 1.0
    checkpoint_every: int = 0
    keep_checkpoints: int = 2
    sample_every: int = 0
    sample_prompts: tuple[str, ...] = ()
    sample_count: int = 4
    sample_steps: int = 25
    guidance_scale: float = 7.5
    seed: int = 0
    device: str = "auto"
    variant: str | None = None

    def __post_init__(self) -> None:
        for name in ("data", "model", "output", "class_data"):
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, Path(value).expanduser())
        for name, known in (
            ("method", METHODS),
            ("schedule", SCHEDULES),
            ("precision", PRECISIONS),
        ):
            if getattr(self, name) not in known:
                raise PersamError(
                    f"unknown {name} {getattr(self, name)!r}: choose from {', '.join(known)}"
                )
        for name, least in (
            ("rank", 1),
            ("resolution", 8),
            ("steps", 1),
            ("batch_size", 1),
            ("gradient_accumulation", 1),
            ("warmup_steps", 0),
            ("class_images", 1),
            ("checkpoint_every", 0),
            ("keep_checkpoints", 1),
            ("sample_every", 0),
            ("sample_count", 1),
            ("sample_steps", 1),
            ("seed", 0),
        ):
            _check_whole(name, getattr(self, name), least)
        for name, most in (
            ("outside_weight", 1.0),
            ("learning_rate", math.inf),
            ("text_learning_rate", math.inf),
            ("weight_decay", math.inf),
            ("max_grad_norm", math.inf),
            ("prior_weight", math.inf),
            ("guidance_scale", math.inf),
        ):
            if getattr(self, name) is not None:
                as_number(name, getattr(self, name), high=most)
        object.__setattr__(self, "sample_prompts", tuple(self.sample_prompts))
        if self.class_data is not None and self.class_prompt is None:
            raise PersamError("class_data needs class_prompt: say what its images show")

    @property
    def unet_rate(self) -> float:
        """The learning rate of the UNet, or of its LoRA."""
        return self.learning_rate or (LORA_RATE if self.method == "lora" else UNET_RATE)

    @property
    def text_rate(self) -> float:
        """The learning rate of the text encoder, or of its LoRA."""
        return self.text_learning_rate or (self.unet_rate if self.method == "lora" else TEXT_RATE)

    def fixed(self) -> dict[str, Any]:
        """What has to stay the same for a checkpoint to be gone on with."""
        values = dataclasses.asdict(self)
        # These schedules end at the last step.
        free = _MAY_CHANGE - ({"steps"} if self.schedule != "constant" else set())
        return {name: value for name, value in values.items() if name not in free}


def _check_whole(name: str, value: object, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise PersamError(
            f"{name} {value!r} cannot be used: give a whole number of at least {least}"
        )
