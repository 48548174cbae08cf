"""decode_batch against segment_anything's own decoder, and guidance against plain numpy."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from fiftyone_persam.sam.decoding import decode_batch
from fiftyone_persam.sam.embedding import Decoded
from fiftyone_persam.sam.lite import build_sam_lite

Array = npt.NDArray[np.floating[Any]]
BATCH = 3
PROMPTS = [
    kinds
    for count in range(4)
    for kinds in itertools.combinations(("points", "boxes", "masks"), count)
]


def other_sam() -> Sam:
    """A model that shares no size with sam_lite: channels, grid, heads, depth, number of scales."""
    channels, grid, side = 32, 6, 60
    transformer = TwoWayTransformer(depth=3, embedding_dim=channels, num_heads=4, mlp_dim=40)
    return Sam(
        image_encoder=NoEncoder(img_size=side),  # type: ignore[arg-type]
        prompt_encoder=PromptEncoder(channels, (grid, grid), (side, side), mask_in_chans=8),
        mask_decoder=MaskDecoder(
            transformer_dim=channels, transformer=transformer, num_multimask_outputs=2
        ),
    ).eval()


class NoEncoder(nn.Module):
    """An encoder that is never called: decoding starts from embeddings."""

    def __init__(self, **values: int) -> None:
        super().__init__()
        self.__dict__.update(values)


@pytest.fixture(scope="module", params=["sam_lite at 96 px", "another architecture"])
def sam(request: pytest.FixtureRequest) -> Sam:
    torch.manual_seed(0)
    model = build_sam_lite(96) if request.param.startswith("sam_lite") else other_sam()
    with torch.no_grad():
        for parameter in model.mask_decoder.parameters():
            if parameter.ndim == 1:  # norms and biases start as 1 and 0, which would hide mix-ups
                parameter.add_(0.3 * torch.randn(parameter.shape))
    return model


def inputs(sam: Sam, kinds: tuple[str, ...], guided: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Prompts for BATCH photos, as `decode_batch` takes them."""
    generator = torch.Generator().manual_seed(7)
    encoder = sam.prompt_encoder
    (grid, _), (side, _) = encoder.image_embedding_size, encoder.input_image_size

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    corners = torch.rand(BATCH, 2, 2, generator=generator).sort(1).values * side
    everything = {
        "embeddings": normal(BATCH, encoder.embed_dim, grid, grid),
        "points": torch.rand(BATCH, 2, 2, generator=generator) * side,
        "labels": torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, -1.0]]),
        "boxes": corners.flatten(1),
        "masks": 5 * normal(BATCH, 1, *encoder.mask_input_size),
        "attention_bias": normal(BATCH, grid * grid),
        "token_offset": normal(BATCH, encoder.embed_dim),
    }
    names = {"embeddings", *kinds, *guided} | ({"labels"} if "points" in kinds else set())
    return {name: value for name, value in everything.items() if name in names}


