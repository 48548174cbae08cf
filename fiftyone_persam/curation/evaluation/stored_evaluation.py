"""What this package's evaluation methods share: fields of numbers, made, renamed and deleted."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import fiftyone as fo
import fiftyone.utils.eval.segmentation as foues

from ..fiftyone_api import own_dataset
from ..runs import schema

BACKGROUND = "background"
URI = "@fiftyone-persam/persam/"
DESCRIPTION = "Of the photo's mask, 0 to 1, by an evaluation of fiftyone-persam"

Progress = bool | Callable[[int, int], Any] | None


class StoredEvaluation(foues.SegmentationEvaluation):  # type: ignore[misc]
    """An evaluation that counts first, then writes fields of numbers, and sums up.

    Attributes:
        fields: what the evaluation's key is followed by in the names of its fields.
    """

    fields: ClassVar[Sequence[str]]

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
    """Results that know the name of their evaluation."""

    def rename(self, key: str) -> None:
        """Tell the results the name that their evaluation has got."""
        self._key = key


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
