"""What passes between a promptable model and the methods: embeddings, prompts, masks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True, eq=False)
class ImageEmbedding:
    """What the image encoder knows of one photo.

    Attributes:
        features: (C, h, w) on the model's device, padding included.
        input_size: height and width of the photo inside the model's square input.
        original_size: height and width of the photo itself.
        image_size: side of the model's square input.
        matching: (C', h, w) of another backbone, over the same square, to find the object by; None
            where the decoder's own features serve for that.
        overview: (3, s, s) float32, the whole photo squeezed into a small square, for models that
            look at it once more when they are prompted; None for others.
        descriptors: (D, h, w) float16 over the same square, what tells objects apart, of a model
            whose encoder has that to give beside what it decodes; None for others.
    """

    features: Tensor
    input_size: tuple[int, int]
    original_size: tuple[int, int]
    image_size: int
    matching: Tensor | None = None
    overview: Tensor | None = None
    descriptors: Tensor | None = None

    @property
    def to_match(self) -> Tensor:
        """(C', h, w) features that objects are compared by: ``matching``, else ``features``."""
        return self.features if self.matching is None else self.matching

    @property
    def to_recognise(self) -> Tensor:
        """(D, h, w) features that tell whether it is the same object again.

        Those of another backbone, else the encoder's ``descriptors``, else ``features``.
        """
        if self.matching is not None or self.descriptors is None:
            return self.to_match
        return self.descriptors

    @property
    def valid_grid(self) -> tuple[int, int]:
        """Rows and columns of the grid that hold a part of the photo; the others are padding."""
        height, width = self.features.shape[-2:]
        rows = -(-self.input_size[0] * height // self.image_size)
        columns = -(-self.input_size[1] * width // self.image_size)
        return rows, columns

    @property
    def scale(self) -> tuple[float, float]:
        """Factors that take x and y from photo pixels to pixels of the model's input."""
        return (
            self.input_size[1] / self.original_size[1],
            self.input_size[0] / self.original_size[0],
        )


@dataclass(frozen=True, eq=False)
class Prompt:
    """What to segment in one photo. Everything but the embedding is optional.

    Attributes:
        embedding: the photo.
        points: (n, 2) x, y in photo pixels.
        labels: (n,) 1 for the object, 0 for what is not the object; all 1 if left out.
        box: (4,) x0, y0, x1, y1 in photo pixels.
        mask: (hm, wm) mask logits of an earlier pass.
        attention_bias: (h * w,) added to the token-to-image attention.
        token_offset: (C,) added to the query tokens.
        tokens: (T, C) further prompt tokens, after those of points and box.
    """

    embedding: ImageEmbedding
    points: npt.ArrayLike | None = None
    labels: npt.ArrayLike | None = None
    box: npt.ArrayLike | None = None
    mask: Tensor | None = None
    attention_bias: Tensor | None = None
    token_offset: Tensor | None = None
    tokens: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Decoded:
    """Masks of one prompt.

    Attributes:
        logits: (M, hm, wm) float32; the first is the single-mask token, the others are the scales.
        scores: (M,) predicted IoU of each.
    """

    logits: Tensor
    scores: Tensor

    @property
    def sureness(self) -> Tensor:
        """(M,) how good each mask is: its predicted IoU times its stability.

        The predicted IoU alone often rates a part and the whole, or the whole and what is around
        it, alike; the one that the prompt does not stand for has a vague outline, and the stability
        tells: the IoU of the mask with a threshold raised by 1 and lowered by 1, as in Segment
        Anything's mask generator. `benchmarks.reference_kinds` measures it.
        """
        from segment_anything.utils.amg import calculate_stability_score

        stability = calculate_stability_score(self.logits, 0.0, 1.0)
        return self.scores * stability.nan_to_num(0.0)  # NaN of a mask that is empty at both
