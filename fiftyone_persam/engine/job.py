"""What a back end is given and what it gives back: plain data, independent of FiftyOne."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ..sam import ImageEmbedding, Promptable
    from .cache import EmbeddingCache

AUTO, FILE, INLINE = "auto", "file", "inline"
MASK_STORAGE = (AUTO, FILE, INLINE)
INLINE_PIXELS = 256 * 256
"""Masks of up to so many pixels are stored inline by "auto": small documents either way."""


class Predictor(Protocol):
    """A fitted method: PerSAM, PerSAMF, or anything with the same call."""

    def predict_embeddings(self, embeddings: Sequence[ImageEmbedding]) -> list[Any]:
        """One `Prediction` per embedding."""
        ...


@dataclass(frozen=True)
class PhotoTask:
    """One photo to segment, or one frame of a video.

    Attributes:
        id: names the result and its files; letters, digits, "_" and "-" only.
        path: the photo's file, or the video's.
        group: the object, that is which of the job's predictors to use.
        frame: number of the frame in a video, from 1 as FiftyOne counts; None for a photo.
        sequence: what the photo is a frame of. Frames of one sequence and object are given to one
            `Session`, in their order; their results come in that order. "" for a photo by itself.
        order: of the frame in its sequence.
        again: whether the frame has its result already, and is only seen again by its session: a
            run that goes on in the middle of a sequence. It gets no `PhotoResult`.
    """

    id: str
    path: str
    group: str = ""
    frame: int | None = None
    sequence: str = ""
    order: int = 0
    again: bool = False

    @property
    def source(self) -> tuple[str, int | None]:
        """Where the pixels are: file and frame."""
        return self.path, self.frame


@dataclass(frozen=True)
class OutputSettings:
    """What is kept of a prediction.

    Attributes:
        masks_dir: where mask files go.
        storage: "file", "inline", or "auto": inline up to `INLINE_PIXELS`.
        whole: keep the mask of the whole photo.
        instances: keep the mask cropped to its box.
        similarity: keep the similarity map.
        prompts: keep the prompt points.
        presence_threshold: below it the object counts as absent.
        tag: part of the files' names; see `file_name`.
        objects: names of the objects where one photo may have several: the mask's value of each is
            its place, from 1. Empty for one object, whose value is 255.
        numbered: whether what was found of one object has the values 1, 2, ... instead, the surest
            first, because a photo may show it several times.
    """

    masks_dir: Path
    storage: str = AUTO
    whole: bool = True
    instances: bool = False
    similarity: bool = False
    prompts: bool = False
    presence_threshold: float = 0.0
    tag: str = ""
    objects: tuple[str, ...] = ()
    numbered: bool = False


@dataclass(frozen=True, eq=False)
class StoredMask:
    """A mask as it was stored: in a file or as an array, never both."""

    path: str | None = None
    array: npt.NDArray[np.uint8] | None = None


@dataclass(frozen=True, eq=False)
class StoredInstance:
    """One object of a photo.

    Attributes:
        box: x0, y0, x1, y1 in pixels around the mask, x1 and y1 exclusive.
        mask: cropped to the box.
        score: predicted IoU.
        label: which object it is, where a photo may have several; None for the run's one.
        index: its value in masks, if it has one of its own.
        presence: how certainly that object is in the photo, where a photo may have several.
        absent: whether that is below the threshold.
    """

    box: tuple[int, int, int, int]
    mask: StoredMask
    score: float
    label: str | None = None
    index: int | None = None
    presence: float | None = None
    absent: bool = False


@dataclass(frozen=True)
class StoredObject:
    """One of several objects, as a whole, in one photo.

    Attributes:
        label: its name.
        presence: how certainly it is in the photo.
        score: predicted IoU of its mask.
        agreement: IoU of the first pass's mask and the last one's.
        absent: whether the presence is below the threshold.
    """

    label: str
    presence: float
    score: float
    agreement: float
    absent: bool


@dataclass(frozen=True, eq=False)
class PhotoResult:
    """What is written about one photo.

    Attributes:
        id: the task's id.
        error: why there is no result, in one line; None if there is one.
        score: predicted IoU.
        presence: how certainly the object is in the photo.
        agreement: IoU of the first pass's mask and the last one's.
        absent: whether the presence is below the threshold.
        stage: which pass of the method gave the mask.
        size: (H, W) of the photo.
        mask: (H, W) 0/255 or values, if asked for; empty if the object is absent.
        withheld: what the mask would be if the object were not counted as absent.
        instances: what was found, absent or not, if asked for.
        similarity: (h, w) uint8, 0 for a cosine of 0 or less and 255 for 1, if asked for.
        points: (n, 2) x, y in pixels, if asked for.
        labels: (n,) 1 for the object, 0 for what is not.
        objects: where a photo may have several: each of them. ``score`` and ``agreement`` are then
            the lowest of those that are there, ``presence`` is the highest, and ``absent`` says
            that none is there; ``withheld`` is the mask of all, if some are not.
    """

    id: str
    error: str | None = None
    score: float | None = None
    presence: float | None = None
    agreement: float | None = None
    absent: bool = False
    stage: str | None = None
    size: tuple[int, int] = (0, 0)
    mask: StoredMask | None = None
    withheld: StoredMask | None = None
    instances: tuple[StoredInstance, ...] = ()
    similarity: npt.NDArray[np.uint8] | None = None
    points: npt.NDArray[np.float64] | None = None
    labels: npt.NDArray[np.int64] | None = None
    objects: tuple[StoredObject, ...] = ()


@dataclass
class Timings:
    """Seconds the main thread spent on each stage, and how many photos had to be encoded.

    Where several workers share a job, the sum over them. Of a device that computes by itself, the
    seconds that it needed for encoding and decoding. ``compiling`` is part of ``encoding``.
    """

    waiting_for_photos: float = 0.0
    encoding: float = 0.0
    decoding: float = 0.0
    waiting_for_writers: float = 0.0
    photos_encoded: int = 0
    compiling: float = 0.0

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add what is done inside to a stage, also where it ends with an exception."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spend(stage, time.perf_counter() - start)

    def spend(self, stage: str, seconds: float) -> None:
        """Add to a stage."""
        setattr(self, stage, getattr(self, stage) + seconds)

    def add(self, other: Timings) -> None:
        """Add a worker's."""
        for name, value in vars(other).items():
            setattr(self, name, getattr(self, name) + value)

    def since(self, earlier: Timings) -> Timings:
        """What has come since an earlier copy of it."""
        return Timings(
            **{name: value - getattr(earlier, name) for name, value in vars(self).items()}
        )

    def to_dict(self) -> dict[str, float]:
        """Rounded to milliseconds."""
        return {name: round(value, 3) for name, value in vars(self).items()}


