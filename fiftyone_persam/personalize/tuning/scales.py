"""PerSAM-F's tuning of the three mask scales (paper, eq. 11).

The loss (dice + focal) depends on two numbers, w1 and w2, through fixed logit maps: the decoder
runs once. Even so 1000 optimiser steps over a photo's every pixel are slow, and needless: the loss
is smooth, and the weights move by at most the learning rate per step. So the steps are taken on a
Taylor expansion of the loss, of fourth order and over all pixels, which is renewed at the new
weights after each short stretch. The renewal also measures the error of the old expansion's
gradient; where it is not negligible the stretch is thrown away and repeated in shorter ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Vector = npt.NDArray[np.float64]
Pair = tuple[float, float]

FOCAL_ALPHA = 0.25
DICE_SMOOTH = 1.0
ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-4
WEIGHT_DECAY = 0.01

_ORDER = 4
# Exponents of (w1 - anchor, w2 - anchor), by total order.
_POWERS = [(m - j, j) for m in range(_ORDER + 1) for j in range(m + 1)]
_PIXELS_AT_ONCE = {"cuda": 1 << 22, "cpu": 1 << 15}
_TOLERANCE = 1e-3  # of the gradient; moves the weights by about 1e-5
_FIRST_REACH = 0.05
_REACH_LIMITS = (0.002, 0.3)
_SMALLEST = 1e-37  # probability of a logit of -85, which no mask has


@dataclass(frozen=True)
class Tuning:
    """Result of the tuning.

    Attributes:
        weights: of the three scales in the decoder's order, summing to 1.
        losses: (step, dice, focal) before every hundredth step and before the last.
        path: (steps taken, weights) on the way, where it was asked for.
    """

    weights: tuple[float, float, float]
    losses: tuple[tuple[int, float, float], ...]
    path: tuple[tuple[int, tuple[float, float, float]], ...] = ()


def tune_scales(
    logits: Sequence[Tensor],
    targets: Sequence[Tensor],
    steps: int = 1000,
    lr: float = 1e-3,
    every: int = 0,
) -> Tuning:
    """Tune the weights of the mask scales on one or more reference photos.

    AdamW (eps 1e-4, weight decay 0.01) with cosine annealing to 0; w1 = w2 = 1/3 at the start.

    Args:
        logits: per reference (3, H, W).
        targets: per reference (H, W) bool. The loss is the mean over references.
        steps: number of optimiser steps; 0 leaves the weights at 1/3.
        lr: learning rate of the first step.
        every: remember the weights after each so many steps; 0 remembers none.
    """
    pixels = [_Pixels.of(maps, target) for maps, target in zip(logits, targets, strict=True)]
    weights = (1 / 3, 1 / 3)
    optimiser = _AdamW(steps, lr)
    expansion = _Expansion.at(weights, pixels)
    losses: list[tuple[int, float, float]] = []
    path = {0: weights}
    reach = _FIRST_REACH
    while optimiser.step < steps:
        saved, start, kept = optimiser.copy(), weights, len(losses)
        while optimiser.step < steps and _apart(weights, expansion.anchor) < reach:
            dice, focal, gradient = expansion.loss(weights)
            if optimiser.step % 100 == 0 or optimiser.step == steps - 1:
                losses.append((optimiser.step, dice, focal))
            weights = optimiser.update(weights, gradient)
            if every and (optimiser.step % every == 0 or optimiser.step == steps):
                path[optimiser.step] = weights  # written again where a stretch is repeated
        renewed = _Expansion.at(weights, pixels)
        exact, approximate = renewed.loss(weights)[2], expansion.loss(weights)[2]
        error = _apart(exact, approximate) / max(_apart(exact, (0.0, 0.0)), ADAM_EPS)
        if error > _TOLERANCE and reach > _REACH_LIMITS[0]:
            optimiser, weights, losses = saved, start, losses[:kept]
            reach = max(reach / 2, _REACH_LIMITS[0])
            continue
        if error < _TOLERANCE / 3:
            reach = min(reach * 1.5, _REACH_LIMITS[1])
        expansion = renewed
    passed = tuple((step, _three(there)) for step, there in path.items()) if every else ()
    return Tuning(_three(weights), tuple(losses), passed)


def _apart(one: Pair, other: Pair) -> float:
    return max(abs(one[0] - other[0]), abs(one[1] - other[1]))


def _three(weights: Pair) -> tuple[float, float, float]:
    w1, w2 = weights
    return 1 - w1 - w2, w1, w2


@dataclass
class _AdamW:
    """AdamW with decoupled weight decay and cosine annealing, on two numbers in float64.

    Plain numbers: NumPy takes longer to be called than two multiplications take.
    """

    steps: int
    lr: float
    step: int = 0
    mean: Pair = (0.0, 0.0)
    square: Pair = (0.0, 0.0)

    def copy(self) -> _AdamW:
        return _AdamW(self.steps, self.lr, self.step, self.mean, self.square)

    def update(self, weights: Pair, gradient: Pair) -> Pair:
        lr = self.lr * (1 + math.cos(math.pi * self.step / self.steps)) / 2
        self.step += 1
        first, second = ADAM_BETAS
        left1, left2 = 1 - first**self.step, 1 - second**self.step
        means, squares, moved = [], [], []
        for weight, slope, mean, square in zip(
            weights, gradient, self.mean, self.square, strict=True
        ):
            mean = first * mean + (1 - first) * slope
            square = second * square + (1 - second) * slope**2
            spread = math.sqrt(square / left2) + ADAM_EPS
            moved.append(weight * (1 - lr * WEIGHT_DECAY) - lr * mean / left1 / spread)
            means.append(mean)
            squares.append(square)
        self.mean, self.square = (means[0], means[1]), (squares[0], squares[1])
        return moved[0], moved[1]


@dataclass(frozen=True)
class _Pixels:
    """One reference's logits: base (n,), and slopes (2, n) along w1 and w2, object pixels first."""

    base: Tensor
    slopes: Tensor
    positives: int

    @classmethod
    def of(cls, logits: Tensor, target: Tensor) -> _Pixels:
        flat, inside = logits.float().flatten(1), target.flatten()
        ordered = torch.cat([flat[:, inside], flat[:, ~inside]], dim=1)
        return cls(ordered[0], ordered[1:] - ordered[0], int(inside.sum()))


