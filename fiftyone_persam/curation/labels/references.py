"""From FiftyOne labels to references: which photo, which label, and how they are named."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence, Set, ValuesView
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import fiftyone as fo
import numpy as np
from bson import ObjectId

from ...errors import BadReferenceError, PersamError
from ...sam.frames import load_frame
from ..database import is_grouped_by_field, with_all_fields, within_limits
from ..fiftyone_api import dataset_id, dataset_of_sample, photo_of_patch
from .pixels import plain_value, targets_of
from .shapes import LabelPrompt, label_prompt, only_label
from .video_frames import (
    LabelledFrame,
    frame_choice,
    frame_field,
    frame_of_patch,
    frame_of_view,
    is_frame_choice,
)

if TYPE_CHECKING:
    from ...personalize import Reference
    from ...sam import Contrast

_PATCHES = (fo.core.patches.PatchView, fo.core.patches.EvaluationPatchView)
_LISTS = (Sequence, Set, ValuesView, Iterator, np.ndarray)
_HOW = "give a sample, its id, a (sample, label id) pair, or a view of labelled samples"


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


def resolve_photos(dataset: Any, reference: Any) -> list[Any]:
    """The samples that a ``reference`` argument means, whatever labels they have.

    Raises:
        BadReferenceError: there is no such sample.
    """
    found = [choice[0] for choice in _choices(dataset, reference) if isinstance(choice, tuple)]
    if not found:
        raise BadReferenceError(f"the reference is empty: {_HOW}")
    return [photo_of_patch(one) if isinstance(one, _PATCHES) else one for one in found]


def label_choices(dataset: Any, reference: Any) -> list[Any]:
    """What a ``reference`` argument means: (sample, label id or None) pairs, or found references.

    Raises:
        BadReferenceError: there is no such sample.
    """
    found = list(_choices(dataset, reference))
    if not found:
        raise BadReferenceError(f"the reference is empty: {_HOW}")
    return found


def resolve_references(
    dataset: Any,
    reference: Any,
    label_field: str = "ground_truth",
    group_by: str | None = None,
    mask_value: int | str | None = None,
) -> list[Any]:
    """Find the photos and labels that a ``reference`` argument means.

    Args:
        dataset: where ids are looked up.
        reference: a sample, a sample id, a (sample or id, label id) pair, a dataset or view of
            labelled samples, what an earlier call returned, or several of these in a list, set,
            array or generator. Ids are texts or ``ObjectId``.
        label_field: the samples' label field.
        group_by: field that names each sample's object.
        mask_value: which value of segmentation masks is the object: an integer, "#rrggbb" for
            colours, or a class's name in ``mask_targets``; None for everything that is not
            background, where that is one class.

    Returns:
        At least one, in the given order: `SampleReference`, or the `PhraseReference` given.

    Raises:
        BadReferenceError: no such sample, field or label, an empty or unreadable label, several
            instances and none chosen.
        PhotoError: a reference photo cannot be read.
    """
    found = [
        choice
        if isinstance(choice, (SampleReference, PhraseReference))
        else _resolve(*choice, label_field, group_by, mask_value)
        for choice in _choices(dataset, reference)
    ]
    if not found:
        raise BadReferenceError(f"the reference is empty: {_HOW}")
    return found


# ----------------------------------------------------------------------------------------------


def _choices(dataset: Any, reference: Any) -> Iterator[tuple[Any, str | None] | AnyReference]:
    if isinstance(reference, (SampleReference, PhraseReference)):
        yield reference
    elif isinstance(reference, LabelledFrame):
        yield reference, None
    elif isinstance(reference, fo.core.video.FrameView):
        yield frame_of_view(reference), None
    elif is_frame_choice(reference):
        yield frame_choice(dataset, reference)
    elif isinstance(reference, (fo.Sample, fo.core.sample.SampleView)):
        if not reference.in_dataset:
            raise BadReferenceError(
                f"the reference {Path(reference.filepath).name} is in no dataset: add it first"
            )
        yield reference, None
    elif isinstance(reference, (str, ObjectId)):
        yield _by_id(dataset, str(reference)), None
    elif isinstance(reference, fo.core.collections.SampleCollection):
        yield from ((sample, None) for sample in _look_through(_labelled(reference)))
    elif _is_pair(dataset, reference):
        for choice in _choices(dataset, reference[0]):
            if isinstance(choice, (SampleReference, PhraseReference)):
                raise BadReferenceError(f"a (reference, label id) pair is not a reference: {_HOW}")
            yield choice[0], str(reference[1])
    elif isinstance(reference, _LISTS):
        # A set has no order of its own, and a run must be one that can be made again.
        listed = reference.ravel().tolist() if isinstance(reference, np.ndarray) else reference
        for item in sorted(listed, key=str) if isinstance(listed, Set) else listed:
            if isinstance(item, fo.core.collections.SampleCollection):
                raise BadReferenceError(f"a view inside a list of references: {_HOW}")
            yield from _choices(dataset, item)
    else:
        raise BadReferenceError(f"{type(reference).__name__} is not a reference: {_HOW}")


def _labelled(samples: Any) -> Any:
    """The samples of a reference's view, with all fields; patches stay what they are."""
    if isinstance(samples, fo.Dataset):
        return samples
    whole = within_limits(with_all_fields(samples))
    return whole.flatten() if is_grouped_by_field(whole) else whole


