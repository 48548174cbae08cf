"""The harness: any part is tuned on the reference by the same few rules.

The photo is encoded once; only the decoder runs and is differentiated. Dice and focal loss (paper,
section 3.3), AdamW, a cosine down to 0. One photo is soon learnt by heart, so the part is judged by
other views of it all along, and the values that did best there are kept (early stopping).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ...errors import PersamError
from ...sam import PromptableSam
from ..state import FittedState
from .examples import Examples
from .parts import Part
from .scales import DICE_SMOOTH, FOCAL_ALPHA, WEIGHT_DECAY

LOW = "low"
_VIEWS, _BEST = "tuning.views", "tuning.best"
_AT_ONCE = {"cuda": 16, "cpu": 4}


@dataclass(frozen=True)
class Schedule:
    """How a part is tuned.

    Attributes:
        steps: optimiser steps at most; 0 leaves the first values.
        lr: learning rate of the first step.
        resolution: "low", the loss is taken where the logits are; "original", at the photo's size.
        every: steps between two judgements by other views.
        patience: judgements without progress after which it is enough.
    """

    steps: int
    lr: float
    resolution: str = LOW
    every: int = 5
    patience: int = 4


@dataclass(frozen=True)
class Course:
    """How a tuning went.

    Attributes:
        losses: (step, dice, focal) on the reference before that step, at each judgement and last.
        view_losses: (step, dice + focal) on other views of it; empty without views.
        best_step: how many steps the values that were kept have taken.
    """

    losses: tuple[tuple[int, float, float], ...]
    view_losses: tuple[tuple[int, float], ...]
    best_step: int


def remember(state: FittedState, course: Course) -> FittedState:
    """The state with the course of its tuning, to be saved with it."""
    judged = torch.tensor(course.view_losses, dtype=torch.float64).reshape(-1, 2)
    return replace(
        state,
        losses=torch.tensor(course.losses, dtype=torch.float64).reshape(-1, 3),
        more={**state.more, _VIEWS: judged, _BEST: torch.tensor(course.best_step)},
    )


def course_of(state: FittedState) -> Course:
    """What `remember` kept.

    Raises:
        PersamError: the state has no course of a tuning.
    """
    if state.losses is None:
        raise PersamError("the fitted state has no course of its tuning: fit again")
    rows = tuple((int(step), dice, focal) for step, dice, focal in state.losses.tolist())
    # Earlier versions tuned PerSAM-F alone, and took all steps.
    judged = state.more.get(_VIEWS, torch.zeros(0, 2)).tolist()
    best = int(state.more.get(_BEST, torch.tensor(rows[-1][0] + 1 if rows else 0)))
    return Course(rows, tuple((int(step), loss) for step, loss in judged), best)


def tune_part(
    sam: PromptableSam, part: Part, train: Examples, unseen: Examples | None, schedule: Schedule
) -> Course:
    """Tune a part's parameters in place.

    Args:
        sam: the model; no weight of it changes.
        part: what is tuned.
        train: the references; the loss is their mean.
        unseen: other views of them, to stop by; None takes all steps.
        schedule: how.

    Raises:
        PersamError: the loss is not a number.
    """
    with torch.enable_grad():
        return _Tuner(sam, part, schedule).run(train, unseen)


def losses_of(logits: Tensor, targets: Tensor, inside: Tensor) -> tuple[Tensor, Tensor]:
    """Dice and focal loss of each of (B, h, w) logits, over the pixels ``inside``: two of (B,)."""
    weight = inside.float()
    probability = torch.sigmoid(logits) * weight
    overlap = (probability * targets).sum(dim=(1, 2))
    total = probability.sum(dim=(1, 2)) + targets.sum(dim=(1, 2))
    dice = 1 - (2 * overlap + DICE_SMOOTH) / (total + DICE_SMOOTH)
    cross = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    right = torch.exp(-cross)
    balance = FOCAL_ALPHA * targets + (1 - FOCAL_ALPHA) * (1 - targets)
    focal = (balance * (1 - right) ** 2 * cross * weight).sum(dim=(1, 2)) / weight.sum(dim=(1, 2))
    return dice, focal


class _Tuner:
    def __init__(self, sam: PromptableSam, part: Part, schedule: Schedule) -> None:
        self.sam = sam
        self.part = part
        self.schedule = schedule
        self.model = part.decoder(sam.in_full_precision())
        self.at_once = _AT_ONCE.get(sam.device.type, 4)
        self.decoded: dict[int, list[Tensor]] = {}

    def run(self, train: Examples, unseen: Examples | None) -> Course:
        schedule, parameters = self.schedule, list(self.part.parameters())
        optimiser = torch.optim.AdamW(parameters, lr=schedule.lr, weight_decay=WEIGHT_DECAY)
        cosine = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: (1 + math.cos(math.pi * step / max(schedule.steps, 1))) / 2
        )
        losses: list[tuple[int, float, float]] = []
        judged: list[tuple[int, float]] = []
        best, best_step, kept = math.inf, 0, self._values()
        for step in range(schedule.steps + 1):
            last = step == schedule.steps
            if unseen is not None and (step % schedule.every == 0 or last):
                judged.append((step, sum(self._loss(unseen, gradient=False))))
                if judged[-1][1] < best:
                    best, best_step, kept = judged[-1][1], step, self._values()
                elif step - best_step >= schedule.patience * schedule.every:
                    break
            if last:
                losses.append((step, *self._loss(train, gradient=False)))
                break
            optimiser.zero_grad(set_to_none=True)
            dice, focal = self._loss(train, gradient=True)
            if not math.isfinite(dice + focal):
                raise PersamError(
                    f"the loss is not a number after {step} steps: use a smaller lr than "
                    f"{schedule.lr:g}"
                )
            if step % schedule.every == 0:
                losses.append((step, dice, focal))
            optimiser.step()
            cosine.step()
        if unseen is None:
            best_step = schedule.steps
        else:
            with torch.no_grad():
                for parameter, value in zip(parameters, kept, strict=True):
                    parameter.copy_(value)
        return Course(tuple(losses), tuple(judged), best_step)

    def _values(self) -> list[Tensor]:
        return [parameter.detach().clone() for parameter in self.part.parameters()]

    def _loss(self, examples: Examples, gradient: bool) -> tuple[float, float]:
        """Mean dice and focal loss; adds up gradients a few photos at a time."""
        dice = focal = 0.0
        with torch.set_grad_enabled(gradient):
            for number, chunk in enumerate(examples.chunks(self.at_once)):
                logits = self.part.read(self._decoded(examples, number, chunk))
                dices, focals = self._measure(logits, chunk)
                total = (dices + focals).sum() / len(examples)
                if gradient:
                    total.backward()
                dice += dices.sum().item() / len(examples)
                focal += focals.sum().item() / len(examples)
        return dice, focal

    def _measure(self, logits: Tensor, chunk: Examples) -> tuple[Tensor, Tensor]:
        if self.schedule.resolution == LOW:
            return losses_of(logits, chunk.targets, chunk.inside)
        pairs = []
        for row, embedding, mask in zip(logits, chunk.embeddings, chunk.masks, strict=True):
            whole = self.sam.upscale(row[None], embedding)
            target = torch.from_numpy(mask).to(whole.device, torch.float32)[None]
            pairs.append(losses_of(whole, target, torch.ones_like(target, dtype=torch.bool)))
        dices, focals = zip(*pairs, strict=True)
        return torch.cat(dices), torch.cat(focals)

    def _decoded(self, examples: Examples, number: int, chunk: Examples) -> Tensor:
        if not self.part.constant:
            return chunk.decode(self.model)
        kept = self.decoded.setdefault(id(examples), [])
        if len(kept) <= number:
            with torch.no_grad():
                kept.append(chunk.decode(self.model))
        return kept[number]
