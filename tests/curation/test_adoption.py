"""Copies by FiftyOne's own means: their runs work, or are adopted or deleted in one call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam import curation
from fiftyone_persam.curation.runs.lease import Lease
from fiftyone_persam.errors import PersamError

from .discs import Make, make_photos, tell_presences_apart, tiny_sam

EVERYTHING: dict[str, Any] = {"label_type": "both", "similarity": True, "prompts": True}
LEFT_OUT = "without its record.*adopt_run.*delete_run"


def run_on(samples: Any, name: str = "x", **changes: Any) -> Any:
    settings = {**EVERYTHING, "method": "persam", "model": tiny_sam(), "mask_storage": "file"}
    settings = {**settings, "presence_threshold": 0, **changes}
    return fp.segment(samples, samples._root_dataset.first(), out_field=name, **settings)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[fo.Dataset]:
    """Run "x": the first photo accepted, one absent by the reviewer's threshold, evaluated."""
    made = fo.Dataset()
    made.add_samples(make_photos(tmp_path_factory.mktemp("photos"), 3))
    run_on(made)
    curation.set_review(made, "x", "accepted", [made.first().id])
    tell_presences_apart(made, "x")
    curation.set_presence_threshold(made, "x", 0.5)
    fp.evaluate(made, "x", "ground_truth", eval_key="known")
    yield made
    made.delete()


def merged(original: fo.Dataset) -> fo.Dataset:
    made = fo.Dataset()
    made.merge_samples(original)
    return made


def added(original: fo.Dataset) -> fo.Dataset:
    made = fo.Dataset()
    made.add_samples(original.view())
    return made


def without_record(original: fo.Dataset) -> fo.Dataset:
    made = original.clone()
    made.delete_run("x")
    return made


COPIES: dict[str, Callable[[fo.Dataset], fo.Dataset]] = {
    "view": lambda d: d.match({}).clone(),
    "merged": merged,
    "added": added,
    "record deleted": without_record,
    "some fields": lambda d: d.select_fields(["x", "x_score", "ground_truth"]).clone(),
}


def fields_of(dataset: fo.Dataset) -> list[str]:
    dataset.reload()
    return [name for name in dataset.get_field_schema() if name.startswith(("x", "y"))]


