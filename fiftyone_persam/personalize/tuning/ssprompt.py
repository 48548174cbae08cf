"""SSPrompt: spatial and semantic prompts learned where the decoder reads them.

Huang et al., "Learning to Prompt Segment Anything Models", arXiv 2401.04651; no code was published.
Instead of searching for better points or words, tokens themselves are learned, and weights say how
much of them and how much of the frozen encoder's own output counts. Its setting is a few labelled
photos of a data set, from which prompts are learned once; here these are 1 to 16 references.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
from segment_anything.modeling import Sam
from torch import Tensor, nn

from ...errors import BadReferenceError, PersamError
from ...options import Option, check_values
from ...sam import Promptable, PromptableSam
from ..cascade_options import Mode
from ..state import FittedState
from .examples import Examples
from .method import LearningRate, TunedMethod
from .parts import Part, decoding_with

MOST_PHOTOS = 16

Spatial = Annotated[
    int,
    Option(
        "learned tokens that start as the points' own; 0 for none",
        low=0,
        high=64,
        advice="give 0 to 64",
    ),
]
Semantic = Annotated[
    int,
    Option(
        "learned tokens that start as the target feature; 0 for none",
        low=0,
        high=64,
        advice="give 0 to 64",
    ),
]
Learn = Annotated[
    Literal["both", "tokens", "gates"],
    Option(
        "learn tokens and the gates that mix them with the frozen encoder's, the tokens alone, or "
        "the gates alone, as weights of the frozen encoder's"
    ),
]
_FIRST_GATE = -2.0  # the frozen encoder's output counts for seven eighths


class SpatialSemantic(Part):
    """Learned tokens and gates.

    Args:
        spatial: learned tokens of the points. The first belongs to the first point and so on;
            further ones begin again with the first point, and points without one stay as they are.
        semantic: learned tokens of what the object looks like.
        channels: of a token.
        learn: "both", "tokens" or "gates".
    """

    target: Tensor

    def __init__(self, spatial: int, semantic: int, channels: int, learn: str) -> None:
        super().__init__()
        self.learn = learn
        self.spatial_count, self.semantic_count = spatial, semantic
        tokens, gates = learn != "gates", learn != "tokens"
        self.spatial = nn.Parameter(torch.zeros(spatial, channels)) if tokens else None
        self.semantic = nn.Parameter(torch.zeros(semantic, channels)) if tokens else None
        first = torch.full((spatial + semantic,), _FIRST_GATE if tokens else 0.0)
        self.gates = nn.Parameter(first) if gates else None
        self.register_buffer("target", torch.zeros(channels))

    @torch.no_grad()
    def start(self, sam: PromptableSam, examples: Examples, state: FittedState) -> None:
        """Begin with the tokens of PerSAM's points, and with the target feature; means over photos.

        `state.embeddings` are the target features as PerSAM's semantic prompt has them.
        """
        self.target.copy_(state.embeddings.mean(dim=0))
        if self.spatial is None or self.semantic is None:
            return
        own = sam.embed_prompts(examples.points, examples.labels)
        count = examples.points.shape[1]
        which = [k % count for k in range(self.spatial_count)]
        self.spatial.copy_(own.mean(dim=0)[which])
        self.semantic.copy_(self.target.expand(self.semantic_count, -1))

    def decoder(self, sam: PromptableSam) -> Promptable:
        """The model with these tokens in place of the points' in every pass."""

        def decode(
            features: Tensor,
            points: Tensor | None = None,
            labels: Tensor | None = None,
            boxes: Tensor | None = None,
            masks: Tensor | None = None,
            *,
            tokens: Tensor | None = None,
            **guidance: Any,
        ) -> tuple[Tensor, Tensor]:
            own = sam.embed_prompts(points, labels, boxes)
            count = 0 if points is None else points.shape[1]
            mixed = self.mix(own.expand(len(features), -1, -1), count)
            if tokens is not None:
                further = tokens.to(mixed.dtype).expand(len(features), -1, -1)
                mixed = torch.cat([mixed, further], dim=1)
            return sam.decode_tensors(features, masks=masks, tokens=mixed, **guidance)

        return decoding_with(sam, decode)

    def mix(self, own: Tensor, count: int) -> Tensor:
        """What the decoder gets for the frozen encoder's tokens.

        Args:
            own: (B, N, C), the first ``count`` of them of points.
            count: number of points.

        Returns:
            (B, N', C): learned and further points, the encoder's other tokens, semantic tokens.
        """
        gates = None if self.gates is None else torch.sigmoid(self.gates).to(own.dtype)
        which = [k % count for k in range(self.spatial_count)] if count else []
        spatial = self._mixed(own[:, which], self.spatial, gates, slice(0, len(which)))
        told = self.target.to(own.dtype).expand(len(own), self.semantic_count, -1)
        last = slice(self.spatial_count, None)
        semantic = self._mixed(told, self.semantic, gates, last)
        return torch.cat([spatial, own[:, min(len(which), count) :], semantic], dim=1)

    def _mixed(
        self, own: Tensor, learned: Tensor | None, gates: Tensor | None, rows: slice
    ) -> Tensor:
        if learned is None:
            assert gates is not None
            return own * (2 * gates[rows, None])  # at first 1
        ours = learned[: own.shape[1]].to(own.dtype).expand_as(own)
        if gates is None:
            return ours
        return torch.lerp(own, ours, gates[rows, None].expand_as(own))


class SSPrompt(TunedMethod):
    """PerSAM with learned spatial and semantic prompt tokens, of one photo or of up to 16.

    The prompts are the object's, or what 1 to 16 labelled photos have in common: learned once, used
    in every photo.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: as in `PerSAM`.
        spatial: learned tokens that start as the points' own.
        semantic: learned tokens that start as the target feature.
        learn: "both" tokens and gates, the "tokens" alone, or the "gates" alone.
        lr: learning rate of the first step.
        options: as in `TunedMethod` and `PerSAM`.

    Raises:
        PersamError: an option out of its range.
    """

    name = "ssprompt"
    title = "SSPrompt"
    help = "learns the prompts themselves, from one photo or from up to 16"

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        spatial: Spatial = 4,
        semantic: Semantic = 4,
        learn: Learn = "both",
        lr: LearningRate = 3e-2,
        **options: Any,
    ) -> None:
        check_values(self.options(), {"spatial": spatial, "semantic": semantic, "learn": learn})
        if not spatial and not semantic:
            raise PersamError(
                f"{self.title} has nothing to learn: give spatial or semantic tokens, 1 or more"
            )
        super().__init__(sam, mode, lr=lr, **options)
        self.spatial = int(spatial)
        self.semantic = int(semantic)
        self.learn = learn

    def part(self, generator: torch.Generator) -> SpatialSemantic:
        """Tokens and gates."""
        return SpatialSemantic(self.spatial, self.semantic, self.sam.embed_dim, self.learn)

    def fit(self, reference: Any, *given: Any, **named: Any) -> SSPrompt:
        """See `CascadeMethod.fit`.

        Raises:
            BadReferenceError: more than 16 references.
        """
        if isinstance(reference, (list, tuple)) and len(reference) > MOST_PHOTOS:
            raise BadReferenceError(
                f"{self.title} learns from 1 to {MOST_PHOTOS} references, not {len(reference)}: "
                "give fewer"
            )
        return super().fit(reference, *given, **named)
