"""Guided mask decoding on the unmodified ``segment-anything`` modules.

``segment_anything.modeling.MaskDecoder`` decodes one photo at a time and has no place for guidance.
The functions here run the same modules (same weights, same arithmetic) on a batch of prompts that
belong to different photos, and take guidance as arguments: a bias that is added to the
token-to-image attention, an offset that is added to the query tokens, further prompt tokens, and
tokens that take part in single blocks. Everything is differentiable and nothing is changed in
place.
"""

from __future__ import annotations

import math

import torch
from segment_anything.modeling import Sam
from segment_anything.modeling.mask_decoder import MaskDecoder
from segment_anything.modeling.prompt_encoder import PromptEncoder
from segment_anything.modeling.transformer import Attention, TwoWayAttentionBlock, TwoWayTransformer
from torch import Tensor


def decode_batch(
    sam: Sam,
    embeddings: Tensor,
    points: Tensor | None = None,
    labels: Tensor | None = None,
    boxes: Tensor | None = None,
    masks: Tensor | None = None,
    attention_bias: Tensor | None = None,
    token_offset: Tensor | None = None,
    tokens: Tensor | None = None,
    block_tokens: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Decode a batch of prompts, each with an image embedding of its own.

    Args:
        sam: a model with SAM's prompt encoder and mask decoder.
        embeddings: (B, C, h, w) image embeddings, one for each prompt.
        points: (B, N, 2) x, y in pixels of the model's square input, or None.
        labels: (B, N) 1 positive, 0 negative, -1 padding; required with ``points``.
        boxes: (B, 4) x0, y0, x1, y1 in pixels of the model's square input, or None.
        masks: (B, 1, 4h, 4w) mask logits of an earlier pass, or None.
        attention_bias: (B, h * w) added to the attention maps of every token-to-image
            cross-attention inside the decoder's blocks, after the softmax; the sum goes through a
            second softmax (PerSAM, eq. 8). None leaves attention alone.
        token_offset: (B, C) added to every query token before each block and to the query of the
            final attention (PerSAM, eq. 10, as released), or None.
        tokens: (B, T, C), or (T, C) for all, further prompt tokens, which follow those of points
            and boxes and are treated as they are; or None.
        block_tokens: (L, T, C), T tokens for each of the decoder's L blocks, which stand beside the
            queries in that block and are dropped after it (deep prompt tuning); or None.

    Returns:
        Mask logits (B, M, 4h, 4w), M = 1 single-mask token followed by the scales, and predicted
        IoU (B, M).

    Raises:
        ValueError: points without labels.
    """
    sparse, dense = embed_prompts(sam.prompt_encoder, len(embeddings), points, labels, boxes, masks)
    if tokens is not None:
        further = tokens.to(sparse.dtype).expand(len(embeddings), -1, -1)
        sparse = torch.cat([sparse, further], dim=1)
    decoder = sam.mask_decoder
    dtype = embeddings.dtype
    position = sam.prompt_encoder.get_dense_pe().to(dtype)
    output_tokens = torch.cat([decoder.iou_token.weight, decoder.mask_tokens.weight]).to(dtype)
    inputs = torch.cat([output_tokens.expand(len(embeddings), -1, -1), sparse.to(dtype)], dim=1)
    queries, keys = _two_way_transformer(
        decoder.transformer,
        embeddings + dense.to(dtype),
        position,
        inputs,
        None if attention_bias is None else attention_bias.to(dtype)[:, None, None, :],
        None if token_offset is None else token_offset.to(dtype)[:, None, :],
        None if block_tokens is None else block_tokens.to(dtype),
    )
    return _predict_masks(decoder, queries, keys, embeddings.shape[-2:])


def embed_prompts(
    encoder: PromptEncoder,
    batch_size: int,
    points: Tensor | None,
    labels: Tensor | None,
    boxes: Tensor | None,
    masks: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Sparse (B, N', C) and dense (B, C, h, w) prompt embeddings; see `decode_batch`."""
    if points is not None and labels is None:
        raise ValueError(
            "points were given without labels: pass one label (1, 0 or -1) for each point"
        )
    points = None if points is None else points.float()
    boxes = None if boxes is None else boxes.float()
    masks = None if masks is None else masks.float()
    if type(encoder) is PromptEncoder and encoder._get_device().type == "cuda":
        sparse, dense = embed_without_waiting(encoder, points, labels, boxes, masks)
    else:
        sparse, dense = encoder(
            points=None if points is None else (points, labels), boxes=boxes, masks=masks
        )
    # Without any prompt the encoder answers with a batch of one.
    return sparse.expand(batch_size, -1, -1), dense.expand(batch_size, -1, -1, -1)


def embed_without_waiting(
    encoder: PromptEncoder,
    points: Tensor | None,
    labels: Tensor | None,
    boxes: Tensor | None,
    masks: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """What the prompt encoder itself gives, bit for bit, without asking the host.

    The released module indexes by a mask, for which a GPU must first tell the host how many places
    are in it; that can be in no CUDA graph.
    """
    parts = []
    if points is not None:
        assert labels is not None
        if boxes is None:  # as released: one point that is none
            points = torch.cat([points, points.new_full((len(points), 1, 2), -0.5)], dim=1)
            labels = torch.cat([labels, labels.new_full((len(labels), 1), -1)], dim=1)
        centres = points + 0.5
        placed = encoder.pe_layer.forward_with_coords(centres, encoder.input_image_size)
        kinds = labels[:, :, None]
        negative, positive = (placed + encoder.point_embeddings[n].weight for n in (0, 1))
        known = torch.where(kinds == 0, negative, torch.where(kinds == 1, positive, placed))
        parts.append(torch.where(kinds == -1, encoder.not_a_point_embed.weight, known))
    if boxes is not None:
        corners = (boxes + 0.5).reshape(-1, 2, 2)
        placed = encoder.pe_layer.forward_with_coords(corners, encoder.input_image_size)
        parts.append(placed + torch.cat([encoder.point_embeddings[n].weight for n in (2, 3)]))
    given = next((part for part in (points, boxes, masks) if part is not None), None)
    count = 1 if given is None else len(given)
    if parts:
        sparse = torch.cat(parts, dim=1)
    else:
        sparse = torch.empty((count, 0, encoder.embed_dim), device=encoder._get_device())
    if masks is not None:
        return sparse, encoder._embed_masks(masks)
    nothing = encoder.no_mask_embed.weight.reshape(1, -1, 1, 1)
    return sparse, nothing.expand(count, -1, *encoder.image_embedding_size)


def _two_way_transformer(
    transformer: TwoWayTransformer,
    image: Tensor,
    position: Tensor,
    tokens: Tensor,
    bias: Tensor | None,
    offset: Tensor | None,
    block_tokens: Tensor | None,
) -> tuple[Tensor, Tensor]:
    keys = image.flatten(2).transpose(1, 2)
    key_position = position.flatten(2).transpose(1, 2)
    # The released code adds the offset in place to a tensor that is also the queries' positional
    # encoding, so the first addition shows in every later use of that encoding.
    query_position = tokens if offset is None else tokens + offset
    queries = query_position
    for index, block in enumerate(transformer.layers):
        if offset is not None and index > 0:
            queries = queries + offset
        if block_tokens is None:
            queries, keys = _two_way_block(block, queries, keys, query_position, key_position, bias)
            continue
        # Like every token they are their own positional encoding.
        further = block_tokens[index].expand(len(queries), -1, -1)
        beside, keys = _two_way_block(
            block,
            torch.cat([queries, further], dim=1),
            keys,
            torch.cat([query_position, further], dim=1),
            key_position,
            bias,
        )
        queries = beside[:, : queries.shape[1]]
    final_query = queries + query_position
    if offset is not None:
        final_query = final_query + offset
    attended = transformer.final_attn_token_to_image(q=final_query, k=keys + key_position, v=keys)
    return transformer.norm_final_attn(queries + attended), keys


def _two_way_block(
    block: TwoWayAttentionBlock,
    queries: Tensor,
    keys: Tensor,
    query_position: Tensor,
    key_position: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor]:
    if block.skip_first_layer_pe:
        queries = block.self_attn(q=queries, k=queries, v=queries)
    else:
        placed = queries + query_position
        queries = queries + block.self_attn(q=placed, k=placed, v=queries)
    queries = block.norm1(queries)

    positioned_keys = keys + key_position
    attention = block.cross_attn_token_to_image
    queries = queries + _biased_attention(
        attention, queries + query_position, positioned_keys, keys, bias
    )
    queries = block.norm2(queries)
    queries = block.norm3(queries + block.mlp(queries))

    placed = queries + query_position
    keys = keys + block.cross_attn_image_to_token(q=positioned_keys, k=placed, v=queries)
    return queries, block.norm4(keys)


def _biased_attention(
    attention: Attention, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None
) -> Tensor:
    if bias is None:
        return attention(q=q, k=k, v=v)
    heads = attention.num_heads
    query = attention._separate_heads(attention.q_proj(q), heads)
    key = attention._separate_heads(attention.k_proj(k), heads)
    value = attention._separate_heads(attention.v_proj(v), heads)
    weights = torch.softmax(query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1]), dim=-1)
    weights = torch.softmax(weights + bias, dim=-1)
    return attention.out_proj(attention._recombine_heads(weights @ value))


def _predict_masks(
    decoder: MaskDecoder, queries: Tensor, keys: Tensor, grid: tuple[int, int] | torch.Size
) -> tuple[Tensor, Tensor]:
    batch, _, channels = keys.shape
    mask_tokens = queries[:, 1 : 1 + decoder.num_mask_tokens]
    upscaled = decoder.output_upscaling(keys.transpose(1, 2).reshape(batch, channels, *grid))
    heads = zip(decoder.output_hypernetworks_mlps, mask_tokens.unbind(1), strict=True)
    hyper = torch.stack([head(token) for head, token in heads], dim=1)
    logits = (hyper @ upscaled.flatten(2)).unflatten(2, upscaled.shape[-2:])
    return logits, decoder.iou_prediction_head(queries[:, 0])
