"""A run that may begin: everything that was given has been checked, nothing is written yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...engine.job import OutputSettings, PhotoTask, Predictor
from ...engine.writing import MASK_VALUE
from ..frame_store import FrameStore
from ..labels.references import AnyReference
from ..runs import folders
from ..runs.fields import RunFields
from ..runs.record import Parameters
from ..runs.several import most_of, numbers_of, values_of
from .sequences import NewFrames

if TYPE_CHECKING:
    from ...sam import PromptableSam
    from ..labels.references import SampleReference
    from .marking import Mark

OBJECT = "object"


@dataclass
class Plan:
    """A run that may begin.

    Attributes:
        dataset: the dataset.
        samples: the photos of the call, as they were given.
        name: the run's name.
        exists: whether the run is there already and goes on.
        method: a name in `METHODS`.
        sam: the model.
        parameters: see `Parameters`.
        references: at least one per object.
        tasks: the photos to segment, object by object.
        ids: every photo of the call, also those that are skipped.
        overwrite: whether results that are there are cleared first.
        masks_dir: the folder of mask files.
        run_id: marks the folder.
        marks: labels that phrases have found, or reviews rejected; written when the run begins.
        negatives: what the objects are not.
        new_frames: what the dataset does not know of its videos yet.
        labelled: see `Job`.
        predictors: fitted, by object; none before `fitting.learn`.
        fitting: seconds that learning the objects took.
        tag: part of the names of this call's files.
    """

    dataset: Any
    samples: Any
    name: str
    exists: bool
    method: str
    sam: PromptableSam
    parameters: Parameters
    references: Sequence[AnyReference]
    tasks: list[PhotoTask]
    ids: list[str]
    overwrite: bool
    masks_dir: Path
    run_id: str
    marks: Sequence[Mark] = ()
    negatives: Sequence[SampleReference] = ()
    new_frames: NewFrames | None = None
    labelled: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    predictors: dict[str, Predictor] = field(default_factory=dict)
    fitting: float = 0.0
    tag: str = ""

    def __post_init__(self) -> None:
        # Never over a file that is there: a copy of a field, or another dataset, may name it.
        if self.exists or folders.has_masks(self.masks_dir):
            self.tag = folders.new_tag()

    @property
    def fields(self) -> RunFields:
        """The fields to write."""
        p = self.parameters
        beside = (p.similarity, p.prompts, tuple(p.objects), p.compare_photos)
        return RunFields(self.name, p.label_type, *beside)

    @property
    def targets(self) -> dict[int, str]:
        """What each value of the masks means."""
        if self.parameters.objects:
            return values_of(self.parameters.objects)
        if self.numbered:
            name = OBJECT if self.parameters.group_by else self.object_name("")
            return numbers_of(name, most_of(self.parameters.options))
        return {MASK_VALUE: OBJECT if self.parameters.group_by else self.object_name("")}

    @property
    def numbered(self) -> bool:
        """Whether what was found of one object has the values 1, 2, ... in masks of photos."""
        p = self.parameters
        in_turn = p.sequence_field is not None or isinstance(self.dataset, FrameStore)
        return most_of(p.options) > 1 and not p.objects and not in_turn

    @property
    def output(self) -> OutputSettings:
        """What the engine keeps of a prediction."""
        p = self.parameters
        return OutputSettings(
            masks_dir=self.masks_dir,
            storage=p.mask_storage,
            whole=self.fields.masks is not None,
            instances=self.fields.instances is not None,
            similarity=p.similarity,
            prompts=p.prompts,
            presence_threshold=p.presence_threshold or 0.0,
            tag=self.tag,
            objects=tuple(p.objects),
            numbered=self.numbered,
        )

    def object_name(self, group: str) -> str:
        """What instances of an object are called."""
        if group:
            return group
        return next((r.name for r in self.references if r.name), "object")
