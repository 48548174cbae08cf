"""Promptable models: what stands for their weights, adapters, further tokens, other devices."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from benchmarks.seeded import small_sam
from fiftyone_persam.errors import PersamError
from fiftyone_persam.sam import (
    MODELS,
    ModelInfo,
    Prompt,
    Promptable,
    PromptableSam,
    list_models,
    load_sam,
)
from fiftyone_persam.sam.decoding import decode_batch

PHOTO = np.random.default_rng(0).integers(0, 255, (60, 90, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def sam() -> PromptableSam:
    return PromptableSam(small_sam(96), "small")


@pytest.fixture(scope="module")
def features(sam: PromptableSam) -> Tensor:
    return sam.encode([PHOTO])[0].features[None]


class Scaled(nn.Module):
    """An adapter: a factor on what the decoder's tokens read from the photo."""

    part = "mask_decoder"

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    @property
    def identity(self) -> str:
        return f"scaled {self.factor.item():g}"

    def attach(self, sam: Sam) -> None:
        for block in sam.mask_decoder.transformer.layers:
            block.cross_attn_token_to_image.out_proj.register_forward_hook(
                lambda module, given, found: found * self.factor
            )


def test_prompt_tokens_follow_those_of_points(sam: PromptableSam, features: Tensor) -> None:
    """A point that is given as the tokens that the prompt encoder makes of it is the same point."""
    points, labels = torch.tensor([[[30.0, 40.0]]]), torch.ones(1, 1)
    usual = sam.decode_tensors(features, points, labels)
    sparse, _ = sam.sam.prompt_encoder(points=(points, labels), boxes=None, masks=None)
    as_tokens = sam.decode_tensors(features, tokens=sparse)
    torch.testing.assert_close(as_tokens, usual)
    torch.testing.assert_close(sam.decode_tensors(features, tokens=sparse[0]), usual)

    first = sam.decode_tensors(features, points, labels, tokens=sparse)
    doubled = decode_batch(
        sam.sam, features, points.expand(-1, 2, -1), labels.expand(-1, 2), tokens=None
    )
    assert (first[0] - usual[0]).abs().max() > 1e-4
    assert first[0].shape == doubled[0].shape

    (embedding,) = sam.encode([PHOTO])
    (decoded,) = sam.decode([Prompt(embedding, tokens=sparse[0].detach())])
    torch.testing.assert_close(decoded.logits, usual[0][0])


def test_one_set_of_tokens_serves_a_batch(sam: PromptableSam, features: Tensor) -> None:
    token = torch.randn(2, sam.embed_dim, generator=torch.Generator().manual_seed(0))
    both = torch.cat([features, features.flip(-1)])
    together, _ = sam.decode_tensors(both, tokens=token)
    for row, alone in zip(together, both, strict=True):
        torch.testing.assert_close(row, sam.decode_tensors(alone[None], tokens=token)[0][0])


def test_an_adapter_changes_a_copy(sam: PromptableSam, features: Tensor) -> None:
    before = sam.decode_tensors(features)[0]
    adapted = sam.adapted(Scaled(0.5))
    assert (adapted.decode_tensors(features)[0] - before).abs().max() > 1e-3
    torch.testing.assert_close(sam.decode_tensors(features)[0], before)
    torch.testing.assert_close(sam.adapted(Scaled(1.0)).decode_tensors(features)[0], before)
    assert adapted.sam.image_encoder is sam.sam.image_encoder
    assert not any(one.requires_grad for one in adapted.sam.mask_decoder.parameters())

    twice = adapted.adapted(Scaled(2.0))
    torch.testing.assert_close(twice.decode_tensors(features)[0], before, atol=1e-4, rtol=1e-4)


def test_identity_knows_adapters(sam: PromptableSam) -> None:
    adapter = Scaled(0.5)
    adapted = sam.adapted(adapter)
    assert adapted.identity != sam.identity
    assert adapted.encoder_identity == sam.encoder_identity  # its embeddings are the same
    first = adapted.identity
    with torch.no_grad():
        adapter.factor.fill_(0.25)
    assert adapted.identity != first

    class OnEncoder(Scaled):
        part = "image_encoder"

        def attach(self, sam: Sam) -> None:
            sam.image_encoder.register_forward_hook(lambda module, given, found: found * 2)

    other = sam.adapted(OnEncoder(1.0))
    assert other.encoder_identity != sam.encoder_identity
    (mine,), (theirs,) = sam.encode([PHOTO]), other.encode([PHOTO])
    torch.testing.assert_close(theirs.features, 2 * mine.features)


