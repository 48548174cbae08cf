"""Options that all importers have: judged alike, before anything is read or added."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fiftyone_persam.datasets.importers import IMPORTERS
from fiftyone_persam.errors import PersamError

BAD: dict[str, tuple[dict[str, Any], str]] = {
    "policy": ({"on_error": "ignore"}, "on_error 'ignore' is not known: give 'raise' or 'skip'"),
    "no photo": ({"max_samples": 0}, "max_samples 0 is not a number of photos"),
    "a text": ({"max_samples": "2"}, "max_samples '2' is not a number of photos"),
    "no name": ({"gt_field": "ground truth"}, "gt_field 'ground truth' cannot name a field"),
    "private": ({"gt_field": "_masks"}, "gt_field '_masks' cannot name a field"),
    "FiftyOne's": ({"gt_field": "filepath"}, "gt_field 'filepath' is another field's name"),
    "no folder": ({"dataset_dir": 5}, "dataset_dir 5 is not a folder: pass"),
    "nothing": ({"dataset_dir": None}, "dataset_dir is missing: pass"),
}
OWN = {"perseg": "role", "davis": "sequence", "one_shot": "folds"}


def refuse(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(PersamError, match=message) as caught:
        IMPORTERS[name]().get_dataset_importer_cls()(**options).setup()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", list(IMPORTERS))
@pytest.mark.parametrize(("options", "message"), BAD.values(), ids=BAD)
def test_bad_options(name: str, options: dict[str, Any], message: str, tmp_path: Path) -> None:
    refuse(name, {"dataset_dir": str(tmp_path), **options}, message)


@pytest.mark.parametrize("name", list(IMPORTERS))
def test_masks_never_take_another_field(name: str, tmp_path: Path) -> None:
    options = {"dataset_dir": str(tmp_path), "gt_field": OWN[name]}
    refuse(name, options, f"gt_field '{OWN[name]}' is another field's name")
