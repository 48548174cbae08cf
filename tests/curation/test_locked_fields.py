"""Fields that somebody has locked (`read_only`): one line before anything is changed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.errors import PersamError

from .discs import Make, make_photos, state_of, tell_presences_apart, tiny_sam

STATES = ("todo", "accepted", "absent")
EVERY = ("x", "x_instances", "x_score", "x_presence", "x_error", "x_similarity", "x_prompts",
         "x_withheld", "x_instances_withheld", "x_review")  # fmt: skip


def run_on(samples: Any, name: str, **changes: Any) -> Any:
    settings = {"method": "persam", "model": tiny_sam(), "mask_storage": "file", **changes}
    return fp.segment(samples, samples.first(), out_field=name, **settings)


EVERYTHING: dict[str, Any] = {"label_type": "both", "similarity": True, "prompts": True}


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    made = fo.Dataset()
    made.add_samples(make_photos(tmp_path_factory.mktemp("photos"), 3))
    run_on(made, "x", presence_threshold=0, **EVERYTHING)
    run_on(made, "w", presence_threshold=0)
    curation.set_review(made, "x", "accepted", [made.first().id])
    tell_presences_apart(made, "x")
    curation.set_presence_threshold(made, "x", 0.5)
    fp.evaluate(made, "x", "ground_truth", eval_key="known")
    curation.compare_runs(made, "x", "w", out_field="agreement")
    curation.make_editable(made, "w")
    curation.promote(made, "x", "mine", states=STATES)
    yield made
    made.delete()


CALLS: dict[str, tuple[Callable[[fo.Dataset], Any], tuple[str, ...]]] = {
    "overwrite": (lambda d: run_on(d, "x", overwrite=True, **EVERYTHING), EVERY),
    "rename": (lambda d: fp.rename_run(d, "x", "y"), (*EVERY, "known_iou", "agreement")),
    "delete": (lambda d: fp.delete_run(d, "x"), (*EVERY, "known_iou", "agreement")),
    "threshold": (
        lambda d: curation.set_presence_threshold(d, "x", 1),
        ("x", "x_instances", "x_withheld", "x_instances_withheld"),
    ),
    "review": (lambda d: curation.set_review(d, "x", "rejected"), ("x_review",)),
    "evaluate": (lambda d: fp.evaluate(d, "x", "ground_truth", "known"), ("known_iou",)),
    "compare": (
        lambda d: curation.compare_runs(d, "x", "w", out_field="agreement"),
        ("agreement",),
    ),
    "edit": (lambda d: curation.make_editable(d, "w"), ("w_edit",)),
    "promote": (
        lambda d: curation.promote(d, "x", "mine", states=STATES, overwrite=True),
        ("mine",),
    ),
}


def contents(folder: Path) -> dict[str, bytes]:
    return {entry.name: Path(entry).read_bytes() for entry in os.scandir(folder) if entry.is_file()}


@pytest.mark.parametrize("call", CALLS)
def test_one_line_and_nothing_has_changed(original: fo.Dataset, dataset: Make, call: str) -> None:
    clone = dataset(original.clone())
    folder = fp.load_run(original, "x").masks_dir
    files = contents(folder)
    do, locked = CALLS[call]
    for name in locked:
        field = clone.get_field(name)
        field.read_only = True
        field.save()
        clone.reload()
        before = state_of(clone)
        with pytest.raises(PersamError, match=rf"field '{name}' is locked \(read_only\)") as caught:
            do(clone)
        assert "\n" not in str(caught.value)
        assert state_of(clone) == before and contents(folder) == files
        field = clone.get_field(name)
        field.read_only = False
        field.save()
    do(clone)  # now it can be done
