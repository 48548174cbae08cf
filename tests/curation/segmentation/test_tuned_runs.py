"""Runs of the methods that tune: recorded with all that they depend on, and resumed to the same."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import fiftyone as fo
import numpy as np
import pytest

import fiftyone_persam as fp
from fiftyone_persam.cli.main import main
from fiftyone_persam.errors import PersamError
from tests.curation.discs import Make, make_photos, tiny_sam

QUICK: dict[str, Any] = {"steps": 3, "views": 1, "presence_threshold": 0}
TUNED = ("mask_weights_3", "prompt_tuning", "adapter", "lora", "ssprompt")


@pytest.fixture
def photos(dataset: Make, tmp_path: Path) -> fo.Dataset:
    return dataset(make_photos(tmp_path, 3))


def masks(photos: fo.Dataset) -> list[np.ndarray]:
    photos.reload()
    return [sample["mine"].get_mask() for sample in photos]


@pytest.mark.parametrize("method", TUNED)
def test_recorded_and_resumed(method: str, photos: fo.Dataset) -> None:
    sam = fp.load_sam(tiny_sam())
    arguments = {"method": method, "model": sam, "out_field": "mine", **QUICK}
    run = fp.segment(photos, photos.first(), seed=7, **arguments)
    assert run.counts["segmented"] == 3 and run.errors == {}
    options = run.record.parameters.options
    assert {"steps": 3, "views": 1, "seed": 7}.items() <= options.items()
    assert "presence_threshold" not in options
    before = masks(photos)
    for sample in photos[1:]:
        sample["mine"] = None
        sample.save()
    assert fp.resume_run(photos, "mine", model=sam).state == "done"
    for mask, expected in zip(masks(photos), before, strict=True):
        np.testing.assert_array_equal(mask, expected)


def test_other_processes_get_the_tuned_part(photos: fo.Dataset) -> None:
    """Fitted objects travel as what ``save`` writes."""
    from fiftyone_persam.engine.job import Job, OutputSettings
    from fiftyone_persam.engine.worker import JobPayload, pack
    from fiftyone_persam.personalize import METHODS

    sam = fp.load_sam(tiny_sam())
    first = photos.first()
    reference = fp.Reference(first.filepath, mask=first.ground_truth.mask > 0)
    fitted = METHODS["lora"](sam, **QUICK).fit(reference)  # type: ignore[call-arg]
    job = Job((), sam, {"": fitted}, OutputSettings(Path()))
    payload = pickle.loads(pack(job, None))
    assert isinstance(payload, JobPayload)
    there = payload.unpack("cpu").predictors[""]
    paths = photos.values("filepath")
    for a, b in zip(fitted.predict(paths), there.predict(paths), strict=True):  # type: ignore[attr-defined]
        np.testing.assert_array_equal(a.mask, b.mask)


def test_options_of_another_method(photos: fo.Dataset) -> None:
    with pytest.raises(PersamError, match=r"'rank' is not an argument .* not an option of adapter"):
        fp.segment(photos, photos.first(), method="adapter", out_field="mine", rank=3)
    assert not photos.has_field("mine")


def test_from_a_shell(photos: fo.Dataset, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods"]) == 0
    listed = capsys.readouterr().out
    assert "lora: LoRA, learns low-rank changes" in listed and "    rank " in listed
    call = ["segment", photos.name, "--reference", photos.first().id, "--method", "ssprompt"]
    call += ["--option", "steps=1", "--option", "learn=gates", "--option", "views=0"]
    assert main([*call, "--out-field", "mine", "--model", "sam_lite"]) == 0
    assert fp.load_run(photos, "mine").record.parameters.options["learn"] == "gates"