def test_identity_is_of_the_weights(sam: PromptableSam) -> None:
    assert PromptableSam(copy.deepcopy(sam.sam), "other name").identity == sam.identity
    changed = copy.deepcopy(sam.sam)
    with torch.no_grad():
        changed.mask_decoder.iou_token.weight.add_(1)
    assert PromptableSam(changed).identity != sam.identity
    assert PromptableSam(changed, checkpoint_sha256="abc").identity == "abc"


def test_a_gradient_reaches_the_adapter_and_nothing_else(
    sam: PromptableSam, features: Tensor
) -> None:
    adapter = Scaled(0.5)
    sam.adapted(adapter).decode_tensors(features)[0].square().mean().backward()
    assert adapter.factor.grad is not None and adapter.factor.grad.abs() > 0
    assert all(one.grad is None for one in sam.sam.parameters())


def test_frozen_leaves_the_callers_model(sam: PromptableSam, features: Tensor) -> None:
    own = small_sam(96)
    wrapped = PromptableSam(own)
    frozen = wrapped.frozen()
    assert not any(one.requires_grad for one in frozen.sam.mask_decoder.parameters())
    assert all(one.requires_grad for one in own.mask_decoder.parameters())
    torch.testing.assert_close(
        frozen.decode_tensors(features)[0], wrapped.decode_tensors(features)[0]
    )
    assert frozen.frozen() is frozen


def test_another_device_and_another_process(sam: PromptableSam) -> None:
    assert sam.on("cpu") is sam
    moved = sam.adapted(Scaled(0.5)).on("meta")
    assert moved.device.type == "meta" and len(moved.adapters) == 1
    assert all(one.device.type == "meta" for one in moved.sam.parameters())
    again = pickle.loads(pickle.dumps(sam))
    assert again.identity == sam.identity


class Flat:
    """A toy model: not a Sam at all."""

    name = "flat"
    device, dtype = torch.device("cpu"), torch.float32
    image_size = grid_size = embed_dim = matching_dim = mask_size = 8
    checkpoint_sha256 = None
    identity = encoder_identity = "flat"
    encoder_parameters = 0

    def load_and_resize(self, source: Any) -> Any: ...
    def preprocess(self, resized: Any) -> Any: ...
    def encode_resized(self, resized: Any, original_sizes: Any, grad: bool = False) -> Any: ...
    def encode(self, images: Any, batch_size: Any = None) -> Any: ...
    def decode(self, prompts: Any, batch_size: Any = None) -> Any: ...
    def decode_tensors(self, features: Any, **prompts: Any) -> Any: ...
    def upscale(self, logits: Any, embedding: Any) -> Any: ...
    def upscale_to_input(self, logits: Any, embedding: Any) -> Any: ...
    def on(self, device: Any) -> Any: ...


class FlatEntry:
    name = "flat"

    def info(self) -> ModelInfo:
        from pathlib import Path

        return ModelInfo("flat", 0, 8, "https://example.org/flat", Path("flat.pt"), True, "a toy")

    def provide(self, download: bool) -> Any:
        return self.info().path

    def load(self, device: Any, dtype: Any, download: bool) -> Any:
        return Flat()


def test_a_model_of_another_package() -> None:
    assert isinstance(Flat(), Promptable)
    MODELS.register(FlatEntry())
    try:
        assert list_models()[-1].description == "a toy"
        assert isinstance(load_sam("flat"), Flat)
        with pytest.raises(PersamError, match="there is a model 'flat' already"):
            MODELS.register(FlatEntry())
    finally:
        MODELS.unregister("flat")
    own = Flat()
    assert load_sam(own) is own  # type: ignore[arg-type]
    with pytest.raises(PersamError, match="model 'flat' is not known"):
        load_sam("flat")


def test_named_models_are_frozen() -> None:
    assert not any(one.requires_grad for one in load_sam("sam_lite").sam.parameters())
