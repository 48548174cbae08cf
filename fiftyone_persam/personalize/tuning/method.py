"""The base of the methods that tune a part of the decoding on the reference."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from segment_anything.modeling import Sam
from torch import Tensor

from ...errors import CheckpointError, PersamError
from ...options import Option, check_values
from ...sam import Promptable, PromptableSam
from ..cascade_method import CascadeMethod
from ..cascade_options import Mode
from ..location import ReferenceView
from ..method import Effort
from ..state import FittedState
from .examples import located, other_views
from .harness import Course, Schedule, course_of, remember, tune_part
from .parts import Part, decoding_with

TUNED = "tuned."
"""Begins the names of a part's values among what is saved."""

_STEP_WITHOUT_DECODER = 0.005  # seconds

TunedPasses = Annotated[
    Literal["first", "all"],
    Option("passes that decode with what was tuned; the frozen decoder refines after the first"),
]
Self = TypeVar("Self", bound="TunedMethod")

Steps = Annotated[
    int,
    Option(
        "optimiser steps at most",
        low=0,
        high=100_000,
        advice="use {default}, or from 0 to 100000",
    ),
]
LearningRate = Annotated[
    float,
    Option(
        "learning rate of the first step",
        low=0,
        high=1,
        above=True,
        advice="use {default}, or another above 0 and at most 1",
    ),
]
Views = Annotated[
    int,
    Option(
        "other views of each reference (mirrored, cut, lit) by which tuning stops; 0 takes all "
        "steps",
        low=0,
        high=64,
        advice="give 0 to 64",
    ),
]
Resolution = Annotated[
    Literal["low", "original"],
    Option("where the loss is taken: at the logits, or at the photo's own size as released"),
]
Seed = Annotated[
    int,
    Option(
        "of the first values and of the views; the same one gives the same result",
        low=0,
        high=2**31 - 1,
        advice="give a whole number from 0",
    ),
]


class TunedMethod(CascadeMethod):
    """A `CascadeMethod` that tunes a part on the references before it segments.

    A subclass gives a `part`, and its options in a constructor that hands on all others. Which
    prompts and guidance the part is tuned with are those that it segments with: each option of
    `PerSAM` can be combined with it.

    Args:
        sam: from `load_sam`, or a ``segment_anything.modeling.Sam``.
        mode: as in `PerSAM`.
        steps: optimiser steps at most; 0 leaves the first values.
        lr: learning rate of the first step.
        views: other views of each reference, encoded in one batch, by whose loss tuning stops; 0
            takes all steps.
        resolution: "low", the loss is taken at the logits' resolution; "original", at the photo's.
        seed: of the part's first values and of the views.
        tuned_passes: which passes decode with the part, the "first" or "all".
        options: as in `PerSAM`.

    Raises:
        PersamError: an option out of its range, or a model that cannot be tuned.
    """

    sam: PromptableSam

    decodes_once: ClassVar[bool] = False
    """Whether the part is `Part.constant`."""

    def __init__(
        self,
        sam: PromptableSam | Sam,
        mode: Mode = "corrected",
        *,
        steps: Steps = 100,
        lr: LearningRate = 1e-3,
        views: Views = 4,
        resolution: Resolution = "low",
        seed: Seed = 0,
        tuned_passes: TunedPasses = "first",
        **options: Any,
    ) -> None:
        given = {
            "steps": steps,
            "lr": lr,
            "views": views,
            "resolution": resolution,
            "seed": seed,
            "tuned_passes": tuned_passes,
        }
        check_values(self.options(), given)
        super().__init__(sam, mode, **options)
        if not isinstance(self.sam, PromptableSam):
            raise PersamError(
                f"{self.title} tunes segment-anything's decoder, which {self.sam.name} has not: "
                "use method='persam'"
            )
        self.steps = int(steps)
        self.lr = float(lr)
        self.views = int(views)
        self.resolution = resolution
        self.seed = int(seed)
        self.tuned_passes = tuned_passes
        self._decoder: tuple[FittedState, Promptable, Part] | None = None

    @abstractmethod
    def part(self, generator: torch.Generator) -> Part:
        """What is tuned, with its first values; random ones come from the generator."""

    # ----------------------------------------------------------------------------------------------

    @property
    def course(self) -> Course:
        """How the tuning went.

        Raises:
            PersamError: nothing has been fitted yet.
        """
        return course_of(self.state)

    @property
    def parameters(self) -> int:
        """How many numbers are tuned."""
        return self.part(torch.Generator()).size

    @classmethod
    def effort(cls) -> Effort:
        """All steps, and the judgements between them."""
        defaults = {option.name: option.default for option in cls.options()}
        steps, views = defaults["steps"], defaults["views"]
        judgements = steps // Schedule.every + 1
        if cls.decodes_once:
            return Effort(passes=1 + views, photos=views, seconds=steps * _STEP_WITHOUT_DECODER)
        return Effort(steps, judgements * views, views)

    def tune(
        self,
        state: FittedState,
        views: Sequence[ReferenceView],
        masks: Sequence[npt.NDArray[np.bool_]],
    ) -> FittedState:
        """Tune the part on every reference; stop by other views of them."""
        part = self.part(torch.Generator().manual_seed(self.seed)).to(self.sam.device)
        train = located(self, state, [v.embedding for v in views], masks, range(len(views)))
        part.start(self.sam, train, state)
        wanted = self.views if self.steps else 0
        unseen = other_views(self, state, views, masks, wanted, self.seed)
        schedule = Schedule(self.steps, self.lr, self.resolution)
        course = tune_part(self.sam, part, train, unseen, schedule)
        values = {TUNED + name: value.detach() for name, value in part.state_dict().items()}
        return remember(replace(state, more={**state.more, **values}), course)

    def decoder(self) -> Promptable:
        """The model as it decodes with the tuned part, by default in the first pass alone.

        The frozen decoder was trained to mend any mask, and the part was tuned to one photo: on
        both albums the frozen one refines better (`benchmarks/TUNING.md`).
        """
        tuned = self._tuned()[1]
        if self.tuned_passes == "all":
            return tuned

        def decode(*given: Any, **named: Any) -> tuple[Tensor, Tensor]:
            model = tuned if named.get("masks") is None else self.sam
            return model.decode_tensors(*given, **named)

        return decoding_with(self.sam, decode)

    @classmethod
    def from_state(
        cls: type[Self], sam: Any, state: Mapping[str, Tensor], settings: Mapping[str, Any]
    ) -> Self:
        """See `Method.from_state`."""
        loaded = super().from_state(sam, state, settings)
        loaded._tuned()  # fails here rather than at the first photo
        return loaded

    def tuned_part(self) -> Part:
        """The part with its tuned values."""
        return self._tuned()[2]

    def _tuned(self) -> tuple[FittedState, Promptable, Part]:
        state, made = self.state, self._decoder
        if made is None or made[0] is not state:
            part = self.part(torch.Generator()).to(self.sam.device).requires_grad_(False)
            values = {
                name.removeprefix(TUNED): value
                for name, value in state.more.items()
                if name.startswith(TUNED)
            }
            try:
                part.load_state_dict(values)
            except RuntimeError:
                raise CheckpointError(
                    f"has other tuned values than {self.title} with these options: fit again"
                ) from None
            made = self._decoder = (state, part.decoder(self.sam), part)
        return made
