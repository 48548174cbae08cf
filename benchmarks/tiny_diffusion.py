"""A Stable Diffusion pipeline of a few thousand weights, built from configurations.

Nothing is downloaded. It has every part of the real thing, so that what trains it trains that.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

LETTERS = "abcdefghijklmnopqrstuvwxyz"
TOKENS = 16


def write_tokenizer(folder: Path) -> int:
    """CLIP's tokenizer with a vocabulary of letters; returns how many tokens it has."""
    folder.mkdir(parents=True, exist_ok=True)
    words = [*LETTERS, *(f"{letter}</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return len(words)


def build_pipeline(
    scratch: Path,
    unet_widths: tuple[int, ...] = (8, 16),
    vae_widths: tuple[int, ...] = (4, 8),
    text_width: int = 8,
    size: int = 16,
    prediction: str = "epsilon",
    seed: int = 0,
) -> Any:
    """A ``StableDiffusionPipeline`` with random weights, the same for the same seed.

    Args:
        scratch: folder for the tokenizer's files.
        unet_widths: channels of the UNet's levels.
        vae_widths: channels of the VAE's levels; it halves the sides once per level but the first.
        text_width: channels of the text encoder.
        size: of the latents that the UNet is for.
        prediction: "epsilon" (Stable Diffusion 1.x) or "v_prediction" (2.x).
        seed: of the weights.
    """
    from diffusers import (
        AutoencoderKL,
        DDIMScheduler,
        StableDiffusionPipeline,
        UNet2DConditionModel,
    )
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    words = write_tokenizer(scratch)
    tokenizer = CLIPTokenizer.from_pretrained(str(scratch), model_max_length=TOKENS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = UNet2DConditionModel(
            sample_size=size,
            block_out_channels=unet_widths,
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D",) * (len(unet_widths) - 1) + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * (len(unet_widths) - 1),
            cross_attention_dim=text_width,
            attention_head_dim=unet_widths[0] // 2,
            norm_num_groups=4,
        )
        vae = AutoencoderKL(
            block_out_channels=vae_widths,
            down_block_types=("DownEncoderBlock2D",) * len(vae_widths),
            up_block_types=("UpDecoderBlock2D",) * len(vae_widths),
            latent_channels=4,
            norm_num_groups=vae_widths[0] // 2,
            sample_size=size * 2 ** (len(vae_widths) - 1),
        )
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=words,
                hidden_size=text_width,
                intermediate_size=2 * text_width,
                num_hidden_layers=1,
                num_attention_heads=2,
                max_position_embeddings=TOKENS,
                bos_token_id=words - 2,
                eos_token_id=words - 1,
                pad_token_id=words - 1,
            )
        )
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=text,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe
