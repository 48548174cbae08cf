"""Where the objects of a photo come from, beside what the location prior leads to.

A method that decodes in passes finds the strongest object by its location prior. A source of
candidates says what else may be the object: "repeat" looks where the prior has not led yet (see
`instances`); "proposals" ranks whatever is in the photo by its likeness to the reference, which
answers "absent" at the same time (see `ranked_proposals`). A further source is a class like these,
registered in `CANDIDATES`. `benchmarks.candidates` measures them against each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from . import prior
from .instances import find_instances
from .prediction import Prediction

if TYPE_CHECKING:
    from ..sam import Promptable
    from .appearance import Appearance
    from .cascade import PriorBatch
    from .location import ReferenceView
    from .state import FittedState


@dataclass(frozen=True, eq=False)
class Scenes:
    """B photos in which the location prior has led to an object.

    Attributes:
        sam: the model, as it decodes with what was tuned.
        batch: the photos and their location priors.
        valid: (B, h, w) bool, the photos' cells.
        best: (B,) the reference that fits each photo best.
        first: (B,) what the location prior has led to.
        state: what is known of the object.
        learned: what the source's `learn` returned.
        limit: objects per photo, at most.
        threshold: presence below which an object counts as absent.
        again: rows of the batch and their (n, h, w) bool blocked cells -> n predictions whose
            location prior avoids the blocked cells.
        negatives: appearance of what the object is not, if anything is known.
    """

    sam: Promptable
    batch: PriorBatch
    valid: Tensor
    best: Tensor
    first: Sequence[Prediction]
    state: FittedState
    learned: Mapping[str, Tensor]
    limit: int
    threshold: float
    again: Callable[[list[int], Tensor], list[Prediction]]
    negatives: Appearance | None = None


class CandidateSource(Protocol):
    """Finds what may be the object.

    Attributes:
        name: what it is called.
        help: one sentence, without a full stop.
        always: whether it has a say where a single object is wanted, too.
    """

    name: ClassVar[str]
    help: ClassVar[str]
    always: ClassVar[bool]

    def check(self, sam: Promptable) -> None:
        """Raise PersamError for a model that it cannot work with."""
        ...

    def learn(
        self,
        sam: Promptable,
        views: Sequence[ReferenceView],
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> dict[str, Tensor]:
        """What it has to remember of the references, by name; saved with the method."""
        ...

    def find(self, scenes: Scenes) -> list[Prediction]:
        """(B,) predictions; several objects of a photo are merged by `instances.merge`."""
        ...


class RepeatedSearch:
    """Suppress what was found, and look again."""

    name = "repeat"
    help = "take out what was found, and locate the object again in what is left"
    always = False

    def check(self, sam: Promptable) -> None:
        """Any model will do."""

    def learn(
        self,
        sam: Promptable,
        views: Sequence[ReferenceView],
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> dict[str, Tensor]:
        """Nothing more than every method does."""
        return {}

    def find(self, scenes: Scenes) -> list[Prediction]:
        """See `CandidateSource.find`."""
        return find_instances(
            scenes.first,
            scenes.batch.similarity,
            scenes.valid,
            scenes.state.levels[scenes.best],
            scenes.limit,
            scenes.again,
            lambda row, mask: prior.mask_coverage(scenes.sam, mask, scenes.batch.embeddings[row]),
        )
