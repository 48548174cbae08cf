"""A Stable Diffusion folder's parts: loading, choosing what is trained, saving it."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

import torch

from ..errors import CheckpointError, PersamError
from .settings import TrainSettings

# What the optional extra `dreambooth` installs.
EXTRA = ("diffusers", "transformers", "accelerate", "peft")
LORA_FOLDER, PIPELINE_FOLDER = "lora", "pipeline"

_UNET_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
_TEXT_TARGETS = ["q_proj", "k_proj", "v_proj", "out_proj"]
_PIPELINES = ("StableDiffusionPipeline",)
_PREDICTIONS = ("epsilon", "v_prediction")


def check_extra() -> None:
    """Raise PersamError if a package of the optional extra is not installed."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise PersamError(
            f"training needs packages that are not installed: pip install {' '.join(missing)} "
            "(they are the optional extra 'dreambooth')"
        )


def load_pipeline(folder: Path, variant: str | None = None) -> Any:
    """A ``StableDiffusionPipeline`` in float32 on the CPU, without safety checker.

    Only safetensors are read, so nothing in the folder is executed.

    Raises:
        CheckpointError: not a Stable Diffusion 1.x or 2.x folder in diffusers' layout.
    """
    check_extra()
    _check_folder(folder)
    from diffusers import StableDiffusionPipeline

    try:
        pipe = StableDiffusionPipeline.from_pretrained(
            str(folder),
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            safety_checker=None,
            feature_extractor=None,
            image_encoder=None,
            requires_safety_checker=False,
        )
    except Exception as error:  # diffusers, transformers and safetensors each raise their own
        raise CheckpointError(
            f"{folder} cannot be loaded ({_first_line(error)}): give a Stable Diffusion 1.x or 2.x "
            "folder in diffusers' layout, with .safetensors files"
        ) from None
    pipe.to(dtype=torch.float32)  # whatever the files hold
    pipe.set_progress_bar_config(disable=True)
    channels, latents = pipe.unet.config.in_channels, pipe.vae.config.latent_channels
    if channels != latents:
        raise CheckpointError(
            f"the UNet of {folder} takes {channels} channels but its VAE makes {latents}: "
            "inpainting models cannot be trained here"
        )
    kind = pipe.scheduler.config.get("prediction_type", "epsilon")
    if kind not in _PREDICTIONS:
        raise CheckpointError(
            f"{folder} predicts {kind!r}: only models that predict {' or '.join(_PREDICTIONS)} "
            "can be trained here"
        )
    return pipe


def smallest_step(pipe: Any) -> int:
    """What the side of a photo has to be a multiple of, in pixels."""
    return int(pipe.vae_scale_factor) * 2 ** (len(pipe.unet.config.block_out_channels) - 1)


def make_trainable(pipe: Any, settings: TrainSettings, frozen_dtype: torch.dtype) -> dict[str, Any]:
    """Freeze all parts, then add adapters to, or thaw, those that are trained.

    Args:
        pipe: as loaded.
        settings: what is trained.
        frozen_dtype: of frozen weights, beside the VAE's; trained ones are float32.

    Returns:
        name of a part ("unet", "text_encoder") -> its module, of those that are trained.
    """
    trained = {"unet": pipe.unet}
    if settings.train_text_encoder:
        trained["text_encoder"] = pipe.text_encoder
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        part.requires_grad_(False).eval()
    for name in ("unet", "text_encoder"):
        part = getattr(pipe, name)
        if part.dtype != frozen_dtype and (settings.method == "lora" or name not in trained):
            part.to(frozen_dtype)
    if settings.method == "lora":
        from diffusers.training_utils import cast_training_params
        from peft import LoraConfig

        for name, part in trained.items():
            targets = _UNET_TARGETS if name == "unet" else _TEXT_TARGETS
            config = LoraConfig(
                r=settings.rank,
                lora_alpha=settings.rank,
                init_lora_weights="gaussian",
                target_modules=targets,
            )
            part.add_adapter(config)
            cast_training_params(part, dtype=torch.float32)
    for part in trained.values():
        part.train()
        if settings.method == "unet":
            part.requires_grad_(True)
    if settings.gradient_checkpointing:
        pipe.unet.enable_gradient_checkpointing()
        if "text_encoder" in trained:
            pipe.text_encoder.gradient_checkpointing_enable()
    return trained


def save_trained(pipe: Any, trained: dict[str, Any], settings: TrainSettings) -> Path:
    """Write what was trained, for diffusers' own pipeline; an older one is replaced at the end.

    Returns:
        a folder for ``load_lora_weights``, or one for ``from_pretrained``.
    """
    name = LORA_FOLDER if settings.method == "lora" else PIPELINE_FOLDER
    final = settings.output / name
    aside = settings.output / f".{name}-{uuid.uuid4().hex}.part"
    aside.mkdir(parents=True)
    try:
        if settings.method == "lora":
            _save_lora(pipe, trained, aside)
        else:
            whole = pipe
            if any(part.dtype != torch.float32 for part in (pipe.unet, pipe.text_encoder)):
                # What was rounded for speed, and not trained, is saved as it was.
                whole = load_pipeline(settings.model, settings.variant)
                whole.register_modules(**trained)
            whole.save_pretrained(str(aside), safe_serialization=True)
        if final.exists():
            shutil.rmtree(final)
        os.replace(aside, final)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    return final


def _save_lora(pipe: Any, trained: dict[str, Any], folder: Path) -> None:
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import convert_state_dict_to_diffusers
    from peft.utils import get_peft_model_state_dict

    layers = {
        f"{name}_lora_layers": convert_state_dict_to_diffusers(get_peft_model_state_dict(part))
        for name, part in trained.items()
    }
    StableDiffusionPipeline.save_lora_weights(str(folder), safe_serialization=True, **layers)


def _check_folder(folder: Path) -> None:
    hint = "give a Stable Diffusion 1.x or 2.x folder in diffusers' layout"
    if not folder.is_dir():
        raise CheckpointError(f"model {folder} is not a folder: {hint}")
    try:
        index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
        kind = index["_class_name"]
    except (OSError, ValueError, KeyError, TypeError):
        raise CheckpointError(f"{folder} has no model_index.json of diffusers': {hint}") from None
    if kind not in _PIPELINES:
        raise CheckpointError(f"{folder} is a {kind}: {hint}")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
