"""The record of a run: one typed form, whichever version of the package has written it."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.evaluation.compare import COMPARED, compare_runs, comparisons_of
from fiftyone_persam.curation.runs.migration import VERSION
from fiftyone_persam.curation.runs.record import (
    EarlierCall,
    Parameters,
    ReferenceRecord,
    RunRecord,
    read_record,
    update_record,
)

from ..discs import Make, make_photos, tiny_sam
from ..reviewed_run import RUN, add_run, reviewed_run

ROOT = Path(__file__).parents[3]
REFERENCE = ReferenceRecord("id", "truth", "/photos/a.png", label_id="label", mask_value=3)
RECORD = RunRecord(
    method="persam_f",
    model="sam_lite",
    references=(REFERENCE,),
    parameters=Parameters(label_type="both", similarity=True, options={"mode": "reference"}),
    masks_dir="/masks",
    run_id="r",
    state="failed",
    reason="why",
    checkpoint_sha256="c",
    weights_sha256="w",
    device="cuda",
    dtype="bfloat16",
    backend="devices",
    compiled=True,
    versions={"torch": "2"},
    earlier=(EarlierCall("persam", "other", (REFERENCE,), Parameters(), {"torch": "1"}),),
    reviewed_threshold=0.4,
    negatives=(REFERENCE,),
)
# What version 0.1 has stored first, before it knew back ends, weights and renamings.
OLDEST: dict[str, Any] = {
    "tool": "fiftyone-persam",
    "method": "persam",
    "model": "sam_lite",
    "checkpoint_sha256": "c",
    "device": "cpu",
    "dtype": "float32",
    "references": [
        {
            "group": "",
            "dataset": "photos",
            "sample_id": "id",
            "label_field": "truth",
            "label_id": None,
            "mask_value": None,
            "filepath": "/photos/a.png",
            "name": None,
            "kind": "mask",
            "fingerprint": "f",
        }
    ],
    "parameters": {"label_field": "truth", "presence_threshold": 0.25, "options": {}},
    "versions": {},
    "masks_dir": "/masks",
    "run_id": "r",
    "earlier": [],
    "state": "done",
    "reason": "",
}


@pytest.fixture
def album(dataset: Make, tmp_path: Path) -> fo.Dataset:
    album = reviewed_run(dataset, tmp_path)
    add_run(album, tmp_path, "second", shift=-6)
    return album


def stored(dataset: fo.Dataset, values: dict[str, Any]) -> Any:
    """The config of a run as the database gives it back."""
    config = dataset.init_run()
    for key, value in values.items():
        setattr(config, key, value)
    dataset.register_run("stored", config)
    dataset.reload()
    return dataset.get_run_info("stored").config


def test_a_record_comes_back_from_the_database_as_it_was(dataset: Make) -> None:
    assert all(  # so that no field is left out below
        getattr(RECORD, one.name) != one.default for one in fields(RunRecord)
    )
    photos = dataset()
    photos.register_run("x", RECORD.to_config(photos.init_run()))
    photos.reload()
    assert read_record(photos, "x") == RECORD
    assert photos.get_run_info("x").config.record_version == VERSION
    assert update_record(photos, "x", reason="") == read_record(photos, "x") != RECORD


def test_the_oldest_record_is_understood(dataset: Make) -> None:
    record = RunRecord.from_config(stored(dataset(), OLDEST))
    assert (record.backend, record.weights_sha256) == ("local", None)
    assert record.references[0].dataset_id is None and record.references[0].fingerprint == "f"
    assert record.parameters == Parameters("truth", presence_threshold=0.25)
    assert record.to_config(dataset().init_run()).references[0]["label_field"] == "truth"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"record_version": VERSION + 1}, "later version of fiftyone-persam.*upgrade"),
        ({"masks_dir": ...}, "'stored' is damaged.*masks_dir.*delete it"),
        ({"references": [{"group": ""}]}, "'stored' is damaged.*sample_id"),
        ({"references": 3}, "'stored' is damaged"),
    ],
)
def test_a_record_that_cannot_be_read(dataset: Make, changes: dict[str, Any], says: str) -> None:
    values = {k: v for k, v in {**OLDEST, **changes}.items() if v is not ...}
    with pytest.raises(fp.PersamError, match=says):
        RunRecord.from_config(stored(dataset(), values), "stored")


def test_a_runs_config_has_plain_values(dataset: Make, tmp_path: Path) -> None:
    photos = dataset(make_photos(tmp_path, 2))
    run = fp.segment(
        photos, photos.first(), model=tiny_sam(), method="persam", out_field="x", progress=False
    )
    (reference,) = run.config.references
    assert reference["sample_id"] == photos.first().id == run.record.references[0].sample_id
    assert run.config.parameters["label_type"] == run.record.parameters.label_type
    assert {one.name for one in fields(RunRecord)} < set(dir(run.config))


# Relations between runs ---------------------------------------------------------------------------


def test_a_comparison_is_known_by_what_it_is_not_by_its_description(album: fo.Dataset) -> None:
    compare_runs(album, RUN, "second", out_field="both")
    field = album.get_field("both")
    field.description = "my own words"
    field.save()
    album.reload()
    assert comparisons_of(album, "second") == ["both"]
    fp.rename_run(album, "second", "third")
    assert comparisons_of(album, "third") == ["both"] and comparisons_of(album, "second") == []
    assert album.get_field("both").description == "my own words"
    fp.delete_run(album, "third")
    assert not album.has_field("both") and album.has_field(RUN)


def test_a_comparison_of_an_earlier_version(album: fo.Dataset) -> None:
    """These had only their description to tell."""
    description = f"IoU between the masks of runs '{RUN}' and 'second'"
    album.add_sample_field("both", fo.FloatField, description=description)
    assert comparisons_of(album, RUN) == comparisons_of(album, "second") == ["both"]
    fp.rename_run(album, "second", "third")
    assert album.get_field("both").info == {COMPARED: [RUN, "third"]}
    assert album.get_field("both").description.endswith("'third'")
    assert comparisons_of(album, "third") == ["both"]


# Who reads records --------------------------------------------------------------------------------


def test_nobody_else_reads_or_writes_what_fiftyone_stores_of_a_run() -> None:
    own = {"get_run_info", "update_run_config", "init_run", "load_run_results"}
    # The record's file, the list of runs with their times, and the run's beginning and results.
    places = {
        "runs/record.py": {"get_run_info", "update_run_config", "init_run", "load_run_results"},
        "runs/loading.py": {"get_run_info"},
        "segmentation/execution.py": {"init_run"},
        "adoption.py": {"init_run"},  # of a run that came with its photos
        "evaluation/scores.py": {"update_run_config"},  # of evaluations
    }
    curation = ROOT / "fiftyone_persam" / "curation"
    found: dict[str, set[str]] = {}
    for path in curation.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in own:
                found.setdefault(path.relative_to(curation).as_posix(), set()).add(node.attr)
    assert found == places
