"""MobileSAM's encoder from timm, under the names and with the numbers of its own checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from benchmarks.seeded import seeded_weights
from fiftyone_persam.sam import PromptableSam, load_sam
from fiftyone_persam.sam.tiny_vit import build_mobile_sam, map_mobile_sam_names

SHAPES: dict[str, list[int]] = json.loads(
    (Path(__file__).parents[1] / "data" / "mobile_sam_shapes.json").read_text()
)


def published_layout() -> dict[str, Tensor]:
    """Seeded tensors under the names of MobileSAM's checkpoint."""
    shapes = {name: tuple(shape) for name, shape in SHAPES.items()}
    return {name: torch.from_numpy(np.asarray(w)) for name, w in seeded_weights(shapes)}


@pytest.fixture(scope="module")
def mobile() -> PromptableSam:
    sam = build_mobile_sam()
    sam.load_state_dict(map_mobile_sam_names(published_layout()))
    return load_sam(sam, device="cpu", dtype="float32")


def test_every_name_finds_its_place_once() -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in build_mobile_sam().state_dict().items()}
    mapped = map_mobile_sam_names(published_layout())
    assert {name: tuple(tensor.shape) for name, tensor in mapped.items()} == wanted


def test_attention_biases_belong_to_the_distance_within_a_window(mobile: PromptableSam) -> None:
    """MobileSAM numbers distances (rows, columns) row by row, and so must the blocks from timm."""
    biases = published_layout()["image_encoder.layers.1.blocks.0.attn.attention_biases"]
    attention = mobile.sam.image_encoder.stages[1].blocks[0].attn
    side = 7
    assert biases.shape[1] == side * side
    y, x = np.divmod(np.arange(side * side), side)
    distances = np.abs(y[:, None] - y) * side + np.abs(x[:, None] - x)
    torch.testing.assert_close(
        attention.get_attention_biases(torch.device("cpu")), biases[:, distances]
    )


def test_the_rest_of_the_checkpoint_keeps_its_names() -> None:
    rest = {
        "mask_decoder.iou_token.weight": torch.zeros(1),
        "image_encoder.head.bias": torch.ones(1),
    }
    assert list(map_mobile_sam_names(rest)) == ["mask_decoder.iou_token.weight"]


def test_any_input_size_and_the_stride_of_sam() -> None:
    encoder = build_mobile_sam(256).image_encoder
    with torch.inference_mode():
        assert encoder(torch.zeros(1, 3, 256, 256)).shape == (1, 256, 16, 16)


@pytest.mark.shared
def test_equals_the_recorded_embedding(shared_dir: Path) -> None:
    """The record has no attention biases.

    MobileSAM's attention computes them when it is put into evaluation mode, and its builder does
    that before it loads the weights: until `eval()` is called again, they are those of an untrained
    model, zero. The record was made in that state, which is not how MobileSAM was trained; here
    they are zeroed for the comparison, and everything else agrees.
    """
    record = np.load(shared_dir / "golden" / "mobilesam_encoder.npz")
    assert json.loads(str(record["shapes"])) == SHAPES
    photo = Image.open(shared_dir / "data/perseg_dev/Images/cat/00.jpg").convert("RGB")

    def embed(biases: float) -> Tensor:
        layout = published_layout()
        for name in layout:
            if name.endswith("attention_biases"):
                layout[name] = layout[name] * biases
        sam = build_mobile_sam()
        sam.load_state_dict(map_mobile_sam_names(layout))
        return load_sam(sam, device="cpu", dtype="float32").encode([photo])[0].features

    without = embed(0)
    np.testing.assert_allclose(without[::8, ::4, ::4], record["embedding"], atol=1e-4)
    np.testing.assert_allclose(
        [without.mean(), without.std()], record["mean_std"], rtol=1e-4, atol=1e-6
    )
    assert (embed(1) - without).abs().max() > 0.01  # and in use they are there