@dataclass
class Job:
    """Photos, a model, and one fitted predictor per object.

    Attributes:
        tasks: photos; those of one object are best next to each other.
        sam: the model that all predictors use.
        predictors: by object, as tasks name it in ``group``.
        output: what to keep.
        batch_size: photos encoded at once; None for the device's default.
        workers: threads that load and as many that write; None for the machine's default.
        cache: embeddings that are there already, and where new ones go.
        labelled: task id -> object's name -> (H, W) bool, where a frame of a sequence is known:
            there its session begins, or begins again. "" is the name where there is one object.
        timings: filled in while the job runs.
    """

    tasks: Sequence[PhotoTask]
    sam: Promptable
    predictors: Mapping[str, Predictor]
    output: OutputSettings
    batch_size: int | None = None
    workers: int | None = None
    cache: EmbeddingCache | None = None
    labelled: Mapping[str, Mapping[str, npt.NDArray[np.bool_]]] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)


class Backend(Protocol):
    """Where a job runs.

    One that is registered in `BACKENDS` is a class that can be made without arguments, has a
    ``name``, a ``help`` of one line, and ``available()``, which says whether this machine has what
    it needs. ``in_process = True`` says that it works in this process, with the job's own objects.
    """

    def run(self, job: Job) -> Generator[list[PhotoResult], None, None]:
        """Yield the results of every task that is not `again` exactly once, a few at a time.

        There may be none in between, so that whoever listens can close it.

        Photos come in any order; frames of a sequence in theirs, if no worker dies. Closing the
        iterator stops the job. What was yielded is whole: its files are written.
        """
        ...
