"""From samples and their labels to references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo

from ...errors import BadReferenceError, PersamError
from ..fiftyone_api import dataset_id, dataset_of_sample, photo_of_patch
from .choices import is_patch, label_choices, sample_of_id
from .pixels import plain_value, targets_of
from .references import PhraseReference, SampleReference
from .shapes import LabelPrompt, label_prompt, only_label
from .video_frames import LabelledFrame, frame_field, frame_of_patch, frame_of_view


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
    return [
        choice
        if isinstance(choice, (SampleReference, PhraseReference))
        else _resolve(*choice, label_field, group_by, mask_value)
        for choice in label_choices(dataset, reference)
    ]


# ----------------------------------------------------------------------------------------------


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
    elif is_patch(sample) and (frame := frame_of_patch(sample)) is not None:
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
        sample = sample_of_id(dataset_of_sample(sample), sample.id)
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
    whole = sample_of_id(dataset_of_sample(sample), sample.id)
    try:
        stored, _ = label_prompt(whole, field, label_id)
    except BadReferenceError:  # it is of a view alone
        return None
    return None if stored.fingerprint() == shown.fingerprint() else stored


def _out_of_patch(sample: Any, label_id: str | None, field: str) -> tuple[Any, str | None]:
    """The photo behind a patch and the label the patch is of: patches last as long as their view.

    Whatever else is given comes back as it is.
    """
    if not is_patch(sample):
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
