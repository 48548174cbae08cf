"""Albums with accepted masks, and training sets as they were exported."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import fiftyone as fo

from fiftyone_persam.curation.review.decisions import set_review

from ..reviewed_run import RUN, ids_of, reviewed_run


def accepted_album(make: Any, folder: Path, *accepted: str) -> fo.Dataset:
    """Photos of two objects with a run; the masks of some of them are accepted."""
    album = reviewed_run(make, folder)
    album.set_values("object", ["cup", "cup", "cup", "cat", "cat", "cat", "cat"])
    set_review(album, RUN, "accepted", ids_of(album, *accepted))
    return album


def album_with_texts(folder: Path) -> fo.Dataset:
    """The same with texts and tags; the caller deletes it."""

    def make(samples: list[fo.Sample]) -> fo.Dataset:
        made = fo.Dataset()
        made.add_samples(samples)
        return made

    album = accepted_album(make, folder, "sure", "good", "low_score")
    album.set_values("told", ["first,\n told", "second", "third", "", "", "", ""])
    album.set_values("seen", [fo.Classification(label="wood")] * 7)
    album.set_values("tags", [["new", "shiny"]] + [[]] * 6)
    album.add_sample_field("empty", fo.StringField)
    return album


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").open(encoding="utf-8")]


def texts(folder: Path) -> list[str]:
    return [record["text"] for record in records(folder)]


def names(folder: Path) -> list[str]:
    return [Path(record["file_name"]).stem for record in records(folder)]


def manifest(folder: Path) -> dict:
    return json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
