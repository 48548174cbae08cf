"""A run's record without its results file, as a process leaves it that dies while it deletes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.cli import main as cli
from fiftyone_persam.curation import fiftyone_api
from fiftyone_persam.curation.evaluation.scores import evaluations_of, object_table
from fiftyone_persam.curation.forms.runs import estimate, existing_run, free_name
from fiftyone_persam.curation.forms.thumbnails import run_reference_thumbnail
from fiftyone_persam.curation.handover.formats import EXPORTERS
from fiftyone_persam.curation.review.table import STATES

from ..operators.context import Form, PanelTab, link_plugin
from .discs import Make, make_photos, tiny_sam
from .test_lost_by_hand import make_runs


@pytest.fixture(scope="module")
def plugin() -> None:
    link_plugin()


@pytest.fixture
def photos(dataset: Make, original: fo.Dataset) -> fo.Dataset:
    """Runs "x" and "w"; the results of "x", and of its evaluation "e", are gone."""
    made = dataset(original.clone())
    curation.set_review(made, "x", "accepted")
    fp.evaluate(made, "x", "ground_truth", eval_key="e")
    files = [("runs", "x"), ("evaluations", "e")]
    fiftyone_api.delete_results(fiftyone_api.results_id(made, *one) for one in files)
    return made


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Any:
    made = fo.Dataset()
    made.add_samples(make_photos(tmp_path_factory.mktemp("photos"), 3))
    yield make_runs(made)
    made.delete()


FORMS = (
    "accept_masks",
    "compare_runs",
    "delete_run",
    "edit_masks",
    "evaluate",
    "export_dreambooth",
    "export_masks",
    "promote_masks",
    "rename_run",
    "resume_run",
    "segment_again",
    "segment_from_reference",
    "set_presence_threshold",
    "show_failures",
    "undo_review",
)
"""Operators with a form in which a run is chosen."""


def segment_again(photos: fo.Dataset) -> None:
    with pytest.raises(fp.PersamError, match="model"):  # it was given as an object
        curation.segment_again(photos, "x", photos.last(), label_field="x")


def resume(photos: fo.Dataset) -> None:
    run = fp.resume_run(photos, "x", model=tiny_sam())
    assert run.counts == {"segmented": 3, "absent": 0, "failed": 0, "remaining": 0}
    assert run.ids() == photos.values("id")


def overwrite(photos: fo.Dataset) -> None:
    fp.segment(
        photos,
        photos.first(),
        method="persam",
        model=tiny_sam(),
        out_field="x",
        mask_storage="file",
        overwrite=True,
        label_type="both",
        similarity=True,
        prompts=True,
    )


def every_form(photos: fo.Dataset) -> None:
    for name in FORMS:
        made = Form(photos, name, {"run": "x", "out_field": "x"}, selected=[photos.last().id])
        assert "result" not in " ".join(made.errors), (name, made.errors)
    result, _ = Form(photos, "list_runs").execute()
    assert "x" in str(result)


def panel(photos: fo.Dataset) -> None:
    tab = PanelTab(photos)
    assert tab.state["run"] in ("x", "w")
    tab.send("change_run", value="x")
    assert tab.state["run"] == "x" and tab.state["counts"]["accepted"] == 3
    tab.send("undo")
    assert tab.state["counts"]["todo"] == 3
    assert evaluations_of(photos, "x") == []
    with pytest.raises(fp.PersamError, match="results of evaluation 'e' are gone: evaluate it"):
        object_table(photos, "e")


def evaluate(photos: fo.Dataset) -> None:
    for key in ("e", "f"):
        results = fp.evaluate(photos, "x", "ground_truth", eval_key=key)
        assert photos.load_evaluation_results(key, cache=False).scores == results.scores


def command(*arguments: str) -> Callable[[fo.Dataset], Any]:
    def call(photos: fo.Dataset) -> None:
        assert cli([*arguments[:2], photos.name, *arguments[2:]]) == 0

    return call


READS: dict[str, Callable[[fo.Dataset], Any]] = {
    "list_runs": lambda d: [run.summary() for run in fp.list_runs(d)],
    "load_run": lambda d: fp.load_run(d, "x").view().values("id"),
    "queue": lambda d: curation.review_queue(d, "x").values("id"),
    "compare": lambda d: curation.compare_runs(d, "x", "w"),
    "suggest": lambda d: fp.suggest_reference(d, "x"),
    "names": lambda d: (existing_run(d, "x"), free_name(d, "x")),
    "estimate": lambda d: estimate(d, "sam_lite", "persam", 3),
    "thumbnail": lambda d: run_reference_thumbnail(d, "x"),
    "forms": every_form,
    "command list": command("runs", "list"),
    "command show": command("runs", "show", "x"),
    "panel": panel,
}
CHANGES: dict[str, Callable[[fo.Dataset], Any]] = {
    "rename": lambda d: fp.rename_run(d, "x", "y"),
    "delete": command("runs", "delete", "x"),
    "resume": resume,
    "run again": segment_again,
    "overwrite": overwrite,
    "segment beside it": lambda d: fp.segment(
        d, d.first(), method="persam", model=tiny_sam(), out_field="v"
    ),
    "threshold, review and edit": lambda d: (
        curation.set_presence_threshold(d, "x", 1),
        curation.set_review(d, "x", "rejected"),
        curation.make_editable(d, "x"),
    ),
    "evaluate": evaluate,
    "promote": lambda d: curation.promote(d, "x", "mine"),
}


def test_everything_can_be_read_without_the_results_of_a_run(
    photos: fo.Dataset, plugin: None, tmp_path: Path
) -> None:
    for call in READS.values():
        call(photos)
    for format in EXPORTERS:
        done = curation.export_masks(photos, "x", tmp_path / format, format, states=STATES)
        assert done == 3 and done.left_out == []


@pytest.mark.parametrize("what", CHANGES)
def test_everything_can_be_done_without_the_results_of_a_run(photos: fo.Dataset, what: str) -> None:
    CHANGES[what](photos)
    photos.reload()
    names = {run.name for run in fp.list_runs(photos)}
    assert names >= {"w"} and names <= {"v", "w", "x", "y"}
