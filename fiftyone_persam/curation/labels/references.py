"""What a reference is: one labelled photo of one object, or a phrase."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from ...sam.frames import load_frame
from .shapes import LabelPrompt

if TYPE_CHECKING:
    from ...personalize import Reference
    from ...sam import Contrast


@dataclass(frozen=True, eq=False)
class SampleReference:
    """One labelled photo of one object.

    Attributes:
        group: the object's name in ``group_by``; "" without groups.
        dataset: name of the dataset that the sample is in.
        dataset_id: its id, which stays when it is renamed.
        sample_id: the sample.
        label_field: where its label is.
        label_id: which label, where the field holds several.
        mask_value: which value, "#rrggbb" or class of a segmentation mask; None for all of it.
        filepath: the photo.
        name: what the label calls the object, or None.
        prompt: the label's shape.
        stored: the shape as the dataset has it, where the view that was given shows another one.
        text: the phrase that found it, if one did.
        frame: number of the frame in a video, from 1; None for a photo.
    """

    group: str
    dataset: str
    dataset_id: str
    sample_id: str
    label_field: str
    label_id: str | None
    mask_value: int | str | None
    filepath: str
    name: str | None
    prompt: LabelPrompt
    stored: LabelPrompt | None = None
    text: str | None = None
    frame: int | None = None

    def load(self, contrast: Contrast | None = None) -> Reference:
        """The photo and the shape, for `PerSAM.fit`.

        Args:
            contrast: of the object's first reference, for photos of more than 8 bits.
        """
        from ...personalize import Reference

        prompt = self.prompt
        reference = Reference(
            self.filepath if self.frame is None else load_frame(self.filepath, self.frame),
            mask=prompt.mask,
            box=prompt.box,
            points=prompt.points,
            labels=prompt.labels,
            contrast=contrast,
        )
        if prompt.channel is not None:
            reference.channel = prompt.channel
        return reference

    def to_dict(self) -> dict[str, Any]:
        """What a run records about it: plain values, no pixels."""
        return {
            "group": self.group,
            "dataset": self.dataset,
            "dataset_id": self.dataset_id,
            "sample_id": self.sample_id,
            "label_field": self.label_field,
            "label_id": self.label_id,
            "mask_value": self.mask_value,
            "mask_threshold": self.prompt.threshold,
            "filepath": self.filepath,
            "name": self.name,
            "kind": self.prompt.kind,
            "fingerprint": (self.stored or self.prompt).fingerprint(),
            "shown": self.prompt.to_dict() if self.stored is not None else None,
            "text": self.text,
            "frame": self.frame,
        }


@dataclass(frozen=True, eq=False)
class PhraseReference:
    """A phrase that a method looks for in every photo; without a photo or label of its own.

    Attributes:
        text: the phrase.
        dataset: name of the run's dataset.
        group: the object's name where a photo may have several.
    """

    text: str
    dataset: str
    group: str = ""

    sample_id = ""
    label_field = ""
    label_id = None
    mask_value = None
    frame = None
    filepath = ""
    kind = "text"

    @property
    def name(self) -> str:
        """What the object is called."""
        return self.text

    def to_dict(self) -> dict[str, Any]:
        """See `SampleReference.to_dict`."""
        return {
            "group": self.group,
            "sample_id": self.sample_id,
            "label_field": self.label_field,
            "filepath": self.filepath,
            "dataset": self.dataset,
            "name": self.name,
            "kind": self.kind,
            "fingerprint": hashlib.sha256(self.text.encode()).hexdigest(),
            "text": self.text,
        }


AnyReference: TypeAlias = "SampleReference | PhraseReference"
