"""Phrases on the command line."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest

import fiftyone_persam as fp
from fiftyone_persam.cli.main import main
from tests.curation.discs import Make, make_photos, state_of
from tests.small_evf import NAME, registered

DATASET = "discs-of-the-command-line"


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    with registered():
        yield


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 3), name=DATASET)


@pytest.fixture
def segment(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def call(*arguments: Any) -> tuple[int, str, str]:
        code = main(["segment", DATASET, *map(str, arguments)])
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.mark.parametrize(
    ("method", "shown", "kinds"),
    [
        ("evf_sam", False, ["text"]),
        ("evf_sam", True, ["mask", "text"]),
        ("persam", False, ["mask"]),
        ("persam", True, ["mask"]),
    ],
)
def test_a_phrase(
    photos: fo.Dataset, segment: Any, method: str, shown: bool, kinds: list[str]
) -> None:
    given = ["--reference", photos.last().id] if shown else []
    code, out, err = segment("--phrase", "the blue mug", "--method", method, *given)
    assert (code, err) == (0, "") and "the phrase 'the blue mug'" in out
    references = fp.load_run(photos, "persam").record.references
    assert [one.kind for one in references] == kinds
    if shown:
        assert references[0].sample_id == photos.last().id


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--phrase", ""], "the text reference is empty: give a phrase such as 'the blue mug'"),
        (["--phrase", "mug " * 500], "the text reference has 500 words: "),
        (["--phrase", "杯子"], "is in a script that the model does not know: say it in English"),
        (
            ["--phrase", "mug", "--reference-tag", "x"],
            "give one --reference without a label, or no",
        ),
        (["--method", "evf_sam"], "or --phrase WORDS"),
        (["--phrase", "mug", "--method", "evf_sam", "--model", "sam_vit_b"], f"one of .*{NAME}"),
    ],
)
def test_one_line_and_nothing_written(
    photos: fo.Dataset, segment: Any, given: list[str], says: str
) -> None:
    before = state_of(photos)
    code, out, err = segment(*given)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    assert re.search(says, err)
    photos.reload()
    assert state_of(photos) == before


def test_models_and_methods_say_it(capsys: pytest.CaptureFixture[str]) -> None:
    main(["methods"])
    assert "evf_sam: EVF-SAM, finds what a phrase says" in capsys.readouterr().out
    main(["models", "list"])
    lines = capsys.readouterr().out.splitlines()
    (line,) = [one for one in lines if one.startswith("evf_sam ")]
    assert "2,631 MB" in line and line.endswith("pytorch_model.bin (Apache-2.0)")
