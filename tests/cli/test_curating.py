"""The commands around a run: what the App's operators do, from a shell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.cli.main import main
from fiftyone_persam.curation import review_counts

from ..curation.discs import Make
from ..curation.scenes import scenes

NAME = "scenes-of-the-command-line"


@pytest.fixture
def photos(album: Path, dataset: Make, tmp_path: Path) -> fo.Dataset:
    """The cat, the cup, and both of them."""
    made = fo.Dataset(NAME)
    made.add_samples(scenes(album, tmp_path)[:3])
    return dataset(made)


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: Any) -> str:
        code = main([str(argument) for argument in arguments])
        printed = capsys.readouterr()
        assert code == 0, printed.err
        return printed.out

    return call


def test_from_a_suggestion_to_labels(run: Any, photos: fo.Dataset) -> None:
    """Which photo to label, a run, its review, another try that has learnt from it, hand-over."""
    cat, cup, both = photos.values("id")
    ranked = run("suggest", NAME, "--by", "medoid", "--limit", 2).splitlines()
    assert "3 photos by medoid (whole photos)" in ranked[0]
    assert ranked[1].split()[1] == fp.suggest_reference(photos, by="medoid").ids[0]

    own, twin = (f"{i}:{photos[i].labels.detections[0].id}" for i in (cat, cup))
    given = ("--label-field", "labels", "--method", "persam", "--presence-threshold", 0)
    run("segment", NAME, "--reference", own, *given, "--out-field", "mine")
    run("segment", NAME, "--reference", cup, *given, "--out-field", "other")
    assert "3 todo" in run("review", "counts", NAME, "mine")
    queue = [line.split()[0] for line in run("review", "queue", NAME, "mine").splitlines()]
    assert sorted(queue) == sorted([cat, cup, both])
    assert "decisions changed: 1" in run("review", "reject", NAME, "mine", "--sample", cup)
    run("review", "accept", NAME, "mine", "--sample", cat, "--sample", both)
    assert "photos that are as before: 2" in run("review", "undo", NAME, "mine")
    run("review", "accept", NAME, "mine", "--sample", both)
    run("review", "reset", NAME, "mine", "--sample", both)
    assert (review_counts(photos, "mine").todo, review_counts(photos, "mine").rejected) == (2, 1)

    out = run("again", NAME, "mine")
    record = fp.load_run(photos, "mine").record
    assert "3 segmented" in out and len(record.references) == 1
    assert [n.sample_id for n in record.negatives] == [cup]
    out = run("again", NAME, "mine", "--reference", own, "--label-field", "labels")
    record = fp.load_run(photos, "mine").record
    assert "3 segmented" in out
    assert [(n.sample_id, n.label_field) for n in record.negatives] == [(cup, "mine_rejected")]
    run(
        *("again", NAME, "mine", "--reference", cat, "--label-field", "labels", "--only-new"),
        *("--ignore-rejected", "--negative", twin, "--negatives-field", "labels"),
    )
    record = fp.load_run(photos, "mine").record
    assert [(n.sample_id, n.label_field) for n in record.negatives] == [(cup, "labels")]
    run("review", "threshold", NAME, "mine", 0.99)
    assert review_counts(photos, "mine").absent >= 1
    run("review", "edit", NAME, "mine", "--sample", cat)
    assert photos.has_field("mine_edit")

    compared = run("compare", NAME, "mine", "other", "--gt-field", "labels").splitlines()
    assert compared[0].split() == ["photos", "3"]
    run("review", "accept", NAME, "mine", "--sample", cat)
    assert "1 labels promoted into 'cats'" in run("promote", NAME, "mine", "cats", "--label", "cat")
    assert photos.exists("cats").values("id") == [cat]


def test_of_several_objects(run: Any, photos: fo.Dataset) -> None:
    cat, cup, _ = photos.values("id")
    named = ("--object", f"cat={cat}", "--object", f"cup={cup}")
    run(
        *("segment", NAME, *named, "--label-field", "labels", "--method", "persam"),
        *("--negative", f"cat={cup}", "--out-field", "two"),
    )
    known = fp.load_run(photos, "two").record.negatives
    assert [(n.group, n.sample_id) for n in known] == [("cat", cup)]
    run("again", NAME, "two", "--object", f"cat={cat}", "--label-field", "labels")
    assert fp.load_run(photos, "two").record.parameters.objects == ["cat", "cup"]
    run("everything", NAME, "--max-proposals", 2, "--label", "it")
    labels = {one for some in photos.values("everything.detections.label") for one in some or []}
    assert labels == {"it"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("again", NAME, "mine", "--reference", "1", "--object", "a=1"),
            "two kinds of reference: give --reference ID, or --object NAME=ID",
        ),
        (("again", NAME, "mine", "--only-new"), "no run 'mine'"),
        (
            ("segment", NAME, "--object", "a=1", "--negative", "a=2", "--negative", "3"),
            "--negative names an object in all cases or in none",
        ),
        (("review", "counts", NAME, "missing"), "no run 'missing'"),
    ],
)
def test_refused(
    photos: fo.Dataset, capsys: pytest.CaptureFixture[str], arguments: Any, words: str
) -> None:
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert words in error and len(error.splitlines()) == 1


def test_methods_by_name(run: Any) -> None:
    shown = run("methods", "persam", "lora").splitlines()
    assert [line.split(":")[0] for line in shown if line[0] != " "] == ["persam", "lora"]
