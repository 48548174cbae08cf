"""BEiT-3 against torchscale's, and against numbers that torchscale's gave.

`python -m tests.sam.text.test_beit3` records these anew; it needs torchscale, whose pins are of
another age: `pip install --no-deps torchscale==0.3.0`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks.seeded import seeded_weights
from fiftyone_persam.sam.text.beit3 import BEIT3_BASE, BEIT3_LARGE, Beit3, BeitConfig

RECORDED = Path(__file__).with_name("beit3_recorded.json")
CONFIGS = {
    "base": BeitConfig(48, 3, 4, 192, vocabulary=60, image_size=48),
    "large": BeitConfig(64, 5, 2, 128, vocabulary=30, image_size=64, patch_size=8, positions=40),
}
LENGTHS = {"one phrase": (7, 7), "padded": (7, 4)}


def inputs(config: BeitConfig, lengths: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    generator = np.random.default_rng(0)
    side = config.image_size
    photos = torch.from_numpy(generator.uniform(-1, 1, (len(lengths), 3, side, side))).float()
    text = generator.integers(4, config.vocabulary, (len(lengths), max(lengths)))
    padding = np.arange(max(lengths)) >= np.array(lengths)[:, None]
    return photos, torch.from_numpy(text), torch.from_numpy(padding)


def seeded(config: BeitConfig) -> dict[str, Tensor]:
    shapes = {name: tuple(tensor.shape) for name, tensor in Beit3(config).state_dict().items()}
    return {name: torch.from_numpy(values) for name, values in seeded_weights(shapes)}


def oracle(config: BeitConfig) -> Any:
    """torchscale's BEiT3; of fairscale it needs two functions that are never called here."""
    fairscale, nn = ModuleType("fairscale"), ModuleType("fairscale.nn")
    nn.checkpoint_wrapper = nn.wrap = None  # type: ignore[attr-defined]
    with mock.patch.dict(sys.modules, {"fairscale": fairscale, "fairscale.nn": nn}):
        from torchscale.architecture.config import EncoderConfig
        from torchscale.model.BEiT3 import BEiT3
    settings = EncoderConfig(
        multiway=True,
        no_output_layer=True,
        encoder_embed_dim=config.width,
        encoder_attention_heads=config.heads,
        encoder_ffn_embed_dim=config.hidden,
        encoder_layers=config.layers,
        vocab_size=config.vocabulary,
        img_size=config.image_size,
        patch_size=config.patch_size,
        max_source_positions=config.positions,
    )
    return BEiT3(settings).eval()


def told(config: BeitConfig, lengths: tuple[int, ...]) -> Tensor:
    """What torchscale's says."""
    model = oracle(config)
    model.load_state_dict(seeded(config))
    photos, text, padding = inputs(config, lengths)
    with torch.no_grad():
        found: Tensor = model(
            visual_tokens=photos, textual_tokens=text, text_padding_position=padding
        )["encoder_out"]
    return found


def ours(config: BeitConfig, lengths: tuple[int, ...]) -> Tensor:
    model = Beit3(config).eval()
    model.load_state_dict(seeded(config))
    photos, text, padding = inputs(config, lengths)
    with torch.no_grad():
        found: Tensor = model(photos, text, padding if padding.any() else None)
    return found


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("name", CONFIGS)
def test_it_equals_torchscales(name: str, lengths: str) -> None:
    pytest.importorskip("torchscale", reason="pip install --no-deps torchscale==0.3.0")
    config = CONFIGS[name]
    theirs = told(config, LENGTHS[lengths])
    assert oracle(config).state_dict().keys() == Beit3(config).state_dict().keys()
    torch.testing.assert_close(ours(config, LENGTHS[lengths]), theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("lengths", LENGTHS)
@pytest.mark.parametrize("name", CONFIGS)
def test_it_equals_the_numbers_that_torchscale_gave(name: str, lengths: str) -> None:
    recorded = json.loads(RECORDED.read_text())[name]
    assert recorded["config"] == asdict(CONFIGS[name])
    found = ours(CONFIGS[name], LENGTHS[lengths])[:, 0]
    np.testing.assert_allclose(found, recorded[lengths], rtol=0, atol=1e-5)


def test_photo_and_phrase_both_count() -> None:
    config = CONFIGS["base"]
    model = Beit3(config).eval()
    model.load_state_dict(seeded(config))
    photos, text, _ = inputs(config, (7, 7))
    with torch.no_grad():
        cls = model(photos, text)[:, 0]
        other_words = model(photos, text.flip(1))[:, 0]
        other_photo = model(photos.flip(0), text)[:, 0]
    assert (cls - other_words).abs().max() > 1e-3 and (cls - other_photo).abs().max() > 1e-3


@pytest.mark.parametrize("config", [BEIT3_BASE, BEIT3_LARGE], ids=["base", "large"])
def test_the_published_sizes(config: BeitConfig) -> None:
    """Heads of 64 channels, feed-forward networks four times as wide (paper, section 2.3)."""
    assert config.width // config.heads == 64 and config.hidden == 4 * config.width
    with torch.device("meta"):
        names = Beit3(config).state_dict()
    assert names["text_embed.weight"].shape == (64010, config.width)
    assert names["encoder.embed_positions.A.weight"].shape == (199, config.width)
    assert f"encoder.layers.{config.layers - 1}.ffn.B.fc2.bias" in names


if __name__ == "__main__":
    numbers = {
        name: {
            "config": asdict(config),
            **{key: told(config, lengths)[:, 0].tolist() for key, lengths in LENGTHS.items()},
        }
        for name, config in CONFIGS.items()
    }
    RECORDED.write_text(json.dumps(numbers) + "\n")
