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
    vae_groups: int = 2,
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
        vae_groups: groups of channels that the VAE normalizes together.
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
            norm_num_groups=vae_groups,
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


@torch.no_grad()
def make_averaging(vae: Any) -> None:
    """Give a VAE of two equal levels and one group the weights that average 2 x 2 pixels.

    Latent channels 0 to 2 are the colours, and 3 their mean; the decoder repeats each cell. So
    latents can be looked at, and nothing has to be trained. Residual branches are switched off. The
    norm before each last convolution is made a constant factor by two large constant channels, and
    the SiLU after it is linear far above 0.
    """
    far, large = 10.0, 100.0
    width = vae.config.block_out_channels[0]
    silu = far / (1 + torch.exp(torch.tensor(-far)))
    for name, parameter in vae.named_parameters():
        if "conv2" in name or "to_out" in name:
            parameter.zero_()
    for coder in (vae.encoder, vae.decoder):
        _set_taps(
            coder.conv_in, {(0, 0): 1, (1, 1): 1, (2, 2): 1, (3, 0): -1, (4, 1): -1, (5, 2): -1}
        )
        coder.conv_in.bias[6], coder.conv_in.bias[7] = large, -large
        norm = coder.conv_norm_out
        norm.weight.zero_()
        norm.bias.zero_()
        # The other channels' sum is 0, and their squares are small beside these two's.
        norm.weight[:3], norm.bias[:3] = large * (2 / width) ** 0.5, far
    same = {(channel, channel): 1.0 for channel in range(width)}
    down = vae.encoder.down_blocks[0].downsamplers[0].conv
    down.weight.zero_()
    down.bias.zero_()
    for channel in range(width):
        down.weight[channel, channel, :2, :2] = 0.25
    _set_taps(vae.decoder.up_blocks[0].upsamplers[0].conv, same)
    _set_taps(
        vae.encoder.conv_out, {(0, 0): 1, (1, 1): 1, (2, 2): 1, **{(3, c): 1 / 3 for c in range(3)}}
    )
    vae.encoder.conv_out.bias[:4] = -silu
    vae.encoder.conv_out.bias[4:] = -20  # log variance: nothing is random
    _set_taps(vae.decoder.conv_out, {(0, 0): 1, (1, 1): 1, (2, 2): 1})
    vae.decoder.conv_out.bias[:] = -silu
    for convolution in (vae.quant_conv, vae.post_quant_conv):
        _set_taps(convolution, {(c, c): 1 for c in range(convolution.in_channels)})


def _set_taps(convolution: Any, taps: dict[tuple[int, int], float]) -> None:
    """A convolution that looks at its middle only: (output, input) channel -> weight."""
    convolution.weight.zero_()
    convolution.bias.zero_()
    middle = convolution.kernel_size[0] // 2
    for (output, source), weight in taps.items():
        convolution.weight[output, source, middle, middle] = weight
