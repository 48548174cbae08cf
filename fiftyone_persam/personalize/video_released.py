"""The frames of a sequence as the released video scripts compute them (``mode="reference"``).

PerSAM's script prompts with two points and PerSAM-F's with one, each with the centre of the last
box and the last box, grown by 10 pixels; the latter tunes the weights of the mask scales on the
first frame. What is wrong there is kept: areas are compared modulo 256, and where an object is not
in a frame, those after it get the box of their predecessor from then on and the last one is never
seen again. Where the script would end with an error, because a mask is empty, the last mask that is
not stays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import BadReferenceError
from ..sam import Decoded, ImageEmbedding, Photo, Prompt, Promptable
from . import prior
from .assembly import ABSENT
from .prediction import Prediction
from .session import Answer, Mask
from .tuning import tune_scales
from .video_views import box_of

MASK_VALUE = 215
"""What the scripts write into a mask before it goes through the photos' transform."""
GROWN = 10  # pixels
POINTS = {False: 2, True: 1}
"""Most similar places to prompt with; by whether the scales are weighted."""
STEPS, LEARNING_RATE = 800, 4e-4
STAGE = "refinement_2"


@dataclass(frozen=True, eq=False)
class _Prompts:
    """Points (n, 2) x, y, and the grown box (4,), in pixels of the frame."""

    points: npt.NDArray[np.int64]
    box: npt.NDArray[np.int64]


