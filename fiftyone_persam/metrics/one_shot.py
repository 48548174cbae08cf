"""Scores of one-shot semantic segmentation: intersections and unions are summed by class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from ..errors import PersamError
from .masks import as_mask_pair


@dataclass(frozen=True)
class OneShotScores:
    """Scores of one fold.

    Attributes:
        classes: class -> IoU, 0 to 1: sum of intersections over sum of unions of its episodes.
        miou: mean over the classes that had an episode, 0 to 1.
        fb_iou: mean of foreground IoU and background IoU, each summed over all episodes, 0 to 1.
        episodes: how many episodes went in.
    """

    classes: Mapping[str, float]
    miou: float
    fb_iou: float
    episodes: int


class OneShotAccumulator:
    """Collects episodes one by one (HSNet's protocol, as Matcher and PerSAM's table 3 use it)."""

    def __init__(self) -> None:
        self._overlap: dict[str, np.ndarray] = {}  # (2,) intersections, unions: foreground
        self._background = np.zeros(2, np.int64)
        self._episodes = 0

    def update(self, name: str, pred: ArrayLike, gt: ArrayLike) -> None:
        """Add one episode.

        Args:
            name: its class.
            pred: (H, W) predicted mask.
            gt: (H, W) ground truth of the same size.

        Raises:
            PersamError: not masks, or sizes that differ.
        """
        predicted, truth = as_mask_pair(pred, gt, ("pred", "gt"))
        both = int(np.count_nonzero(predicted & truth))
        either = int(np.count_nonzero(predicted | truth))
        counts = self._overlap.setdefault(str(name), np.zeros(2, np.int64))
        counts += (both, either)
        self._background += (truth.size - either, truth.size - both)
        self._episodes += 1

    def compute(self) -> OneShotScores:
        """The scores so far.

        Raises:
            PersamError: there was no episode.
        """
        if not self._episodes:
            raise PersamError("there was no episode: call update first")
        classes = {
            name: float(both / max(either, 1)) for name, (both, either) in self._overlap.items()
        }
        pooled = np.sum(list(self._overlap.values()), axis=0)
        sides = [both / max(either, 1) for both, either in (pooled, self._background)]
        miou = math.fsum(classes.values()) / len(classes)
        return OneShotScores(classes, miou, float(np.mean(sides)), self._episodes)
