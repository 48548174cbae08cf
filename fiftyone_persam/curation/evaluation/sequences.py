"""The annotated frames of sequences, in order: of photos that a field names, and of videos."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property, partial
from itertools import groupby
from pathlib import Path
from typing import Any

from ...errors import PersamError
from ...sam.frames import video_info
from ..frame_store import PREFIX, FrameStore
from ..labels.sizes import read_shown_size


@dataclass(frozen=True)
class Frame:
    """A frame with ground truth.

    Attributes:
        id: of its sample, or of the video's frame.
        truth: its label.
        predicted: its label, or None.
        where: how messages call it.
        read_size: gives height and width; raises PhotoError where the photo cannot be read.
    """

    id: str
    truth: Any
    predicted: Any
    where: str
    read_size: Callable[[], tuple[int, int]]

    @cached_property
    def size(self) -> tuple[int, int]:
        """Height and width.

        Raises:
            PhotoError: the photo, or the video, cannot be read.
        """
        return self.read_size()


def sequences_of(samples: Any, config: Any) -> Iterator[tuple[str, list[Frame]]]:
    """Sequences with their frames that have ground truth, in order, one in memory at a time.

    Args:
        samples: photos, or the frames of videos.
        config: which fields: a `DavisEvaluationConfig`.

    Raises:
        PersamError: these are photos, and no field names their sequences.
    """
    if isinstance(samples, FrameStore):
        yield from _of_films(samples, config.gt_field, config.pred_field)
        return
    name_of, order = config.sequence_field, config.order_field
    if name_of is None:
        raise PersamError(
            "these are photos, and DAVIS's protocol is about sequences: give sequence_field, the "
            "field that names each photo's sequence"
        )
    names = [config.gt_field, config.pred_field, name_of, *([order] if order else [])]
    view = samples.exists(config.gt_field).select_fields(names)
    sorted_ = view.sort_by([(name_of, 1), (order or "filepath", 1)])
    for name, group in groupby(sorted_.iter_samples(), key=lambda one: one[name_of]):
        if name is None:
            continue
        yield str(name), [_frame_of(sample, config) for sample in group]


def _frame_of(sample: Any, config: Any) -> Frame:
    return Frame(
        sample.id,
        sample[config.gt_field],
        sample[config.pred_field],
        f"the mask of {Path(sample.filepath).name}",
        partial(read_shown_size, sample.filepath),
    )


def _of_films(
    frames: FrameStore, gt_field: str, pred_field: str
) -> Iterator[tuple[str, list[Frame]]]:
    chosen = set(frames.exists(gt_field).values("id"))
    view = frames.videos.select_fields([PREFIX + gt_field, PREFIX + pred_field])
    named: dict[str, int] = {}
    for sample in view.iter_samples():
        found: list[Frame] = []
        size = cache(partial(_shown_size, sample.filepath))
        for number, frame in sorted(sample.frames.items(), key=lambda item: int(item[0])):
            if frame.id not in chosen:
                continue
            where = f"the mask of frame {number} of {Path(sample.filepath).name}"
            found.append(Frame(frame.id, frame[gt_field], frame[pred_field], where, size))
        if found:
            name = Path(sample.filepath).stem
            named[name] = named.get(name, 0) + 1
            yield name if named[name] == 1 else f"{name} ({named[name]})", found


def _shown_size(film: str) -> tuple[int, int]:
    info = video_info(film)
    return info.height, info.width