def files_of(original: fo.Dataset) -> dict[Path, bytes]:
    folder = fp.load_run(original, "x").masks_dir
    return {path: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_adopted(
    original: fo.Dataset, dataset: Make, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    before = files_of(original)
    copy = dataset(COPIES[kind](original))
    assert fp.list_runs(copy) == []
    assert "(x): adopt_run takes them over, delete_run removes them" in caplog.text
    for refused in (lambda: run_on(copy), lambda: curation.set_review(copy, "x", "rejected")):
        with pytest.raises(PersamError, match=LEFT_OUT):
            refused()
    run = fp.adopt_run(copy, "x")
    known = fp.load_run(original, "x")
    assert fp.adopt_run(copy, "x").name == "x"  # again does no harm
    assert (run.record.method, run.record.references) == ("persam", known.record.references)
    assert run.counts["segmented"] == 3 and run.masks_dir != known.masks_dir
    if kind != "some fields":  # its presences are gone
        assert curation.review_counts(copy, "x") == curation.review_counts(original, "x")
        assert "Deleted:" not in run.summary()
    # It is a run like any other, and all that it writes is its own.
    assert curation.set_review(copy, "x", "rejected") == 3
    assert fp.evaluate(copy, "x", "ground_truth", eval_key="known").scores.photos == 2
    assert run_on(copy, overwrite=True).counts["segmented"] == 3
    assert fp.rename_run(copy, "x", "y").name == "y"
    fp.delete_run(copy, "y")
    assert fields_of(copy) == ["x_rejected"]  # what the review has taught stays
    assert not copy.has_field("known_iou") and files_of(original) == before


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_cleaned(original: fo.Dataset, dataset: Make, kind: str) -> None:
    before = files_of(original)
    copy = dataset(COPIES[kind](original))
    fp.delete_run(copy, "x")
    assert not fields_of(copy) and copy.has_field("ground_truth")
    assert files_of(original) == before
    assert run_on(copy).counts["segmented"] == 3


def test_nobody_knows_how_the_masks_were_made(
    dataset: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    photos = dataset(make_photos(tmp_path, 3))
    folder = run_on(photos).masks_dir
    tell_presences_apart(photos, "x")
    curation.set_presence_threshold(photos, "x", 0.5)
    assert curation.review_counts(photos, "x").absent == 1
    photos.delete_run("x")
    run = fp.adopt_run(photos, "x")
    assert "is adopted without its method, model and references" in caplog.text
    summary = run.summary()
    assert "Method:     not known" in summary and "Reference:  not known" in summary
    assert curation.review_counts(photos, "x").absent == 1  # what waits tells the threshold
    assert run.masks_dir == folder  # it is still the dataset's own
    with pytest.raises(PersamError, match="nobody knows any more what run 'x' was made with"):
        curation.segment_again(photos, "x", photos.last())
    Path(photos.first().x.mask_path).unlink()
    with pytest.raises(PersamError, match="no reference on record: start the run again"):
        fp.resume_run(photos, "x")
    assert run_on(photos, overwrite=True).record.method == "persam"
    fp.delete_run(photos, "x")
    assert not folder.exists()


def renamed_run(photos: fo.Dataset) -> str:
    photos.rename_run("x", "y")
    return "x"


def renamed_fields(photos: fo.Dataset) -> str:
    names = [name for name in photos.get_field_schema() if name.startswith("x")]
    photos.rename_sample_fields({name: f"y{name[1:]}" for name in names})
    return "y"


@pytest.mark.parametrize("rename", [renamed_run, renamed_fields])
def test_renamed_by_fiftyone(
    original: fo.Dataset, dataset: Make, rename: Callable[[fo.Dataset], str]
) -> None:
    """Record and fields have different names: they come together again, nothing else is made."""
    copy = dataset(original.clone())
    name = rename(copy)
    run = fp.adopt_run(copy, name)
    assert run.counts == fp.load_run(original, "x").counts
    assert copy.list_runs() == [name]
    fp.delete_run(copy, name)
    assert not fields_of(copy)


def test_copies_of_fields(original: fo.Dataset, dataset: Make) -> None:
    copy = dataset(original.clone())
    copy.clone_sample_field("x", "z")  # somebody's backup
    with pytest.raises(PersamError, match="no fields of a run 'z'"):
        fp.adopt_run(copy, "z")
    copy.clone_sample_field("x_score", "z_score")
    run = fp.adopt_run(copy, "z")
    assert run.masks_dir != fp.load_run(copy, "x").masks_dir
    fp.delete_run(copy, "x")
    assert all(Path(path).is_file() for path in copy.values("z.mask_path"))
    assert fp.load_run(copy, "z").counts["segmented"] == 3


def test_a_field_of_the_user_s_own_is_no_run(dataset: Make, tmp_path: Path) -> None:
    photos = dataset(make_photos(tmp_path, 2))
    photos.clone_sample_field("ground_truth", "mine")
    photos.add_sample_field("mine_score", fo.FloatField)
    for call in (fp.adopt_run, fp.delete_run):
        with pytest.raises(PersamError, match=r"no (fields of a )?run 'mine'"):
            call(photos, "mine")
    with pytest.raises(PersamError, match="field 'mine_score' that no run has written"):
        run_on(photos, "mine")
    assert photos.has_field("mine") and photos.has_field("mine_score")


def test_a_clone_is_as_its_original(original: fo.Dataset, dataset: Make, tmp_path: Path) -> None:
    """The reviewer's threshold goes along, in a clone and in an export; a lease does not."""
    with Lease(original, "x"):
        clone = dataset(original.clone())
        assert fp.rename_run(clone, "x", "y").name == "y"
    original.export(str(tmp_path), dataset_type=fo.types.FiftyOneDataset, progress=False)
    loaded = fo.Dataset.from_dir(
        str(tmp_path), fo.types.FiftyOneDataset, name="loaded", progress=False
    )
    for copy, name in ((clone, "y"), (dataset(loaded), "x")):
        assert curation.review_counts(copy, name) == curation.review_counts(original, "x")
        assert fp.load_run(copy, name).counts == fp.load_run(original, "x").counts


@pytest.mark.parametrize("last", ["delete", "overwrite"])
def test_who_lets_go_last_removes_the_files(dataset: Make, tmp_path: Path, last: str) -> None:
    photos = dataset(make_photos(tmp_path, 2))
    folder = run_on(photos).masks_dir
    clone = dataset(photos.clone())
    kept = dataset(photos.limit(1).clone())
    before = set(folder.iterdir())
    photos.delete()
    assert set(folder.iterdir()) == before
    fp.delete_run(kept, "x")
    assert set(folder.iterdir()) == before  # the clone names them
    if last == "delete":
        fp.delete_run(clone, "x")
    else:
        run_on(clone, overwrite=True)
        assert all(Path(path).is_file() for path in clone.values("x.mask_path"))
    assert not folder.exists()
