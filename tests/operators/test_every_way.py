"""One run with all that can be asked for: in Python, by a form or an operator, in a shell."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import fiftyone as fo
import pytest
import torch

import fiftyone_persam as fp
from fiftyone_persam.cli.main import main
from fiftyone_persam.curation.review.decisions import set_review
from fiftyone_persam.sam import FEATURE_SOURCES, TimmFeatures
from tests.curation.scenes import scenes

from .context import Form, operator

SEGMENT = "segment_from_reference"
BACKBONE = "untrained/test_resnet"
OPTIONS = {
    "max_instances": 2,
    "candidates": "repeat",
    "several_references": "agreement",
    "location_prior": "parts",
    "positive_points": 2,
    "presence_threshold": 0.25,
}
ARGUMENTS = {"compare_photos": True, "label_type": "both", "features": BACKBONE}


@pytest.fixture
def backbone() -> Iterator[None]:
    def untrained(model: str) -> TimmFeatures:
        torch.manual_seed(0)
        return TimmFeatures(model, pretrained=False)

    FEATURE_SOURCES.register(untrained, name="untrained")
    yield
    FEATURE_SOURCES.unregister("untrained")


@pytest.fixture
def scene(dataset, album: Path, tmp_path: Path) -> fo.Dataset:
    """The cat, the cup and both of them; an earlier run masks the cup, and that is rejected."""
    made = dataset(scenes(album, tmp_path)[:3])
    cat, cup, _ = made.values("id")
    fp.segment(made, cat, "labels", "persam", out_field="earlier", presence_threshold=0)
    set_review(made, "earlier", "rejected", [cup])
    return made


def asked(photos: fo.Dataset, run: str) -> dict[str, Any]:
    """What a run was asked for, as its record says it."""
    record = fp.load_run(photos, run).record
    negatives = {(one.sample_id, one.label_field.rpartition("_")[2]) for one in record.negatives}
    return {
        **asdict(record.parameters),
        "method": record.method,
        "references": [(one.sample_id, one.fingerprint) for one in record.references],
        "negatives": negatives,
    }


def test_each_way_is_the_same_run(backbone: None, scene: fo.Dataset) -> None:
    cat, cup, _ = scene.values("id")
    fp.segment(
        *(scene, cat, "labels", "persam"), out_field="sdk", negatives=cup, **ARGUMENTS, **OPTIONS
    )
    expected = asked(scene, "sdk")
    assert expected["negatives"] == {(cup, "labels"), (cup, "rejected")}
    assert expected["use_rejected"] and expected["features"] == BACKBONE
    assert OPTIONS.items() <= {**expected["options"], **expected}.items()

    filled = {
        **{f"option_{name}": value for name, value in OPTIONS.items()},
        **ARGUMENTS,
        **{"reference": cat, "method": "persam", "more": True, "evaluate": False},
        **{"negatives_selected": True, "use_rejected": True, "out_field": "form"},
    }
    form = Form(scene, SEGMENT, filled, selected=[cat, cup])
    assert set(filled) <= set(form.inputs.type.properties)  # each is a field of the form
    form.execute()
    assert asked(scene, "form") == expected

    operator(SEGMENT)(
        *(scene, cat),
        label_field="labels",
        method="persam",
        out_field="called",
        negatives=cup,
        **ARGUMENTS,
        **OPTIONS,
    )
    assert asked(scene, "called") == expected

    named = [f"{name}={value}" for name, value in OPTIONS.items() if name != "presence_threshold"]
    code = main(
        [
            *("segment", scene.name, "--reference", cat, "--label-field", "labels"),
            *("--method", "persam", "--out-field", "shell", "--negative", cup),
            *("--compare-photos", "--label-type", "both", "--features", BACKBONE),
            *("--presence-threshold", "0.25"),
            *(word for one in named for word in ("--option", one)),
        ]
    )
    assert code == 0 and asked(scene, "shell") == expected