@dataclass(frozen=True)
class _Expansion:
    """Taylor coefficients of the sums that the loss is made of.

    Attributes:
        anchor: weights it was made at.
        rows: (9 R, terms), nine for each of R references: sigmoid over object pixels, sigmoid over
            all pixels and the mean focal loss; their derivatives along w1; and along w2.
        positives: per reference the number of object pixels.
    """

    anchor: Pair
    rows: Vector
    positives: list[int]

    @classmethod
    def at(cls, anchor: Pair, references: Sequence[_Pixels]) -> _Expansion:
        rows = []
        for pixels in references:
            total = len(pixels.base)
            inside = _moments(pixels, anchor, 0, pixels.positives, sign=1.0)
            outside = _moments(pixels, anchor, pixels.positives, total, sign=-1.0)
            focal = FOCAL_ALPHA * inside[1] + (1 - FOCAL_ALPHA) * outside[1]
            sums = np.stack([inside[0], inside[0] + outside[0], focal / total])
            rows += [sums, sums @ _ALONG[0], sums @ _ALONG[1]]
        return cls(anchor, np.concatenate(rows), [pixels.positives for pixels in references])

    def loss(self, weights: Pair) -> tuple[float, float, Pair]:
        """Dice and focal loss and the gradient of their sum, means over the references."""
        a, b = weights[0] - self.anchor[0], weights[1] - self.anchor[1]
        values = (self.rows @ _terms(a, b)).tolist()
        dice = focal = along1 = along2 = 0.0
        for number, positives in enumerate(self.positives):
            inside, every, focal_mean, *slopes = values[9 * number : 9 * number + 9]
            numerator = 2 * inside + DICE_SMOOTH
            denominator = every + positives + DICE_SMOOTH
            dice += 1 - numerator / denominator
            focal += focal_mean
            ratio = numerator / denominator**2
            along1 += slopes[1] * ratio - 2 * slopes[0] / denominator + slopes[2]
            along2 += slopes[4] * ratio - 2 * slopes[3] / denominator + slopes[5]
        count = len(self.positives)
        return dice / count, focal / count, (along1 / count, along2 / count)