def one_by_one(sam: Sam, prompts: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """segment_anything's own prompt encoder and mask decoder, one prompt at a time."""
    decoder = copy.deepcopy(sam.mask_decoder)
    results = []
    for index in range(len(prompts["embeddings"])):
        one = {name: value[index : index + 1] for name, value in prompts.items()}
        sparse, dense = sam.prompt_encoder(
            points=(one["points"], one["labels"]) if "points" in one else None,
            boxes=one.get("boxes"),
            masks=one.get("masks"),
        )
        if "attention_bias" in one or "token_offset" in one:
            decoder.transformer = PlainTransformer(
                sam.mask_decoder.transformer, one.get("attention_bias"), one.get("token_offset")
            )
        results.append(
            decoder.predict_masks(
                one["embeddings"], sam.prompt_encoder.get_dense_pe(), sparse, dense
            )
        )
    logits, scores = zip(*results, strict=True)
    return torch.cat(logits), torch.cat(scores)


class PlainTransformer(nn.Module):
    """The two-way transformer of one prompt in numpy, guided the way PerSAM's released code is.

    ``queries += offset`` is in place there, on an array that is also the positional encoding.
    """

    def __init__(
        self, transformer: TwoWayTransformer, bias: Tensor | None, offset: Tensor | None
    ) -> None:
        super().__init__()
        self.guided = transformer
        self.bias = None if bias is None else bias[0].double().numpy()
        self.offset = None if offset is None else offset[0].double().numpy()

    def forward(self, image: Tensor, position: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        keys = image[0].flatten(1).T.double().numpy()
        key_position = position[0].flatten(1).T.double().numpy()
        query_position = tokens[0].double().numpy().copy()
        queries = query_position
        for block in self.guided.layers:
            if self.offset is not None:
                queries += self.offset
            queries, keys = self.block(block, queries, keys, query_position, key_position)
        q = queries + query_position + (0 if self.offset is None else self.offset)
        attended = attention(self.guided.final_attn_token_to_image, q, keys + key_position, keys)
        queries = norm(self.guided.norm_final_attn, queries + attended)
        return torch.from_numpy(queries).float()[None], torch.from_numpy(keys).float()[None]

    def block(
        self, block: Any, q: Array, k: Array, pe_q: Array, pe_k: Array
    ) -> tuple[Array, Array]:
        if block.skip_first_layer_pe:
            q = attention(block.self_attn, q, q, q)
        else:
            q = q + attention(block.self_attn, q + pe_q, q + pe_q, q)
        q = norm(block.norm1, q)
        q = q + attention(block.cross_attn_token_to_image, q + pe_q, k + pe_k, k, self.bias)
        q = norm(block.norm2, q)
        hidden = np.maximum(linear(block.mlp.lin1, q), 0)
        q = norm(block.norm3, q + linear(block.mlp.lin2, hidden))
        k = k + attention(block.cross_attn_image_to_token, k + pe_k, q + pe_q, q)
        return q, norm(block.norm4, k)


def linear(layer: nn.Linear, x: Array) -> Array:
    return x @ layer.weight.double().numpy().T + layer.bias.double().numpy()


def norm(layer: nn.LayerNorm, x: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    unit = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + layer.eps)
    return unit * layer.weight.double().numpy() + layer.bias.double().numpy()


def softmax(x: Array) -> Array:
    exponential = np.exp(x - x.max(-1, keepdims=True))
    return exponential / exponential.sum(-1, keepdims=True)


def attention(layer: Any, q: Array, k: Array, v: Array, bias: Array | None = None) -> Array:
    q, k, v = linear(layer.q_proj, q), linear(layer.k_proj, k), linear(layer.v_proj, v)
    heads = []
    for columns in np.split(np.arange(q.shape[1]), layer.num_heads):
        weights = softmax(q[:, columns] @ k[:, columns].T / np.sqrt(len(columns)))
        if bias is not None:
            weights = softmax(weights + bias)
        heads.append(weights @ v[:, columns])
    return linear(layer.out_proj, np.concatenate(heads, 1))


@pytest.mark.parametrize("kinds", PROMPTS, ids=lambda kinds: "+".join(kinds) or "no prompt")
@torch.no_grad()
def test_batch_equals_own_decoder(sam: Sam, kinds: tuple[str, ...]) -> None:
    prompts = inputs(sam, kinds)
    logits, scores = decode_batch(sam, **prompts)
    expected_logits, expected_scores = one_by_one(sam, prompts)
    count, grid = sam.mask_decoder.num_mask_tokens, sam.prompt_encoder.image_embedding_size[0]
    assert logits.shape == (BATCH, count, 4 * grid, 4 * grid)
    assert scores.shape == (BATCH, count)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(scores, expected_scores, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("multimask", "tokens"), [(True, slice(1, None)), (False, slice(0, 1))])
@torch.no_grad()
def test_order_of_masks(sam: Sam, multimask: bool, tokens: slice) -> None:
    prompts = inputs(sam, ("points",))
    logits, scores = decode_batch(sam, **prompts)
    sparse, dense = sam.prompt_encoder((prompts["points"], prompts["labels"]), None, None)
    for index in range(BATCH):
        one = slice(index, index + 1)
        masks, quality = sam.mask_decoder(
            prompts["embeddings"][one],
            sam.prompt_encoder.get_dense_pe(),
            sparse[one],
            dense[one],
            multimask_output=multimask,
        )
        torch.testing.assert_close(logits[one, tokens], masks, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(scores[one, tokens], quality, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "guided", [("attention_bias",), ("token_offset",), ("attention_bias", "token_offset")]
)
@pytest.mark.parametrize("kinds", [(), ("points",), ("points", "boxes", "masks")])
@torch.no_grad()
def test_guidance_equals_plain_recomputation(
    sam: Sam, kinds: tuple[str, ...], guided: tuple[str, ...]
) -> None:
    prompts = inputs(sam, kinds, guided)
    logits, scores = decode_batch(sam, **prompts)
    expected_logits, expected_scores = one_by_one(sam, prompts)
    torch.testing.assert_close(logits, expected_logits, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores, expected_scores, rtol=1e-3, atol=1e-3)
    unguided, _ = decode_batch(sam, **inputs(sam, kinds))
    assert (logits - unguided).abs().max() > 0.01


@torch.no_grad()
def test_a_bias_of_zero_still_goes_through_the_second_softmax(sam: Sam) -> None:
    prompts = inputs(sam, ("points",))
    grid = sam.prompt_encoder.image_embedding_size[0]
    plain, _ = decode_batch(sam, **prompts)
    zeros, _ = decode_batch(sam, **prompts, attention_bias=torch.zeros(BATCH, grid**2))
    constant, _ = decode_batch(sam, **prompts, attention_bias=torch.full((BATCH, grid**2), 3.0))
    assert (zeros - plain).abs().max() > 1e-3
    torch.testing.assert_close(constant, zeros, rtol=1e-4, atol=1e-4)


@torch.no_grad()
def test_an_offset_of_zero_changes_nothing(sam: Sam) -> None:
    prompts = inputs(sam, ("points", "masks"))
    zeros = torch.zeros(BATCH, sam.prompt_encoder.embed_dim)
    for plain, shifted in zip(
        decode_batch(sam, **prompts), decode_batch(sam, **prompts, token_offset=zeros), strict=True
    ):
        torch.testing.assert_close(shifted, plain)


def test_gradients_reach_every_input_and_stay_with_their_prompt(sam: Sam) -> None:
    prompts = inputs(sam, ("points", "boxes", "masks"), ("attention_bias", "token_offset"))
    leaves = {name: value.clone().requires_grad_() for name, value in prompts.items()}
    logits, scores = decode_batch(sam, **{**leaves, "labels": prompts["labels"]})
    (logits[1].mean() + scores[1].sum()).backward()
    for name in ("embeddings", "masks", "attention_bias", "token_offset"):
        gradient = leaves[name].grad
        assert gradient is not None, name
        assert torch.isfinite(gradient).all(), name
        assert gradient[1].abs().max() > 0, name
        assert (gradient[[0, 2]] == 0).all(), name


def test_gradient_is_the_slope(sam: Sam) -> None:
    prompts = inputs(sam, ("points",), ("attention_bias", "token_offset"))
    offset = prompts.pop("token_offset").requires_grad_()

    def total(shift: Tensor) -> Tensor:
        logits, _ = decode_batch(sam, **prompts, token_offset=shift)
        return logits.double().sigmoid().mean()

    (slope,) = torch.autograd.grad(total(offset), offset)
    direction = slope / slope.norm()
    with torch.no_grad():
        rise = (total(offset + 0.01 * direction) - total(offset - 0.01 * direction)) / 0.02
    assert float(rise) == pytest.approx(float(slope.norm()), rel=0.05)


@torch.no_grad()
def test_inputs_stay_as_they_were(sam: Sam) -> None:
    prompts = inputs(sam, ("points", "boxes", "masks"), ("attention_bias", "token_offset"))
    before = {name: value.clone() for name, value in prompts.items()}
    weights = copy.deepcopy(sam.state_dict())
    decode_batch(sam, **prompts)
    assert all(torch.equal(prompts[name], before[name]) for name in before)
    assert all(torch.equal(value, weights[name]) for name, value in sam.state_dict().items())


@torch.no_grad()
def test_half_precision_decoder_takes_float_prompts(sam: Sam) -> None:
    prompts = inputs(sam, ("points", "boxes"), ("attention_bias", "token_offset"))
    half = copy.deepcopy(sam)
    half.mask_decoder.bfloat16()
    logits, scores = decode_batch(
        half, **{**prompts, "embeddings": prompts["embeddings"].bfloat16()}
    )
    expected, _ = decode_batch(sam, **prompts)
    assert logits.dtype == scores.dtype == torch.bfloat16
    assert (logits.float() - expected).abs().mean() < 0.05 * expected.abs().mean()


def test_points_without_labels_are_refused(sam: Sam) -> None:
    prompts = inputs(sam, ("points",))
    del prompts["labels"]
    with pytest.raises(ValueError, match="points were given without labels"):
        decode_batch(sam, **prompts)


def test_sureness_is_predicted_iou_times_the_outlines_stability() -> None:
    """The mask at +1 over the mask at -1; a mask that is empty at both is worth nothing."""
    ramp = torch.linspace(-4, 4, 32).expand(32, 32)
    logits = torch.stack([ramp, 8 * ramp, torch.full((32, 32), -9.0)])
    scores = torch.tensor([0.9, 0.9, 1.0])
    expected = [
        score * (one > 1).sum() / max((one > -1).sum(), 1)
        for score, one in zip(scores.tolist(), logits.numpy(), strict=True)
    ]
    found = Decoded(logits, scores).sureness
    assert found.tolist() == pytest.approx(expected)
    assert found[1] > found[0] > found[2] == 0
