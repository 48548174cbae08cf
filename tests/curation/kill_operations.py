"""What is done to a dataset while a process is killed, and what a user does afterwards."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fiftyone_persam as fp

from . import jobs
from .discs import tiny_sam

THRESHOLDS = (0.2, 0.99)


def _segment(dataset: Any, folder: Path) -> None:
    jobs.run_on(dataset, progress=False, presence_threshold=THRESHOLDS[0])


def _segmented(dataset: Any, folder: Path) -> None:
    _segment(dataset, folder)
    fp.curation.set_review(dataset.limit(1), "x", "accepted")
    fp.evaluate(dataset, "x", eval_key="scores", include_references=True, progress=False)


def _interrupted(dataset: Any, folder: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    try:
        jobs.run_on(dataset, progress=stop, batch_size=1, presence_threshold=THRESHOLDS[0])
    except KeyboardInterrupt:
        return
    raise AssertionError("the run was not interrupted")


def _resume(dataset: Any, folder: Path) -> None:
    fp.resume_run(dataset, "x", model=tiny_sam(), batch_size=3, progress=False)


def _overwrite(dataset: Any, folder: Path) -> None:
    # FiftyOne's `last` goes by an estimate of how many there are, wrong after a killed database.
    last = dataset[dataset.values("id")[-1]]
    jobs.run_on(dataset, progress=False, overwrite=True, reference=last, presence_threshold=0.5)


def _segment_or_resume(dataset: Any, folder: Path) -> None:
    (_resume if fp.list_runs(dataset) else _segment)(dataset, folder)


def _overwrite_or_resume(dataset: Any, folder: Path) -> None:
    done = fp.load_run(dataset, "x").state == "done"
    (_overwrite if done else _resume)(dataset, folder)


def _tried(dataset: Any, folder: Path) -> None:
    """A run of a model that can be tried again, of which one mask is to be the next reference."""
    settings = {"method": "persam", "out_field": "x", "mask_storage": "file"}
    fp.segment(
        dataset, dataset.first(), model="sam_lite", presence_threshold=0, progress=False, **settings
    )
    fp.curation.set_review(dataset.limit(1), "x", "accepted")


def _again(dataset: Any, folder: Path) -> None:
    fp.curation.segment_again(dataset, "x", dataset.last(), label_field="x", progress=False)


def _again_or_resume(dataset: Any, folder: Path) -> None:
    run = fp.load_run(dataset, "x")
    if run.state != "done":
        fp.resume_run(dataset, "x", progress=False)
    elif len(run.record.references) == 1:
        _again(dataset, folder)


def _evaluate(dataset: Any, folder: Path) -> None:
    fp.evaluate(dataset, "x", eval_key="scores", progress=False)


def _evaluate_anew(dataset: Any, folder: Path) -> None:
    fp.evaluate(dataset, "x", eval_key="other", progress=False)


def _threshold(dataset: Any, folder: Path) -> None:
    fp.curation.set_presence_threshold(dataset, "x", THRESHOLDS[1])


def _threshold_moved(dataset: Any, folder: Path) -> None:
    _segmented(dataset, folder)
    _threshold(dataset, folder)


def _review(dataset: Any, folder: Path) -> None:
    fp.curation.set_review(dataset.limit(2), "x", "rejected")


def _promote(dataset: Any, folder: Path) -> None:
    fp.curation.promote(dataset, "x", "labels", overwrite=True)


def _promoted(dataset: Any, folder: Path) -> None:
    _segmented(dataset, folder)
    _promote(dataset, folder)
    fp.curation.set_review(dataset, "x", "accepted")


def _export(dataset: Any, folder: Path) -> None:
    fp.curation.export_masks(dataset, "x", folder / "out", format="masks", overwrite=True)


def _exported(dataset: Any, folder: Path) -> None:
    _segmented(dataset, folder)
    _export(dataset, folder)
    fp.curation.set_review(dataset, "x", "accepted")


def _orphaned(dataset: Any, folder: Path) -> None:
    """Fields of a run without its record, as in a clone of a view."""
    _segment(dataset, folder)
    fp.curation.set_review(dataset.limit(1), "x", "accepted")
    dataset.delete_run("x")


def _accepted(dataset: Any, folder: Path) -> None:
    jobs.run_on(dataset, progress=False, presence_threshold=0)
    fp.curation.set_review(dataset, "x", "accepted")


def _rejected(dataset: Any, folder: Path) -> None:
    """A run with a mask that a later run can learn from."""
    _segmented(dataset, folder)
    fp.curation.set_presence_threshold(dataset, "x", 0)
    fp.curation.set_review(dataset.skip(1).limit(1), "x", "rejected")


def _training_set(dataset: Any, folder: Path) -> None:
    fp.export_dreambooth(dataset, "x", folder / "out", overwrite=True)


Act = Callable[[Any, Path], None]


@dataclass(frozen=True)
class Operation:
    """Something that is done to a dataset.

    Attributes:
        prepare: what the dataset is before.
        act: what is done.
        go_on: what a user does after it was killed; the same again if None.
        whole: whether it must have happened as a whole or not at all, without going on.
    """

    prepare: Act
    act: Act
    go_on: Act | None = None
    whole: bool = True


OPERATIONS: dict[str, Operation] = {
    "segment": Operation(lambda d, f: None, _segment, _segment_or_resume, whole=False),
    "resume": Operation(_interrupted, _resume, _resume, whole=False),
    "overwrite": Operation(_segmented, _overwrite, _overwrite_or_resume, whole=False),
    "again": Operation(_tried, _again, _again_or_resume, whole=False),
    "rename": Operation(_segmented, lambda d, f: fp.rename_run(d, "x", "y") and None),
    "delete": Operation(_rejected, lambda d, f: fp.delete_run(d, "x")),
    "evaluate": Operation(_segmented, _evaluate_anew),
    "evaluate anew": Operation(_segmented, _evaluate),
    "threshold": Operation(_segmented, _threshold),
    "undo threshold": Operation(_threshold_moved, lambda d, f: fp.curation.undo_review(d, "x")),
    "review": Operation(_segmented, _review, whole=False),
    "promote": Operation(_segmented, _promote, whole=False),
    "promote again": Operation(_promoted, _promote, whole=False),
    "export": Operation(_segmented, _export, whole=False),
    "export again": Operation(_exported, _export, whole=False),
    "training set": Operation(_accepted, _training_set, whole=False),
    "adopt": Operation(_orphaned, lambda d, f: fp.adopt_run(d, "x") and None),
}