class ReleasedSession:
    """See `SequenceSession`.

    Args:
        methods: object -> fitted method, all of one model; in the order of the released labels.
        weighted: weigh the mask scales, as PerSAM-F's script.
    """

    def __init__(self, methods: Mapping[str, Any], weighted: bool) -> None:
        self._methods = dict(methods)
        self._weighted = weighted
        self.sam: Promptable = next(iter(methods.values())).sam
        self._targets: dict[str, Tensor] = {}
        self._weights: dict[str, Tensor] = {}
        self._last: list[Mask] = []

    @torch.no_grad()
    def open(
        self,
        first: ImageEmbedding,
        masks: Mapping[str, Mask] | None = None,
        photo: Photo | None = None,
    ) -> dict[str, Prediction]:
        """See `SequenceSession.open`."""
        found = {}
        for name, method in self._methods.items():
            mask = (masks or {}).get(name)
            if mask is None:
                mask = method.predict_embeddings([first])[0].mask
            self._learn(name, first, mask)
            found[name] = self._prediction(name, first, mask, 1.0, None)
        self._last = [one.mask for one in found.values() if one.mask.any()]
        return found

    @torch.inference_mode()
    def step(self, embedding: ImageEmbedding, photo: Photo | None = None) -> dict[str, Prediction]:
        """See `SequenceSession.step`."""
        names = list(self._methods)[: len(self._last)]
        prompts = {
            n: self._prompts(n, embedding, box) for n, box in zip(names, self._last, strict=True)
        }
        drawn = {name: self._draw(name, embedding, one) for name, one in prompts.items()}
        height, width = embedding.original_size
        planes = [np.zeros((height, width), np.float32), *(logits for logits, _ in drawn.values())]
        labels = np.stack(planes).argmax(axis=0)
        found = {}
        for number, name in enumerate(self._methods):
            mask = labels == number + 1
            score = drawn[name][1] if name in drawn else 0.0
            found[name] = self._prediction(name, embedding, mask, score, prompts.get(name))
        self._last = [one.mask for one in found.values() if one.mask.any()]
        return found

    def follow(
        self,
        embedding: ImageEmbedding,
        answers: Mapping[str, Answer],
        photo: Photo | None = None,
    ) -> None:
        """See `SequenceSession.follow`."""
        masks = {n: a.mask if isinstance(a, Prediction) else a for n, a in answers.items()}
        self._last = [masks[n] for n in self._methods if n in masks and masks[n].any()]

    # ----------------------------------------------------------------------------------------------

    def _learn(self, name: str, first: ImageEmbedding, mask: Mask) -> None:
        method = self._methods[name]
        try:
            cells = prior.released_foreground(self.sam, (mask * MASK_VALUE).astype(np.uint8))
            features = first.to_match.to(self.sam.device).float()
            target = prior.peak_mean_feature(features, cells)
            self._targets[name] = target / target.norm().clamp_min(1e-12)
        except BadReferenceError:  # a small object; the script goes on with NaN
            self._targets[name] = method.state.targets[0]
        if not self._weighted:
            return
        self._weights[name] = torch.full((3,), 1 / 3)
        if mask.any():
            logits = self._decode(first, self._prompts(name, first, mask), grown=True).logits[1:]
            full = self.sam.upscale(logits, first)
            inside = torch.from_numpy(mask).to(full.device)
            tuned = tune_scales([full], [inside], STEPS, LEARNING_RATE)
            self._weights[name] = torch.tensor(tuned.weights)

    def _similarity(self, name: str, frame: ImageEmbedding) -> Tensor:
        features = frame.to_match.to(self.sam.device)[None]
        return prior.similarity_maps(features, self._targets[name][None])[0, 0]

    def _prompts(self, name: str, frame: ImageEmbedding, last: Mask) -> _Prompts:
        enlarged = F.interpolate(
            self._similarity(name, frame)[None, None],
            scale_factor=4,
            mode="bilinear",
            align_corners=False,
        )
        full = self.sam.upscale(enlarged[0], frame)[0]
        flat = full.flatten().topk(POINTS[self._weighted]).indices.cpu().numpy()
        height, width = last.shape
        x0, y0, x1, y1 = box_of(last)
        x0, y0 = max(x0 - GROWN, 0), max(y0 - GROWN, 0)
        x1, y1 = min(x1 + GROWN, width), min(y1 + GROWN, height)
        centre = [(x0 + x1) // 2, (y0 + y1) // 2]
        points = np.concatenate([np.stack([flat % width, flat // width], axis=1), [centre]])
        return _Prompts(points.astype(np.int64), np.array([x0, y0, x1, y1], np.int64))

    def _decode(
        self,
        frame: ImageEmbedding,
        prompts: _Prompts,
        grown: bool = False,
        box: npt.NDArray[np.int64] | None = None,
        mask: Tensor | None = None,
    ) -> Decoded:
        given = prompts.box if grown else box
        return self.sam.decode([Prompt(frame, prompts.points, box=given, mask=mask)])[0]

    def _draw(
        self, name: str, frame: ImageEmbedding, prompts: _Prompts
    ) -> tuple[npt.NDArray[np.float32], float]:
        """(H, W) logits of an object, and their predicted IoU."""
        first = self._decode(frame, prompts, grown=True)
        logits = first.logits[1:]
        box = None
        if self._weighted:
            weights = self._weights[name].to(logits)
            full = torch.einsum("s,shw->hw", weights, self.sam.upscale(logits, frame))
            kept, chosen = full, torch.einsum("s,shw->hw", weights, logits)
            if not (kept > 0).any():
                best = int((first.scores[1:] * weights[0]).argmax())
                kept = self.sam.upscale(logits[best : best + 1], frame)[0]
            box = self._box(kept)
        else:
            masks = self.sam.upscale(logits, frame) > 0
            areas = masks.flatten(1).sum(dim=1).cpu().numpy().astype(np.uint8)  # modulo 256
            largest = int(areas.argmax())
            chosen = logits[largest]
            kept = self.sam.upscale(chosen[None], frame)[0]
        score = float(first.scores[1:].max())
        for further in range(2):
            again = self._decode(frame, prompts, box=box, mask=chosen)
            best = int(again.scores[1:].argmax())
            found = self.sam.upscale(again.logits[1 + best][None], frame)[0]
            if further == 0 and not (found > 0).any():
                break  # the script asks for the box of an empty mask and ends
            kept, chosen, score = found, again.logits[1 + best], float(again.scores[1 + best])
            box = self._box(kept)
        return kept.float().cpu().numpy(), score

    def _box(self, logits: Tensor) -> npt.NDArray[np.int64] | None:
        mask = (logits > 0).cpu().numpy()
        return np.array(box_of(mask), np.int64) if mask.any() else None

    def _prediction(
        self,
        name: str,
        frame: ImageEmbedding,
        mask: Mask,
        score: float,
        prompts: _Prompts | None,
    ) -> Prediction:
        there = bool(mask.any())
        rows, columns = frame.valid_grid
        points = np.zeros((0, 2), np.int64) if prompts is None else prompts.points
        return Prediction(
            mask,
            score,
            float(there),
            self._similarity(name, frame)[:rows, :columns].float().cpu().numpy(),
            points,
            np.ones(len(points), np.int64),
            None if prompts is None else prompts.box,
            STAGE if there else ABSENT,
            1.0,
            mask,
        )
