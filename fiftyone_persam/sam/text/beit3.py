"""BEiT-3's multiway encoder: a photo and a phrase go through one transformer together.

After "Image as a Foreign Language: BEiT Pretraining for Vision and Vision-Language Tasks" (Wang et
al., arXiv 2208.10442): all tokens attend to each other, but each projection, layer norm and
feed-forward network exists twice, A for the photo's tokens and B for the phrase's. Layer norms
stand where Magneto (arXiv 2210.06423) puts them: before attention and feed-forward network, and
once more inside both. Weights have the names of the published checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FIRST_POSITION = 2
"""Positions are counted from 2, as fairseq does; the first two rows of the tables are not used."""


@dataclass(frozen=True)
class BeitConfig:
    """Sizes of an encoder.

    Attributes:
        width: channels of a token.
        layers: transformer layers.
        heads: attention heads.
        hidden: channels inside the feed-forward networks.
        vocabulary: rows of the table of text tokens.
        image_size: side of the square photo in pixels.
        patch_size: side of a patch in pixels.
        positions: rows of the table of text positions.
    """

    width: int
    layers: int
    heads: int
    hidden: int
    vocabulary: int = 64010
    image_size: int = 224
    patch_size: int = 16
    positions: int = 1024

    @property
    def longest(self) -> int:
        """Text tokens that have a position."""
        return self.positions - FIRST_POSITION


BEIT3_BASE = BeitConfig(width=768, layers=12, heads=12, hidden=3072)
BEIT3_LARGE = BeitConfig(width=1024, layers=24, heads=16, hidden=4096)


class Beit3(nn.Module):
    """Photo and phrase in, a token for each patch and each piece of text out.

    Args:
        config: its sizes.
    """

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        self.config = config
        self.text_embed = nn.Embedding(config.vocabulary, config.width)
        self.vision_embed = _PatchEmbedding(config)
        self.encoder = _Encoder(config, self.vision_embed.tokens)

    def forward(self, photos: Tensor, text: Tensor, padding: Tensor | None = None) -> Tensor:
        """Encode photos and phrases.

        Args:
            photos: (B, 3, S, S) with mean and standard deviation 0.5 taken out, about -1 to 1.
            text: (B, T) ids of text tokens, at most ``config.longest``.
            padding: (B, T) bool, True where a phrase has ended already; None if none has.

        Returns:
            (B, 1 + P + T, width): [CLS], the patches row by row, the text tokens.
        """
        seen = self.vision_embed(photos)
        tokens = torch.cat([seen, self.text_embed(text)], dim=1)
        unused = None
        if padding is not None:
            unused = torch.cat([padding.new_zeros(seen.shape[:2]), padding], dim=1)
        encoded: Tensor = self.encoder(tokens, seen.shape[1], unused)
        return encoded


class _PatchEmbedding(nn.Module):
    """Patches of a photo as tokens, [CLS] before them."""

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        self.tokens = 1 + (config.image_size // config.patch_size) ** 2
        self.mask_token = nn.Parameter(torch.zeros(1, 1, config.width))  # for pretraining alone
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, photos: Tensor) -> Tensor:
        patches = self.proj(photos).flatten(2).transpose(1, 2)
        return torch.cat([self.cls_token.expand(len(photos), -1, -1), patches], dim=1)


class _Multiway(nn.Module):
    """Two modules of one kind: A for the tokens before ``split``, B for the others."""

    def __init__(self, a: nn.Module, b: nn.Module) -> None:
        super().__init__()
        self.A = a
        self.B = b

    def forward(self, tokens: Tensor, split: int) -> Tensor:
        return torch.cat([self.A(tokens[:, :split]), self.B(tokens[:, split:])], dim=1)


def _norms(width: int) -> _Multiway:
    return _Multiway(nn.LayerNorm(width), nn.LayerNorm(width))


def _linears(width: int) -> _Multiway:
    return _Multiway(nn.Linear(width, width), nn.Linear(width, width))


class _Positions(nn.Module):
    """A vector for each place, of a table for each of the two parts."""

    def __init__(self, config: BeitConfig, seen: int) -> None:
        super().__init__()
        self.A = nn.Embedding(seen + FIRST_POSITION, config.width)
        self.B = nn.Embedding(config.positions, config.width)

    def forward(self, count: int, split: int) -> Tensor:
        """(count, width), the first ``split`` of the photo's table."""
        first, second = FIRST_POSITION + split, FIRST_POSITION + count - split
        return torch.cat(
            [self.A.weight[FIRST_POSITION:first], self.B.weight[FIRST_POSITION:second]]
        )


class _Encoder(nn.Module):
    def __init__(self, config: BeitConfig, seen: int) -> None:
        super().__init__()
        self.embed_positions = _Positions(config, seen)
        self.layers = nn.ModuleList(_Layer(config) for _ in range(config.layers))
        self.layer_norm = _norms(config.width)

    def forward(self, tokens: Tensor, split: int, unused: Tensor | None) -> Tensor:
        tokens = tokens + self.embed_positions(tokens.shape[1], split)
        used = None
        if unused is not None:
            tokens = tokens.masked_fill(unused[:, :, None], 0)
            used = ~unused[:, None, None, :]
        for layer in self.layers:
            tokens = layer(tokens, split, used)
        normed: Tensor = self.layer_norm(tokens, split)
        return normed


class _Layer(nn.Module):
    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        self.self_attn = _Attention(config)
        self.self_attn_layer_norm = _norms(config.width)
        self.ffn = _Multiway(_FeedForward(config), _FeedForward(config))
        self.final_layer_norm = _norms(config.width)

    def forward(self, tokens: Tensor, split: int, used: Tensor | None) -> Tensor:
        tokens = tokens + self.self_attn(self.self_attn_layer_norm(tokens, split), split, used)
        changed: Tensor = tokens + self.ffn(self.final_layer_norm(tokens, split), split)
        return changed


class _Attention(nn.Module):
    """Attention of all tokens to all, with a layer norm before the last projection."""

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (
            _linears(config.width) for _ in range(4)
        )
        self.inner_attn_ln = _norms(config.width)

    def forward(self, tokens: Tensor, split: int, used: Tensor | None) -> Tensor:
        query, key, value = (
            project(tokens, split).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=used)
        merged = attended.transpose(1, 2).flatten(2)
        projected: Tensor = self.out_proj(self.inner_attn_ln(merged, split), split)
        return projected


class _FeedForward(nn.Module):
    """Two linear layers, with a layer norm between them."""

    def __init__(self, config: BeitConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)
        self.ffn_layernorm = nn.LayerNorm(config.hidden)

    def forward(self, tokens: Tensor) -> Tensor:
        changed: Tensor = self.fc2(self.ffn_layernorm(F.gelu(self.fc1(tokens))))
        return changed
