"""Which samples and labels a ``reference`` argument means, whatever form it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set, ValuesView
from pathlib import Path
from typing import Any, TypeAlias

import fiftyone as fo
import numpy as np
from bson import ObjectId

from ...errors import BadReferenceError
from ..database import is_grouped_by_field, with_all_fields, within_limits
from ..fiftyone_api import photo_of_patch
from .references import AnyReference, PhraseReference, SampleReference
from .video_frames import LabelledFrame, frame_choice, frame_of_view, is_frame_choice

_LISTS = (Sequence, Set, ValuesView, Iterator, np.ndarray)
_HOW = "give a sample, its id, a (sample, label id) pair, or a view of labelled samples"

# A sample and the id of the label that was chosen, or what an earlier call has resolved.
Choice: TypeAlias = "tuple[Any, str | None] | AnyReference"


def resolve_photos(dataset: Any, reference: Any) -> list[Any]:
    """The samples that a ``reference`` argument means, whatever labels they have.

    Raises:
        BadReferenceError: there is no such sample, or nothing is given.
    """
    found = [choice[0] for choice in _choices(dataset, reference) if isinstance(choice, tuple)]
    if not found:
        raise BadReferenceError(f"the reference is empty: {_HOW}")
    return [photo_of_patch(one) if is_patch(one) else one for one in found]


def label_choices(dataset: Any, reference: Any) -> list[Choice]:
    """What a ``reference`` argument means, at least one; see `resolve_references`.

    Raises:
        BadReferenceError: there is no such sample, or nothing is given.
    """
    found = list(_choices(dataset, reference))
    if not found:
        raise BadReferenceError(f"the reference is empty: {_HOW}")
    return found


def is_patch(sample: Any) -> bool:
    """Whether this is a sample of a view of patches, which lasts as long as that view."""
    return isinstance(sample, (fo.core.patches.PatchView, fo.core.patches.EvaluationPatchView))


def sample_of_id(dataset: Any, sample_id: str) -> Any:
    """The sample of a dataset that has an id.

    Raises:
        BadReferenceError: none has.
    """
    try:
        return dataset[sample_id]
    except (KeyError, ValueError):
        raise BadReferenceError(
            f"dataset {dataset.name!r} has no sample with id {sample_id!r}: {_HOW}"
        ) from None


# ----------------------------------------------------------------------------------------------


def _choices(dataset: Any, reference: Any) -> Iterator[Choice]:
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
        yield sample_of_id(dataset, str(reference)), None
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
