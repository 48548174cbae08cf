"""What this package's evaluation methods share: fields of numbers, and results of pixels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import fiftyone as fo
import fiftyone.utils.eval.segmentation as foues
import numpy as np
from bson import ObjectId
from pymongo import UpdateOne

from ..fiftyone_api import bulk_write, own_dataset
from ..frame_store import FrameStore
from ..runs import schema

BACKGROUND = "background"
URI = "@fiftyone-persam/persam/"
DESCRIPTION = "Of the photo's mask, 0 to 1, by an evaluation of fiftyone-persam"

Progress = bool | Callable[[int, int], Any] | None


class StoredEvaluation(foues.SegmentationEvaluation):  # type: ignore[misc]
    """An evaluation that counts first, then writes fields of numbers, and sums up.

    Attributes:
        fields: what the evaluation's key is followed by in the names of its fields.
        numbers: key -> attribute of the method's scores, and how the App calls it.
        less_is_better: which of these keys are better the lower they are.
    """

    fields: ClassVar[Sequence[str]]
    numbers: ClassVar[Mapping[str, tuple[str, str]]]
    less_is_better: ClassVar[Sequence[str]] = ()

    def stored_on(self, samples: Any) -> Any:
        """Where the fields are."""
        return own_dataset(samples)

    def register_samples(self, samples: Any, eval_key: str | None) -> None:
        """Declare the fields."""
        names = self.get_fields(samples, eval_key) if eval_key else ()
        made = {name: fo.FloatField(description=DESCRIPTION) for name in names}
        schema.add_fields(own_dataset(samples), made)

    def evaluate_samples(
        self,
        samples: Any,
        eval_key: str | None = None,
        mask_targets: dict[int, str] | None = None,
        progress: Progress = None,
    ) -> Any:
        """Count, write the fields, and sum up."""
        rows, skipped = self.count(samples, progress)
        return self.sum_up(samples, eval_key, rows, skipped)

    def count(self, samples: Any, progress: Progress = None, skip_faulty: bool = True) -> Any:
        """What was counted, and what was skipped with the reason; writes nothing."""
        raise NotImplementedError

    def sum_up(self, samples: Any, eval_key: str | None, rows: Any, skipped: Any) -> Any:
        """Write the fields and make the results."""
        raise NotImplementedError

    def make_results(
        self, kind: Any, samples: Any, eval_key: str | None, tally: PixelTally, scores: Any
    ) -> Any:
        """Results of a kind of `StoredResults`, with the numbers that the App shows."""
        shown = {
            URI + key: {
                "key": key,
                "value": float(getattr(scores, attribute)),
                "label": label,
                "lower_is_better": key in self.less_is_better,
            }
            for key, (attribute, label) in self.numbers.items()
        }
        return kind(
            samples,
            self.config,
            eval_key,
            tally.pixels,
            tally.classes,
            matches=tally.matches,
            missing=BACKGROUND,
            custom_metrics=shown,
            backend=self,
        )

    def get_fields(
        self, samples: Any, eval_key: str, include_custom_metrics: bool = True
    ) -> list[str]:
        """The names of the fields."""
        return [f"{eval_key}_{name}" for name in self.fields]

    def rename(self, samples: Any, eval_key: str, new_eval_key: str) -> None:
        """Rename the fields."""
        dataset = self.stored_on(samples)
        names = (self.get_fields(dataset, key) for key in (eval_key, new_eval_key))
        schema.rename_fields(dataset, dict(zip(*names, strict=True)))

    def cleanup(self, samples: Any, eval_key: str) -> None:
        """Delete the fields."""
        dataset = self.stored_on(samples)
        schema.delete_fields(dataset, self.get_fields(dataset, eval_key))
        schema.remove_empty_group(dataset, eval_key)


class StoredResults(foues.SegmentationResults):  # type: ignore[misc]
    """Results that know the name of their evaluation, and what could not be compared.

    Attributes:
        kept: the attributes that are stored beside FiftyOne's own.
        skipped: what could not be compared -> why; none of the numbers has it.
    """

    kept: ClassVar[Sequence[str]] = ()
    skipped: dict[str, str]

    def attributes(self) -> list[str]:
        """What is stored."""
        return [*super().attributes(), *self.kept, "skipped"]

    @classmethod
    def _from_dict(
        cls, d: dict[str, Any], samples: Any, config: Any, eval_key: str, **kwargs: Any
    ) -> Any:
        results = super()._from_dict(d, samples, config, eval_key, **kwargs)
        for name in cls.kept:
            setattr(results, name, d[name])
        results.skipped = d.get("skipped") or {}
        return results

    def print_skipped(self, what: str) -> None:
        """Print how many photos or sequences could not be compared, if any, and why the first."""
        if self.skipped:
            first = next(iter(self.skipped.values()))
            print(f"left out: {len(self.skipped)} {what}, the first: {first}")

    def rename(self, key: str) -> None:
        """Tell the results the name that their evaluation has got."""
        self._key = key


class PixelTally:
    """The confusion matrix of a method's objects, in pixels, and the photos behind its cells.

    Args:
        names: of the objects; the background comes before them.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.classes = [BACKGROUND, *names]
        self.pixels = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)
        self.matches: list[tuple[Any, ...]] = []

    def add(
        self,
        index: int,
        both: int,
        truth: int,
        predicted: int,
        neither: int,
        ids: tuple[str | None, str | None],
    ) -> None:
        """Count one object in one photo.

        Args:
            index: of the object among the classes.
            both: pixels of both masks.
            truth: pixels of the true mask alone.
            predicted: pixels of the predicted mask alone.
            neither: pixels of the background of both, where the method counts them.
            ids: of the true and of the predicted label.
        """
        cells = (index, index, both), (index, 0, truth), (0, index, predicted), (0, 0, neither)
        for true, found, count in cells:
            self.pixels[true, found] += count
            if count:
                self.matches.append((self.classes[true], self.classes[found], count, *ids))


def write_means(samples: Any, field: str, values: Iterable[tuple[str, float]]) -> None:
    """Write to each photo or frame the mean of its objects' values.

    Args:
        samples: a dataset, a view, or the frames of videos.
        field: declared already.
        values: the photo's or frame's id and a value, as often as it has objects.
    """
    found: dict[str, list[float]] = defaultdict(list)
    for identity, value in values:
        found[identity].append(float(value))
    means = {identity: sum(some) / len(some) for identity, some in found.items()}
    if not isinstance(samples, FrameStore):
        own_dataset(samples).set_values(field, means, key_field="id")
    elif means:
        updates = [UpdateOne({"_id": ObjectId(i)}, {"$set": {field: m}}) for i, m in means.items()]
        bulk_write(samples, updates, ids=means)


def label_id(label: Any) -> str | None:
    """By which the App finds a photo; of several instances, the first one's."""
    if isinstance(label, fo.Detections):
        label = next(iter(label.detections), None)
    return getattr(label, "id", None)


@contextmanager
def reporting(progress: Progress, total: int) -> Iterator[Callable[[int], Any]]:
    """Tell a progress bar, or a function, how many are done."""
    if callable(progress):
        hook = progress
        yield lambda done: hook(done, total)
        return
    with fo.ProgressBar(total=total, iters_str="photos", progress=progress) as bar:
        yield bar.set_iteration