def _look_through(samples: Any) -> Iterator[Any]:
    """The samples of a view, which may have a stage that FiftyOne cannot carry out."""
    try:
        yield from samples
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise BadReferenceError(
            f"the reference's view cannot be looked through ({reason}): give another view"
        ) from None


def _is_pair(dataset: Any, reference: Any) -> bool:
    """Whether two things are a sample and one of its labels, rather than two samples."""
    if not isinstance(reference, tuple) or len(reference) != 2:
        return False
    return isinstance(reference[1], (str, ObjectId)) and not _has(dataset, str(reference[1]))


def _has(dataset: Any, sample_id: str) -> bool:
    if dataset is None:  # samples that bring their own
        return False
    try:
        dataset[sample_id]
    except (KeyError, ValueError):
        return False
    return True


def _by_id(dataset: Any, sample_id: str) -> Any:
    try:
        return dataset[sample_id]
    except (KeyError, ValueError):
        raise BadReferenceError(
            f"dataset {dataset.name!r} has no sample with id {sample_id!r}: {_HOW}"
        ) from None


def _resolve(
    sample: Any,
    label_id: str | None,
    label_field: str,
    group_by: str | None,
    mask_value: int | str | None,
) -> SampleReference:
    if isinstance(sample, fo.core.video.FrameView):
        label_id = label_id or only_label(sample, frame_field(label_field))
        sample = frame_of_view(sample)
    elif isinstance(sample, _PATCHES) and (frame := frame_of_patch(sample)) is not None:
        _, label_id = _out_of_patch(sample, label_id, frame_field(label_field))
        sample = frame
    if isinstance(sample, LabelledFrame):
        label_field = frame_field(label_field)
    elif sample.media_type == fo.core.media.VIDEO:
        raise BadReferenceError(
            f"the reference {Path(sample.filepath).name} is a video: give its frame and label, "
            "reference=(sample, frame number, label id)"
        )
    sample, label_id = _out_of_patch(sample, label_id, label_field)
    fields = {label_field, group_by or label_field}
    if not isinstance(sample, LabelledFrame) and not fields <= set(sample.field_names):
        # It may be of a view that leaves fields out.
        sample = _by_id(dataset_of_sample(sample), sample.id)
    # A class that is not known is not a label's fault.
    plain_value(dataset_of_sample(sample), label_field, mask_value)
    prompt, label = label_prompt(sample, label_field, label_id, mask_value)
    if label_id is None and type(label) is not type(sample[label_field]):
        label_id = label.id  # one of a list, of which a view may have shown only this
    home = dataset_of_sample(sample)
    group = ""
    if group_by is not None:
        named = home.videos[sample.id] if isinstance(sample, LabelledFrame) else sample
        group = _group_of(named, group_by)
    return SampleReference(
        group=group,
        dataset=home.name,
        dataset_id=str(dataset_id(home)),
        sample_id=sample.id,
        label_field=label_field,
        label_id=label_id,
        mask_value=mask_value,
        filepath=sample.filepath,
        name=_name_of(sample, label, label_field, mask_value),
        prompt=prompt,
        stored=_stored_prompt(sample, label_field, label_id, prompt),
        frame=sample.number if isinstance(sample, LabelledFrame) else None,
    )


def _group_of(sample: Any, group_by: str) -> str:
    """The object that a sample is of."""
    if not sample.has_field(group_by):
        raise PersamError(f"samples have no field {group_by!r}: group_by takes a field's name")
    if sample[group_by] is None:
        raise BadReferenceError(
            f"reference {Path(sample.filepath).name} has no value in {group_by!r}: set it"
        )
    return str(sample[group_by])


def _stored_prompt(
    sample: Any, field: str, label_id: str | None, shown: LabelPrompt
) -> LabelPrompt | None:
    """A box or points as the dataset has them, where a view shows others; None where it does not.

    `filter_keypoints` for one leaves points out of a label that stays.
    """
    if not isinstance(sample, fo.core.sample.SampleView) or shown.kind == "mask":
        return None
    whole = _by_id(dataset_of_sample(sample), sample.id)
    try:
        stored, _ = label_prompt(whole, field, label_id)
    except BadReferenceError:  # it is of a view alone
        return None
    return None if stored.fingerprint() == shown.fingerprint() else stored


def _out_of_patch(sample: Any, label_id: str | None, field: str) -> tuple[Any, str | None]:
    """The photo behind a patch and the label the patch is of: patches last as long as their view.

    Whatever else is given comes back as it is.
    """
    if not isinstance(sample, _PATCHES):
        return sample, label_id
    label = sample[field] if sample.has_field(field) else None
    if label_id is None and isinstance(label, (fo.Detection, fo.Polyline, fo.Keypoint)):
        label_id = label.id
    return photo_of_patch(sample), label_id


def _name_of(sample: Any, label: Any, field: str, value: int | str | None) -> str | None:
    if not isinstance(label, fo.Segmentation):
        return getattr(label, "label", None)
    if value is None:
        return None
    dataset = dataset_of_sample(sample)
    return targets_of(dataset, field).get(plain_value(dataset, field, value))