def _terms(a: float, b: float) -> Vector:
    """Monomials of the expansion at an offset from its anchor."""
    first = [1.0, a, a * a, a**3, a**4]
    second = [1.0, b, b * b, b**3, b**4]
    return np.array([first[i] * second[j] for i, j in _POWERS])


def _derivatives() -> tuple[Vector, Vector]:
    """Matrices that take coefficients of a polynomial to those of its slopes along w1 and w2."""
    along1, along2 = (np.zeros((len(_POWERS), len(_POWERS))) for _ in range(2))
    for row, (i, j) in enumerate(_POWERS):
        if i:
            along1[row, _POWERS.index((i - 1, j))] = i
        if j:
            along2[row, _POWERS.index((i, j - 1))] = j
    return along1, along2


_ALONG = _derivatives()


def _moments(
    pixels: _Pixels, anchor: Pair, start: int, stop: int, sign: float
) -> npt.NDArray[np.float64]:
    """(2, terms) Taylor coefficients of sum(sigmoid(z)) and sum(focal(sign * z)) over a range."""
    device = pixels.base.device
    step = _PIXELS_AT_ONCE.get(device.type, 1 << 15)
    total = np.zeros((2, len(_POWERS)))  # in float64, which MPS has not
    w1, w2 = anchor
    for begin in range(start, stop, step):
        end = min(begin + step, stop)
        d1, d2 = pixels.slopes[0, begin:end], pixels.slopes[1, begin:end]
        z = pixels.base[begin:end] + w1 * d1 + w2 * d2
        p, q = torch.sigmoid(z), torch.sigmoid(-z)
        sigmoids = _sigmoid_derivatives(p, q)
        focals = _focal_derivatives(*((p, q) if sign > 0 else (q, p)))
        parts = []
        products = [torch.ones_like(z)]  # d1^(m-j) d2^j of the current order m
        for order in range(_ORDER + 1):
            if order:
                products = [p * d1 for p in products] + [products[-1] * d2]
            pair = torch.stack([sigmoids[order], focals[order] * sign**order])
            for j, product in enumerate(products):
                factor = math.factorial(order - j) * math.factorial(j)
                parts.append((pair @ product) / factor)
        total += torch.stack(parts, dim=1).cpu().double().numpy()
    return total


def _sigmoid_derivatives(p: Tensor, q: Tensor) -> list[Tensor]:
    """The sigmoid p and its first four derivatives; q = 1 - p."""
    u = p * q
    odd = 1 - 2 * p
    return [p, u, u * odd, u * (1 - 6 * u), u * odd * (1 - 12 * u)]


def _focal_derivatives(p: Tensor, q: Tensor) -> list[Tensor]:
    """(1 - p)^2 * -log(p) with p = sigmoid(y), and its first four derivatives; q = 1 - p."""
    log = -torch.log(p.clamp_min(_SMALLEST))
    # With p' = pq, q' = -pq and log' = -q. From the second derivative on all share the factor
    # a = p q^2, whose own derivative is a (1 - 3p), times b = (6p - 2) log + 5q.
    pq = p * q
    a = pq * q
    b = (6 * p - 2) * log + 5 * q
    b1 = 6 * pq * log - 11 * pq + 2 * q
    b2 = pq * (6 * (q - p) * log - 6 * q - 11 * (q - p) - 2)
    c = 1 - 3 * p
    third = c * b + b1
    fourth = c * third + c * b1 + b2 - 3 * pq * b
    return [q * q * log, -2 * a * log - q * q * q, a * b, a * third, a * fourth]
