"""A frame of a video as what a labelled photo is: something with pixels and labels."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral
from pathlib import Path
from typing import Any

import fiftyone as fo
from bson import ObjectId

from ...errors import BadReferenceError
from ...sam.frames import load_frame
from ...sam.photos import Photo, load_photo
from ..fiftyone_api import photo_of_patch
from ..frame_store import PREFIX, FrameStore, home

_HOW = (
    "give (sample, frame number), or (sample, frame number, label id) for one of several labels, "
    "of a frame that is labelled"
)


class LabelledFrame:
    """One frame of a sample with a video, by the names that a sample with a photo has.

    Attributes:
        id: of the sample.
        filepath: of the video.
        number: of the frame, from 1.
        dataset: a `FrameStore`, of whose fields the labels are.

    Args:
        sample: with a video.
        number: of the frame.

    Raises:
        BadReferenceError: the sample has no video, or there is no such frame.
    """

    def __init__(self, sample: Any, number: int) -> None:
        name = Path(sample.filepath).name
        if sample.media_type != fo.core.media.VIDEO:
            raise BadReferenceError(
                f"the reference {name} is not a video, and has no frame {number}: give the sample, "
                "or a (sample, label id) pair"
            )
        if number < 1:
            raise BadReferenceError(
                f"frame {number} of reference {name} is not a frame: they are counted from 1"
            )
        if number not in sample.frames:
            raise BadReferenceError(
                f"frame {number} of reference {name} has no label: {_labelled(sample)}"
            )
        self.id, self.filepath, self.number = sample.id, sample.filepath, number
        self.dataset = home(sample.dataset)
        self.in_dataset = True
        self._frame = sample.frames[number]

    @property
    def field_names(self) -> tuple[str, ...]:
        """The fields of frames."""
        return tuple(self._frame.field_names)

    def has_field(self, name: str) -> bool:
        """Whether frames have a field."""
        return bool(self._frame.has_field(frame_field(name)))

    def __getitem__(self, name: str) -> Any:
        return self._frame[frame_field(name)]

    def load(self) -> Photo:
        """(H, W, 3) uint8 RGB."""
        return load_frame(self.filepath, self.number)


def pixels_of(sample: Any) -> Photo:
    """What a sample, or a frame of a video, shows.

    Raises:
        PhotoError: it cannot be read.
    """
    return sample.load() if isinstance(sample, LabelledFrame) else load_photo(sample.filepath)


def is_frame_choice(reference: Any) -> bool:
    """Whether this is (sample, frame number) or (sample, frame number, label)."""
    if not isinstance(reference, tuple) or len(reference) not in (2, 3):
        return False
    number = reference[1]
    return isinstance(number, Integral) and not isinstance(number, bool)


def frame_choice(dataset: Any, reference: tuple[Any, ...]) -> tuple[LabelledFrame, str | None]:
    """The frame and the label's id that `is_frame_choice` has recognised.

    Raises:
        BadReferenceError: there is no such sample, frame or label.
    """
    sample, number, *rest = reference
    if isinstance(sample, (str, ObjectId)):
        try:
            sample = dataset[str(sample)]
        except (KeyError, ValueError):
            raise BadReferenceError(
                f"dataset {dataset.name!r} has no sample with id {str(sample)!r}: {_HOW}"
            ) from None
    if not isinstance(sample, (fo.Sample, fo.core.sample.SampleView)):
        raise BadReferenceError(f"{type(sample).__name__} is not a sample with a video: {_HOW}")
    if not sample.in_dataset:
        raise BadReferenceError(
            f"the reference {Path(sample.filepath).name} is in no dataset: add it first"
        )
    label = rest[0] if rest else None
    label_id = getattr(label, "id", label)
    if label_id is not None and not isinstance(label_id, (str, ObjectId)):
        raise BadReferenceError(f"label {label!r} of the reference is not a label's id: {_HOW}")
    return LabelledFrame(sample, int(number)), None if label_id is None else str(label_id)


def frame_of_view(frame: Any) -> LabelledFrame:
    """The frame of a video that is shown in a view of frames."""
    return LabelledFrame(photo_of_patch(frame), int(frame.frame_number))


def frame_of_patch(patch: Any) -> LabelledFrame | None:
    """The frame of a video that a patch was cut out of; None for a patch of a photo."""
    if not patch.has_field("frame_number"):
        return None
    sample = photo_of_patch(patch)
    if sample.media_type != fo.core.media.VIDEO:
        return None
    return LabelledFrame(sample, int(patch["frame_number"]))


def frame_field(name: Any) -> Any:
    """A frame field as frames call it: FiftyOne puts "frames." before it elsewhere."""
    return name.removeprefix(PREFIX) if isinstance(name, str) else name


def labelled_frames(store: FrameStore, sample_id: str, field: str) -> list[int]:
    """The frames of a video that have a label in a field."""
    sample = store.videos[sample_id]
    return [number for number, frame in _frames(sample) if frame.has_field(field) and frame[field]]


def _frames(sample: Any) -> Iterator[tuple[int, Any]]:
    yield from sample.frames.items()


def _labelled(sample: Any) -> str:
    known = [str(number) for number in sample.frames]
    return f"choose one of {', '.join(known[:10])}" if known else "label one of its frames"
