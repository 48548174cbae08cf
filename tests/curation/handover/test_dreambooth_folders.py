"""The folder of a training set: what is replaced, what is refused, what failures leave."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.errors import PersamError

from ..reviewed_run import RUN, ids_of
from .training_sets import accepted_album, album_with_texts


@pytest.fixture
def album(dataset, tmp_path) -> fo.Dataset:
    """Masks of "sure", "good" and "low_score" are accepted; "low_presence" is to be looked at."""
    return accepted_album(dataset, tmp_path / "album", "sure", "good", "low_score")


@pytest.fixture(scope="module")
def shared_album(tmp_path_factory) -> Iterator[fo.Dataset]:
    """The same with texts, for tests that only read it."""
    album = album_with_texts(tmp_path_factory.mktemp("album"))
    yield album
    album.delete()


def test_an_earlier_set_is_replaced_and_nothing_else(album, tmp_path):
    out = tmp_path / "out"
    fp.export_dreambooth(album, RUN, out, layout="kohya")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(PersamError, match="not empty"):
        fp.export_dreambooth(album, RUN, out)
    fp.export_dreambooth(album.limit(1), RUN, out, layout="onetrainer", overwrite=True)
    visible = sorted(str(p.relative_to(out)) for p in out.rglob("[!.]*") if p.is_file())
    assert visible == [
        "concepts.json", "images/sure-masklabel.png", "images/sure.png", "images/sure.txt",
        "manifest.json", "metadata.jsonl", "notes.txt",
    ]  # fmt: skip
    (tmp_path / "novel").mkdir()
    (tmp_path / "novel" / "chapter.txt").write_text("one")
    with pytest.raises(PersamError, match="earlier export"):
        fp.export_dreambooth(album, RUN, tmp_path / "novel", overwrite=True)
    assert [p.name for p in (tmp_path / "novel").iterdir()] == ["chapter.txt"]


@pytest.mark.parametrize("layout", ["kohya", "onetrainer"])
def test_trainers_are_told_the_final_folder(album, tmp_path, layout, monkeypatch):
    monkeypatch.chdir(tmp_path)
    fp.export_dreambooth(album, RUN, "out", layout=layout)
    index = tmp_path / "out" / ("dataset.toml" if layout == "kohya" else "concepts.json")
    assert json.dumps(str(tmp_path / "out" / "images")) in index.read_text()


def test_an_export_that_cannot_be_written_leaves_nothing(album, tmp_path, monkeypatch):
    """A full disk names the folder, not a photo."""
    from fiftyone_persam.datasets import concept_layouts

    written = concept_layouts._write_text

    def full(path: Path, text: str) -> None:
        if path.name == "good.txt":
            raise OSError(28, os.strerror(28))
        written(path, text)

    monkeypatch.setattr(concept_layouts, "_write_text", full)
    with pytest.raises(PersamError, match="out cannot be written") as raised:
        fp.export_dreambooth(album, RUN, tmp_path / "out", layout="kohya")
    assert "good" not in str(raised.value) and "\n" not in str(raised.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["album"]


@pytest.mark.parametrize(
    ("source", "options", "named"),
    [
        ("other", {}, "no run and no field 'other'"),
        ("photo", {}, "holds no masks"),
        (7, {}, "no run and no field 7"),
        (RUN, {"layout": "lycoris"}, "diffusers, kohya, onetrainer, rgba"),
        (RUN, {"crop": "round"}, "none, square, box"),
        (RUN, {"background": "pink"}, "keep, white, gray, blur"),
        (RUN, {"resolution": -1}, "resolution -1"),
        (RUN, {"min_score": 2}, "min_score 2"),
        (RUN, {"min_score": "high"}, "min_score 'high'"),
        (RUN, {"min_score": 0.99}, "the first: low_score.png|the first: sure.png"),
        (RUN, {"only_accepted": "no"}, "only_accepted 'no'"),
        (RUN, {"label": " "}, "label"),
        (RUN, {"caption": ""}, "caption ''"),
        (RUN, {"caption": 7}, "caption 7"),
        (RUN, {"caption": "a {colour} cup"}, "'colour'"),
        (RUN, {"caption": "a {label.__class__}"}, "__class__"),
        (RUN, {"caption": "a {label!r}"}, "'label'"),
        (RUN, {"caption": "a {"}, "not a template"),
        (RUN, {"caption": "a {mine}"}, "'mine'"),
        (RUN, {"caption": "a {}"}, "names nothing|names 'nothing'"),
        (RUN, {"caption": "{empty}"}, "3 photos have nothing in 'empty'"),
        (RUN, {"progress": 3}, "progress 3"),
    ],
)
def test_bad_calls_make_no_folder(shared_album, tmp_path, source, options, named):
    with pytest.raises(PersamError, match=named) as raised:
        fp.export_dreambooth(shared_album, source, tmp_path / "out", **options)
    assert "\n" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_nothing_accepted_says_what_to_do(album, tmp_path):
    set_review(album, RUN, "rejected", ids_of(album, "sure", "good", "low_score"))
    with pytest.raises(PersamError, match="accept masks in review first"):
        fp.export_dreambooth(album, RUN, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_progress_is_told(album, tmp_path):
    told = []
    fp.export_dreambooth(
        album, RUN, tmp_path / "out", progress=lambda done, total: told.append((done, total))
    )
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_hook_that_raises_ends_the_export_with_its_own_error(album, tmp_path):
    def hook(done, total):
        raise InterruptedError("enough")

    with pytest.raises(InterruptedError, match="enough"):
        fp.export_dreambooth(album, RUN, tmp_path / "out", progress=hook)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["album"]


def test_files_that_a_dataset_names_are_never_replaced(album, tmp_path, dataset):
    out = tmp_path / "out"
    fp.export_dreambooth(album, RUN, out)
    again = dataset(fo.Dataset.from_images_dir(str(out / "images")))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(PersamError, match=r"3 files of the earlier export .* belong to a dataset"):
        fp.export_dreambooth(album.limit(1), RUN, out, overwrite=True)
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    again.delete()
    assert fp.export_dreambooth(album.limit(1), RUN, out, overwrite=True) == 1


def test_the_photos_own_folder_is_refused(album, tmp_path):
    photos = Path(album.first().filepath).parent
    before = {path: path.read_bytes() for path in photos.iterdir()}
    for overwrite in (False, True):
        with pytest.raises(PersamError, match=r"not empty|earlier export"):
            fp.export_dreambooth(album, RUN, photos, overwrite=overwrite)
    assert {path: path.read_bytes() for path in photos.iterdir()} == before
